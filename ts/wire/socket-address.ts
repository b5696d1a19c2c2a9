// A UDP address in canonical form: IPv4 is held v4-mapped (::ffff:a.b.c.d) in the same 16 bytes as
// IPv6, so that one comparison serves every encoding somebody may write an address in.

/** An IP address and a UDP port. `ip` is always 16 bytes, network order; `port` is 0–65535. */
export interface SocketAddress {
  readonly ip: Uint8Array;
  readonly port: number;
}

const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/** True when the 16 bytes hold a v4-mapped IPv4 address. */
export function isIPv4(ip: Uint8Array): boolean {
  return MAPPED_PREFIX.every((byte, index) => ip[index] === byte);
}

function parseIPv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  const ip = new Uint8Array(16);
  ip.set(MAPPED_PREFIX);
  for (let i = 0; i < 4; i++) {
    const part = parts[i] ?? '';
    // No leading zeros: some parsers read them as octal, and two readings of one address are a hole.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    ip[12 + i] = Number(part);
  }
  return ip;
}

function parseIPv6(text: string): Uint8Array | undefined {
  if (text.includes('%')) return undefined; // zone ids name an interface, not an address
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const groupsOf = (half: string): number[] | undefined => {
    if (half === '') return [];
    const groups: number[] = [];
    const parts = half.split(':');
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i] ?? '';
      if (part.includes('.')) {
        const v4 = i === parts.length - 1 ? parseIPv4(part) : undefined;
        if (v4 === undefined) return undefined;
        groups.push(((v4[12] ?? 0) << 8) | (v4[13] ?? 0), ((v4[14] ?? 0) << 8) | (v4[15] ?? 0));
      } else {
        if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined;
        groups.push(parseInt(part, 16));
      }
    }
    return groups;
  };
  const head = groupsOf(halves[0] ?? '');
  const tail = halves.length === 2 ? groupsOf(halves[1] ?? '') : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const groups = [...head, ...new Array<number>(halves.length === 2 ? missing : 0).fill(0), ...tail];
  const ip = new Uint8Array(16);
  groups.forEach((group, index) => {
    ip[index * 2] = group >> 8;
    ip[index * 2 + 1] = group & 0xff;
  });
  return ip;
}

/** Parses an IPv4 or IPv6 address (no port, no brackets) into 16 canonical bytes. */
export function parseIp(text: string): Uint8Array | undefined {
  return text.includes(':') ? parseIPv6(text) : parseIPv4(text);
}

/** The text form of 16 canonical bytes: dotted IPv4, or IPv6 as RFC 5952 writes it. */
export function formatIp(ip: Uint8Array): string {
  if (isIPv4(ip)) return `${ip[12]}.${ip[13]}.${ip[14]}.${ip[15]}`;
  const groups: number[] = [];
  for (let i = 0; i < 8; i++) groups.push(((ip[i * 2] ?? 0) << 8) | (ip[i * 2 + 1] ?? 0));
  let bestStart = -1;
  let bestLength = 1; // RFC 5952 4.2.2: a single zero group is not shortened
  for (let i = 0; i < 8;) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) {
      bestStart = i;
      bestLength = end - i;
    }
    i = Math.max(end, i + 1);
  }
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (bestStart < 0) return text(groups);
  return `${text(groups.slice(0, bestStart))}::${text(groups.slice(bestStart + bestLength))}`;
}

/** Parses `1.2.3.4:5` or `[2001:db8::1]:5`; undefined when it is neither. Port 0 is refused. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const address = parseListenAddress(text);
  return address?.port === 0 ? undefined : address;
}

/** The same of an address to listen at: with port 0 the kernel chooses one. */
export function parseListenAddress(text: string): SocketAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const bracketed = match[1];
  const ip = bracketed !== undefined ? parseIPv6(bracketed) : parseIPv4(match[2] ?? '');
  const port = Number(match[3]);
  if (ip === undefined || port > 65535) return undefined;
  return { ip, port };
}

/** The text form that parseSocketAddress reads. */
export function formatSocketAddress(address: SocketAddress): string {
  const ip = formatIp(address.ip);
  return ip.includes(':') ? `[${ip}]:${address.port}` : `${ip}:${address.port}`;
}

/** Whether two addresses are the same 16 bytes and port. */
export function sameSocketAddress(a: SocketAddress, b: SocketAddress): boolean {
  return a.port === b.port && a.ip.every((byte, index) => byte === b.ip[index]);
}
