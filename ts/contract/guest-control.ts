// A virtual machine at the inside of an engine: what connects it, what it is told, and what is counted of it.

/** `52:54:00:12:34:56`, the address QEMU gives the first network device unless it is told another. */
export const DEFAULT_GUEST_MAC = '52:54:00:12:34:56';

/** Where the virtual machine finds its gateway. These addresses are of its link alone. */
export const GUEST_GATEWAY = { mac: '02:6f:6d:65:72:74', ipv4: '169.254.1.1', ipv6: 'fe80::1' } as const;

/** What a socket counted by itself, knowing bytes and frames and nothing of what is in them. */
export interface GuestSocketCounts {
  readonly connected: boolean;
  /** That there were so far. */
  readonly connections: number;
  /** Of another user than the one the socket is for. */
  readonly refused: number;
  /** Connections that were closed for a length no frame has. */
  readonly badLengths: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Since the engine that has it was opened. */
  readonly framesRead: number;
  readonly framesWritten: number;
}

/**
 * The unix socket QEMU connects the network device to. It may be given to one engine after the other, and what is connected stays so. Native
 * engine only.
 */
export interface GuestSocket {
  readonly path: string;
  counts(): GuestSocketCounts;
  /** After the engine that has it is closed. */
  close(): void;
}

/** An inside that is a virtual machine's: packets come from its network device, and its gateway is the engine. */
export interface GuestOptions {
  readonly socket: GuestSocket;
  /** This node's inner addresses, which are the machine's; a prefix length counts for nothing. */
  readonly addresses: readonly string[];
  /** Of the machine's network device. */
  readonly mac: string;
  /** Inner MTU, which the machine is told, 1280–65521. */
  readonly mtu: number;
}

export interface GuestControl {
  /** Where the machine asks for names, at most 8 addresses a family. @throws EngineError BAD_ARGUMENT */
  setNameServers(addresses: readonly string[]): void;
}

/** 6 bytes; undefined: it is no address of a station. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  const bytes = Uint8Array.from(text.split(':'), (part) => Number.parseInt(part, 16));
  return ((bytes[0] ?? 1) & 1) === 0 && text.toLowerCase() !== GUEST_GATEWAY.mac ? bytes : undefined;
}

const DROPPED = 'drop_guest_';

/** What was dropped of a machine's frames, by kind, those there were none of left out. */
export function guestDrops(counters: ReadonlyMap<string, number>): Readonly<Record<string, number>> {
  return Object.fromEntries(
    [...counters].flatMap(([name, count]) =>
      name.startsWith(DROPPED) && count > 0 ? [[name.slice(DROPPED.length), count]] : [],
    ),
  );
}

/** Frames that became something, of any kind: as many as the socket read (GuestSocketCounts.framesRead). */
export function guestFramesJudged(counters: ReadonlyMap<string, number>): number {
  let sum = 0;
  for (const [name, count] of counters)
    if (
      ['guest_passed', 'guest_answered', 'guest_noise'].includes(name) ||
      (name.startsWith(DROPPED) && name !== `${DROPPED}not_its_own`)
    )
      sum += count;
  return sum;
}
