// SOCKS 5 as it is on the wire (RFC 1928, RFC 1929): from bytes to a request, without a socket.

import { createHash, timingSafeEqual } from 'node:crypto';
import { formatIp, isIPv4, parseIp } from '../wire/socket-address.js';

const VERSION = 5;
const PASSWORD_VERSION = 1;
/** RFC 1928, section 3. */
const METHOD = { none: 0, password: 2, unacceptable: 0xff } as const;
const COMMAND = { connect: 1, udpAssociate: 3 } as const;
const ADDRESS = { ipv4: 1, name: 3, ipv6: 4 } as const;

/** RFC 1928, section 6. */
export const SOCKS_REPLY = {
  succeeded: 0,
  failure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  commandNotSupported: 7,
  addressNotSupported: 8,
} as const;

/** Longest of what is still being read, all at once: a greeting, a user and a password, a request by name. */
const MAX_HELD_BYTES = 2 + 255 + (3 + 255 + 255) + (7 + 255);

/** A host as a client names it: an address, or a name to be resolved. */
export interface SocksTarget {
  /** Address text, or a name without a final dot. */
  readonly host: string;
  readonly isName: boolean;
  readonly port: number;
}

export interface SocksPassword {
  readonly user: string;
  readonly password: string;
}

export type SocksStep =
  /** Goes to the client; more is expected of it. */
  | { readonly type: 'reply'; readonly bytes: Uint8Array }
  /** Goes to the client, and the connection ends. */
  | { readonly type: 'refused'; readonly bytes: Uint8Array; readonly isWrongPassword?: true }
  | {
      readonly type: 'request';
      readonly command: 'connect' | 'udp-associate';
      readonly target: SocksTarget;
      /** What the client has sent after it. */
      readonly rest: Uint8Array;
    };

/** Names of hosts (RFC 1123), and the underscore that is in use. */
const LABEL = '[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?';
const NAME = new RegExp(`^${LABEL}(\\.${LABEL})*\\.?$`);

/** An address, a port and where they end; 'more' = they are not all there; undefined = nothing of this kind. */
function readTarget(
  bytes: Uint8Array,
  at: number,
): { target: SocksTarget; end: number } | 'more' | undefined {
  const [kind, length] = [bytes[at], bytes[at + 1]];
  if (kind === undefined) return 'more';
  if (kind !== ADDRESS.ipv4 && kind !== ADDRESS.ipv6 && kind !== ADDRESS.name) return undefined;
  if (kind === ADDRESS.name && length === undefined) return 'more';
  const begin = kind === ADDRESS.name ? at + 2 : at + 1;
  const end = begin + (kind === ADDRESS.ipv4 ? 4 : kind === ADDRESS.ipv6 ? 16 : (length ?? 0)) + 2;
  if (bytes.length < end) return 'more';
  const host = bytes.subarray(begin, end - 2);
  const port = ((bytes[end - 2] ?? 0) << 8) | (bytes[end - 1] ?? 0);
  if (kind !== ADDRESS.name) {
    const ip = new Uint8Array(16);
    if (kind === ADDRESS.ipv4) ip.set([0xff, 0xff], 10);
    ip.set(host, kind === ADDRESS.ipv4 ? 12 : 0);
    return { target: { host: formatIp(ip), isName: false, port }, end };
  }
  const text = new TextDecoder('latin1').decode(host);
  const ip = parseIp(text);
  if (ip !== undefined) return { target: { host: formatIp(ip), isName: false, port }, end };
  if (!NAME.test(text) || text.length > 253) return undefined;
  return { target: { host: text.replace(/\.$/, ''), isName: true, port }, end };
}

function addressBytes(address: string, port: number): Uint8Array {
  const ip = parseIp(address) ?? new Uint8Array(16);
  const [kind, bytes] = isIPv4(ip) ? [ADDRESS.ipv4, ip.subarray(12)] : [ADDRESS.ipv6, ip];
  return Uint8Array.of(kind, ...bytes, port >> 8, port & 0xff);
}

/** The answer to a request. `address`: where the server is bound. */
export function socksReply(
  code: (typeof SOCKS_REPLY)[keyof typeof SOCKS_REPLY],
  address = '0.0.0.0',
  port = 0,
): Uint8Array {
  return Uint8Array.of(VERSION, code, 0, ...addressBytes(address, port));
}

/** Reads what a client sends until it has asked for something. */
export class SocksHandshake {
  #held: Uint8Array = new Uint8Array();
  #state: 'greeting' | 'password' | 'request' | 'done' = 'greeting';

  /** @param password what has to be given; undefined = nothing */
  constructor(private readonly password: SocksPassword | undefined) {}

  /** Takes bytes in; none come after a request or a refusal. */
  take(bytes: Uint8Array): SocksStep[] {
    const steps: SocksStep[] = [];
    this.#held = Uint8Array.of(...this.#held, ...bytes.subarray(0, MAX_HELD_BYTES));
    const beyond = bytes.subarray(MAX_HELD_BYTES);
    for (;;) {
      const before = this.#state;
      const step = this.#next();
      if (step === undefined) return steps;
      if (step.type === 'request' && beyond.length > 0)
        steps.push({ ...step, rest: Uint8Array.of(...step.rest, ...beyond) });
      else steps.push(step);
      if (step.type !== 'reply' || before === this.#state) {
        this.#state = 'done';
        this.#held = new Uint8Array();
        return steps;
      }
    }
  }

  #next(): SocksStep | undefined {
    switch (this.#state) {
      case 'greeting':
        return this.#greeting();
      case 'password':
        return this.#password();
      case 'request':
        return this.#request();
      case 'done':
        return undefined;
    }
  }

  #advance(used: number, state: 'password' | 'request'): void {
    this.#held = this.#held.subarray(used);
    this.#state = state;
  }

  #greeting(): SocksStep | undefined {
    const [version, count] = this.#held;
    if (version === undefined) return undefined;
    // SOCKS 4 or HTTP: nothing that could be answered so that it is understood.
    if (version !== VERSION) return { type: 'refused', bytes: new Uint8Array() };
    if (count === undefined || this.#held.length < 2 + count) return undefined;
    const method = this.password === undefined ? METHOD.none : METHOD.password;
    if (!this.#held.subarray(2, 2 + count).includes(method))
      return { type: 'refused', bytes: Uint8Array.of(VERSION, METHOD.unacceptable) };
    this.#advance(2 + count, method === METHOD.none ? 'request' : 'password');
    return { type: 'reply', bytes: Uint8Array.of(VERSION, method) };
  }

  #password(): SocksStep | undefined {
    const [version, userLength = 0] = this.#held;
    const passwordLength = this.#held[2 + userLength];
    if (version !== undefined && version !== PASSWORD_VERSION)
      return { type: 'refused', bytes: Uint8Array.of(PASSWORD_VERSION, 1) };
    const end = 3 + userLength + (passwordLength ?? 0);
    if (passwordLength === undefined || this.#held.length < end) return undefined;
    const user = this.#held.subarray(2, 2 + userLength);
    const password = this.#held.subarray(3 + userLength, end);
    const isRight =
      Number(isSame(user, this.password?.user ?? '')) &
      Number(isSame(password, this.password?.password ?? ''));
    if (isRight !== 1)
      return { type: 'refused', bytes: Uint8Array.of(PASSWORD_VERSION, 1), isWrongPassword: true };
    this.#advance(end, 'request');
    return { type: 'reply', bytes: Uint8Array.of(PASSWORD_VERSION, 0) };
  }

  #request(): SocksStep | undefined {
    const [version, command] = this.#held;
    if (version !== undefined && version !== VERSION)
      return { type: 'refused', bytes: socksReply(SOCKS_REPLY.failure) };
    const read = readTarget(this.#held, 3);
    if (read === 'more') return undefined;
    if (read === undefined) return { type: 'refused', bytes: socksReply(SOCKS_REPLY.addressNotSupported) };
    if (command !== COMMAND.connect && command !== COMMAND.udpAssociate)
      return { type: 'refused', bytes: socksReply(SOCKS_REPLY.commandNotSupported) };
    return {
      type: 'request',
      command: command === COMMAND.connect ? 'connect' : 'udp-associate',
      target: read.target,
      rest: this.#held.slice(read.end),
    };
  }
}

/** In a time that does not depend on where they differ. */
function isSame(given: Uint8Array, expected: string): boolean {
  const digest = (bytes: Uint8Array | string): Buffer => createHash('sha256').update(bytes).digest();
  return timingSafeEqual(digest(given), digest(expected));
}

/** A datagram of a client (RFC 1928, section 7); undefined = none, or a fragment, which nobody sends. */
export function decodeSocksDatagram(
  bytes: Uint8Array,
): { readonly target: SocksTarget; readonly data: Uint8Array } | undefined {
  if (bytes.length < 4 || bytes[2] !== 0) return undefined;
  const read = readTarget(bytes, 3);
  if (read === 'more' || read === undefined) return undefined;
  return { target: read.target, data: bytes.subarray(read.end) };
}

/** A datagram for a client, with whom it is of. */
export function encodeSocksDatagram(address: string, port: number, data: Uint8Array): Uint8Array {
  const header = addressBytes(address, port);
  const bytes = new Uint8Array(3 + header.length + data.length);
  bytes.set(header, 3);
  bytes.set(data, 3 + header.length);
  return bytes;
}
