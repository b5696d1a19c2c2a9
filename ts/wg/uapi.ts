// The cross-platform configuration protocol of userspace WireGuard (wireguard.com/xplatform), as
// text: requests in, changes or an errno out; state in, an answer out. Nothing here acts on anything.
//
//   get=1\n\n                                 → private_key=… listen_port=… … errno=0\n\n
//   set=1\n key=value\n … \n                  → errno=0\n\n, or errno=-22\n\n and nothing was changed
//
// Device keys come first; `public_key` begins a peer, and what follows is about that peer.

import type { PeerChange, PeerState, SessionKey } from '../contract/engine.js';
import { PrefixBatch } from '../wire/prefix-batch.js';
import { parsePrefix } from '../wire/prefix.js';
import { formatSocketAddress, parseSocketAddress } from '../wire/socket-address.js';

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

export interface DeviceState {
  readonly privateKey: Uint8Array | undefined;
  readonly listenPort: number;
  readonly fwmark: number;
  readonly peers: Iterable<PeerState>;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type PeerDraft = Writable<PeerChange>;
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

function addAllowedIp(allowedIps: PrefixBatch, value: string): void {
  const remove = value.startsWith('-');
  const prefix = parsePrefix(remove ? value.slice(1) : value);
  if (prefix === undefined) throw invalid('allowed_ip', 'expected ADDRESS/LENGTH, or -ADDRESS/LENGTH');
  allowedIps.add(prefix, remove);
}

function newPeer(sessionKey: SessionKey): PeerDraft {
  return {
    sessionKey,
    remove: false,
    updateOnly: false,
    presharedKey: undefined,
    endpoint: undefined,
    redirect: true, // as in the kernel's WireGuard
    persistentKeepalive: undefined,
    replaceAllowedIps: false,
    allowedIps: new PrefixBatch(),
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
    case 'endpoint': {
      const address = parseSocketAddress(value);
      if (address === undefined) throw invalid(key, 'expected ADDRESS:PORT or [ADDRESS]:PORT');
      peer.endpoint = { address };
      return;
    }
    case 'persistent_keepalive_interval':
      peer.persistentKeepalive = decimal(key, value, 0xffff);
      return;
    case 'replace_allowed_ips':
      peer.replaceAllowedIps = flag(key, value);
      peer.allowedIps.clear();
      return;
    case 'allowed_ip':
      addAllowedIp(peer.allowedIps, value);
      return;
    case 'protocol_version':
      if (value !== '1') throw invalid(key, 'expected 1');
      return;
    default:
      throw invalid(key, 'not a key of a peer');
  }
}

/** The answer to a `set`, or the end of any answer. `errno` 0 is success. */
export function formatErrno(errno: number): string {
  return `errno=${errno === 0 ? 0 : -errno}\n\n`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

const NANOSECONDS = 1_000_000_000n;

function formatPeer(peer: PeerState): string {
  const { endpoint, lastHandshake } = peer;
  const lines = [
    `public_key=${peer.sessionKey}`,
    `preshared_key=${peer.presharedKey === undefined ? '0'.repeat(64) : hex(peer.presharedKey)}`,
    'protocol_version=1',
    ...(endpoint !== undefined && 'address' in endpoint
      ? [`endpoint=${formatSocketAddress(endpoint.address)}`]
      : []),
    `last_handshake_time_sec=${lastHandshake / NANOSECONDS}`,
    `last_handshake_time_nsec=${lastHandshake % NANOSECONDS}`,
    `tx_bytes=${peer.txBytes}`,
    `rx_bytes=${peer.rxBytes}`,
    `persistent_keepalive_interval=${peer.persistentKeepalive}`,
    '',
  ];
  return lines.join('\n');
}

/** Parts of this many characters are what an answer is cut into. */
const PART_CHARACTERS = 1 << 16;

function* statePieces(device: DeviceState): Generator<string> {
  if (device.privateKey !== undefined) yield `private_key=${hex(device.privateKey)}\n`;
  if (device.listenPort !== 0) yield `listen_port=${device.listenPort}\n`;
  if (device.fwmark !== 0) yield `fwmark=${device.fwmark}\n`;
  for (const peer of device.peers) {
    yield formatPeer(peer);
    for (const prefix of peer.allowedIps) yield `allowed_ip=${prefix}\n`;
  }
  yield formatErrno(0);
}

/** The answer to a `get`, in parts: with many peers it is large. */
export function* formatState(device: DeviceState): Generator<string> {
  let part = '';
  for (const piece of statePieces(device)) {
    part += piece;
    if (part.length < PART_CHARACTERS) continue;
    yield part;
    part = '';
  }
  yield part;
}

/** More than 65,000 prefixes of each of 50 peers need. */
const MAX_REQUEST_CHARACTERS = 128 << 20;
/** The longest line there is has 78. What waits for its end is read again with each part that comes. */
const MAX_LINE_CHARACTERS = 1024;

/** One request, line by line. The first line that is not right decides; what follows it is skipped. */
class RequestDraft {
  #operation: string | undefined;
  #error: UapiError | undefined;
  #peer: PeerDraft | undefined;
  readonly #change: DeviceDraft = {
    privateKey: undefined,
    listenPort: undefined,
    fwmark: undefined,
    replacePeers: false,
    peers: [],
  };

  add(line: string): void {
    if (this.#error !== undefined) return;
    try {
      this.#read(line);
    } catch (error) {
      if (!(error instanceof UapiError)) throw error;
      this.#error = error;
    }
  }

  finish(): UapiRequest | UapiError {
    if (this.#error !== undefined) return this.#error;
    if (this.#operation === undefined) return new UapiError(Errno.EPROTO, 'expected get=1 or set=1');
    return this.#operation === 'get=1' ? { type: 'get' } : { type: 'set', change: this.#change };
  }

  #read(line: string): void {
    if (this.#operation === undefined) {
      if (line !== 'get=1' && line !== 'set=1') throw new UapiError(Errno.EPROTO, 'expected get=1 or set=1');
      this.#operation = line;
      return;
    }
    if (this.#operation === 'get=1') throw new UapiError(Errno.EINVAL, 'get: nothing may follow');
    const at = line.indexOf('=');
    if (at < 0) throw new UapiError(Errno.EPROTO, 'expected lines of the form key=value');
    const key = line.slice(0, at);
    const value = line.slice(at + 1);
    if (key === 'public_key') {
      this.#peer = newPeer(keyText(key, value));
      this.#change.peers.push(this.#peer);
    } else if (this.#peer === undefined) readDeviceLine(this.#change, key, value);
    else readPeerLine(this.#peer, key, value);
  }
}

/** Reads requests out of a stream: the lines up to each empty one. */
export class RequestReader {
  #rest = '';
  #draft = new RequestDraft();
  #size = 0;

  /**
   * The requests that end in this text, or why one is refused: EPROTO when it is none or a line is not
   * `key=value`, EINVAL otherwise. @throws UapiError EPROTO when one, or the line that has not ended, is
   * larger than any can be.
   */
  push(text: string): (UapiRequest | UapiError)[] {
    this.#size += text.length;
    if (this.#size > MAX_REQUEST_CHARACTERS) throw new UapiError(Errno.EPROTO, 'request too large');
    const requests: (UapiRequest | UapiError)[] = [];
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    if (this.#rest.length > MAX_LINE_CHARACTERS) throw new UapiError(Errno.EPROTO, 'line too long');
    for (const line of lines) {
      if (line !== '') {
        this.#draft.add(line);
        continue;
      }
      requests.push(this.#draft.finish());
      this.#draft = new RequestDraft();
      this.#size = 0;
    }
    return requests;
  }
}
