// The cross-platform configuration protocol of userspace WireGuard (wireguard.com/xplatform), as
// text: requests in, changes or an errno out; state in, an answer out. Nothing here acts on anything.
//
//   get=1\n\n                                 → private_key=… listen_port=… … errno=0\n\n
//   set=1\n key=value\n … \n                  → errno=0\n\n, or errno=-22\n\n and nothing was changed
//
// Device keys come first; `public_key` begins a peer, and what follows is about that peer.

import type { SessionKey } from '../engine/engine.js';
import {
  formatIp,
  formatSocketAddress,
  isIPv4,
  parseIp,
  parseSocketAddress,
  type SocketAddress,
} from '../wire/socket-address.js';

/** Linux errno values the protocol answers with, negated on the wire. */
export const Errno = {
  /** A key or a value that is not known or not right. */
  EINVAL: 22,
  /** More peers than the device holds. */
  ENOSPC: 28,
  /** Not of the form `key=value`, or not a request at all. */
  EPROTO: 71,
  EADDRINUSE: 98,
  /** The system refused; nothing more is known. */
  EIO: 5,
} as const;

/** Why a request was refused; nothing of it was carried out. */
export class UapiError extends Error {
  constructor(
    readonly errno: (typeof Errno)[keyof typeof Errno],
    message: string,
  ) {
    super(message);
    this.name = 'UapiError';
  }
}

export interface AllowedIpChange {
  /** In the form allowedIp() gives it. */
  readonly prefix: string;
  readonly remove: boolean;
}

export interface PeerChange {
  readonly publicKey: SessionKey;
  readonly remove: boolean;
  /** Change the peer if there is one, but do not make one. */
  readonly updateOnly: boolean;
  /** Undefined leaves what is; null removes it. */
  readonly presharedKey: Uint8Array | null | undefined;
  readonly endpoint: SocketAddress | undefined;
  /** Seconds, 0 = off. */
  readonly persistentKeepalive: number | undefined;
  /** Forget all prefixes before `allowedIps`, which are in the order they were given in. */
  readonly replaceAllowedIps: boolean;
  readonly allowedIps: readonly AllowedIpChange[];
}

export interface DeviceChange {
  /** Undefined leaves what is; null removes it. */
  readonly privateKey: Uint8Array | null | undefined;
  /** 0: one the kernel chooses. */
  readonly listenPort: number | undefined;
  /** 0: none. */
  readonly fwmark: number | undefined;
  readonly replacePeers: boolean;
  readonly peers: readonly PeerChange[];
}

export type UapiRequest = { readonly type: 'get' } | { readonly type: 'set'; readonly change: DeviceChange };

export interface PeerState {
  readonly publicKey: SessionKey;
  readonly presharedKey: Uint8Array | undefined;
  readonly endpoint: SocketAddress | undefined;
  /** Milliseconds since 1970; undefined = never. */
  readonly lastHandshake: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly persistentKeepalive: number;
  readonly allowedIps: Iterable<string>;
}

export interface DeviceState {
  readonly privateKey: Uint8Array | undefined;
  readonly listenPort: number;
  readonly fwmark: number;
  readonly peers: Iterable<PeerState>;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
interface PeerDraft extends Writable<PeerChange> {
  allowedIps: AllowedIpChange[];
}
interface DeviceDraft extends Writable<DeviceChange> {
  peers: PeerDraft[];
}

function invalid(key: string, expected: string): UapiError {
  return new UapiError(Errno.EINVAL, `${key}: ${expected}`);
}

function decimal(key: string, value: string, most: number): number {
  const number = /^\d{1,10}$/.test(value) ? Number(value) : NaN;
  if (!(number <= most)) throw invalid(key, `expected a whole number from 0 to ${most}`);
  return number;
}

/** Flags can only be raised. */
function flag(key: string, value: string): true {
  if (value !== 'true') throw invalid(key, 'expected true');
  return true;
}

function keyText(key: string, value: string): SessionKey {
  if (!/^[0-9a-fA-F]{64}$/.test(value)) throw invalid(key, 'expected 64 hexadecimal digits');
  return value.toLowerCase();
}

/** A secret key; all zero stands for none. */
function secretKey(key: string, value: string): Uint8Array | null {
  const bytes = Buffer.from(keyText(key, value), 'hex');
  return bytes.every((byte) => byte === 0) ? null : bytes;
}

/**
 * A prefix in the one form it has here: bits beyond its length cleared, RFC 5952. Undefined when
 * `text` is none; the length may not be left out.
 */
export function allowedIp(text: string): string | undefined {
  const match = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text);
  const address = match?.[1] ?? '';
  const given = parseIp(address);
  const length = Number(match?.[2]);
  const v6 = address.includes(':');
  if (given === undefined || !(length <= (v6 ? 128 : 32))) return undefined;
  const kept = v6 ? length : 96 + length;
  const ip = given.map((byte, index) => byte & (0xff00 >> Math.min(Math.max(kept - index * 8, 0), 8)));
  // The canonical 16 bytes of an address do not tell ::ffff:1.2.3.4 from 1.2.3.4; a prefix does.
  return `${v6 && isIPv4(ip) ? '::ffff:' : ''}${formatIp(ip)}/${length}`;
}

function allowedIpChange(value: string): AllowedIpChange {
  const remove = value.startsWith('-');
  const prefix = allowedIp(remove ? value.slice(1) : value);
  if (prefix === undefined) throw invalid('allowed_ip', 'expected ADDRESS/LENGTH, or -ADDRESS/LENGTH');
  return { prefix, remove };
}

function newPeer(publicKey: SessionKey): PeerDraft {
  return {
    publicKey,
    remove: false,
    updateOnly: false,
    presharedKey: undefined,
    endpoint: undefined,
    persistentKeepalive: undefined,
    replaceAllowedIps: false,
    allowedIps: [],
  };
}

function readDeviceLine(device: DeviceDraft, key: string, value: string): void {
  switch (key) {
    case 'private_key':
      device.privateKey = secretKey(key, value);
      return;
    case 'listen_port':
      device.listenPort = decimal(key, value, 0xffff);
      return;
    case 'fwmark':
      device.fwmark = decimal(key, value, 0xffffffff);
      return;
    case 'replace_peers':
      device.replacePeers = flag(key, value);
      return;
    default:
      throw invalid(key, 'not a key of the device');
  }
}

function readPeerLine(peer: PeerDraft, key: string, value: string): void {
  switch (key) {
    case 'remove':
      peer.remove = flag(key, value);
      return;
    case 'update_only':
      peer.updateOnly = flag(key, value);
      return;
    case 'preshared_key':
      peer.presharedKey = secretKey(key, value);
      return;
    case 'endpoint':
      peer.endpoint = parseSocketAddress(value);
      if (peer.endpoint === undefined) throw invalid(key, 'expected ADDRESS:PORT or [ADDRESS]:PORT');
      return;
    case 'persistent_keepalive_interval':
      peer.persistentKeepalive = decimal(key, value, 0xffff);
      return;
    case 'replace_allowed_ips':
      peer.replaceAllowedIps = flag(key, value);
      peer.allowedIps = [];
      return;
    case 'allowed_ip':
      peer.allowedIps.push(allowedIpChange(value));
      return;
    case 'protocol_version':
      if (value !== '1') throw invalid(key, 'expected 1');
      return;
    default:
      throw invalid(key, 'not a key of a peer');
  }
}

/**
 * Reads the lines of one request, without the empty line that ends it.
 * @throws UapiError EPROTO when a line is no `key=value` or the request is none, EINVAL otherwise
 */
export function readRequest(lines: readonly string[]): UapiRequest {
  const [operation, ...rest] = lines;
  if (operation === 'get=1') {
    if (rest.length > 0) throw new UapiError(Errno.EINVAL, 'get: nothing may follow');
    return { type: 'get' };
  }
  if (operation !== 'set=1') throw new UapiError(Errno.EPROTO, 'expected get=1 or set=1');
  const change: DeviceDraft = {
    privateKey: undefined,
    listenPort: undefined,
    fwmark: undefined,
    replacePeers: false,
    peers: [],
  };
  let peer: PeerDraft | undefined;
  for (const line of rest) {
    const at = line.indexOf('=');
    if (at < 0) throw new UapiError(Errno.EPROTO, 'expected lines of the form key=value');
    const key = line.slice(0, at);
    const value = line.slice(at + 1);
    if (key === 'public_key') {
      peer = newPeer(keyText(key, value));
      change.peers.push(peer);
    } else if (peer === undefined) readDeviceLine(change, key, value);
    else readPeerLine(peer, key, value);
  }
  return { type: 'set', change };
}

/** The answer to a `set`, or the end of any answer. `errno` 0 is success. */
export function formatErrno(errno: number): string {
  return `errno=${errno === 0 ? 0 : -errno}\n\n`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** The answer to a `get`. */
export function formatState(device: DeviceState): string {
  const lines: string[] = [];
  if (device.privateKey !== undefined) lines.push(`private_key=${hex(device.privateKey)}`);
  if (device.listenPort !== 0) lines.push(`listen_port=${device.listenPort}`);
  if (device.fwmark !== 0) lines.push(`fwmark=${device.fwmark}`);
  for (const peer of device.peers) {
    lines.push(
      `public_key=${peer.publicKey}`,
      `preshared_key=${peer.presharedKey === undefined ? '0'.repeat(64) : hex(peer.presharedKey)}`,
      'protocol_version=1',
    );
    if (peer.endpoint !== undefined) lines.push(`endpoint=${formatSocketAddress(peer.endpoint)}`);
    const handshake = peer.lastHandshake ?? 0;
    lines.push(
      `last_handshake_time_sec=${Math.floor(handshake / 1000)}`,
      `last_handshake_time_nsec=${Math.floor(handshake % 1000) * 1e6}`,
      `tx_bytes=${peer.txBytes}`,
      `rx_bytes=${peer.rxBytes}`,
      `persistent_keepalive_interval=${peer.persistentKeepalive}`,
    );
    for (const prefix of peer.allowedIps) lines.push(`allowed_ip=${prefix}`);
  }
  return `${lines.map((line) => `${line}\n`).join('')}${formatErrno(0)}`;
}

/** More than 65,000 prefixes of each of 50 peers need. */
const MAX_REQUEST_CHARACTERS = 128 << 20;

/** Cuts a stream into requests: the lines up to each empty line. */
export class RequestReader {
  #rest = '';
  #lines: string[] = [];
  #size = 0;

  /** @throws UapiError EPROTO when a request is larger than any can be. */
  push(text: string): string[][] {
    this.#size += text.length;
    if (this.#size > MAX_REQUEST_CHARACTERS) throw new UapiError(Errno.EPROTO, 'request too large');
    const requests: string[][] = [];
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line !== '') {
        this.#lines.push(line);
        continue;
      }
      requests.push(this.#lines);
      this.#lines = [];
      this.#size = 0;
    }
    return requests;
  }
}
