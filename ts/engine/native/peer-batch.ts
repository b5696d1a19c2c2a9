// Peers in one buffer, as they cross into the native addon and back; native/addon/peer_calls.cc draws the
// layout.

import {
  EngineError,
  type PeerChange,
  type PeerEndpoint,
  type PeerState,
  type SessionKey,
} from '../../contract/engine.js';
import { PREFIX_BYTES, prefixTexts } from '../../wire/prefix-batch.js';
import type { SocketAddress } from '../../wire/socket-address.js';

const CHANGE_BYTES = 100;
const STATE_BYTES = 120;
const Flag = {
  remove: 1,
  updateOnly: 2,
  presharedKey: 4,
  address: 8,
  leg: 16,
  persistentKeepalive: 32,
  replaceAllowedIps: 64,
  redirect: 128,
  transit: 256,
} as const;

/** The three bits above Flag.transit. */
const TRANSIT = { any: 0, none: 1, exit: 2, lan: 3, 'exit-and-lan': 4 } as const;

export function keyBytes(key: SessionKey): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(key)) {
    throw new EngineError('BAD_ARGUMENT', 'sessionKey: expected 64 lower-case hex digits');
  }
  return Buffer.from(key, 'hex');
}

/** An address as the addon reads and writes it: ip 16 ‖ port u16 little-endian. */
export function packAddress(address: SocketAddress): Uint8Array {
  const bytes = new Uint8Array(18);
  bytes.set(address.ip);
  bytes[16] = address.port & 0xff;
  bytes[17] = address.port >> 8;
  return bytes;
}

function packChange(change: PeerChange, bytes: Uint8Array, view: DataView, at: number): void {
  const { presharedKey, endpoint, persistentKeepalive } = change;
  let flags = 0;
  if (change.remove) flags |= Flag.remove;
  if (change.updateOnly) flags |= Flag.updateOnly;
  if (change.redirect) flags |= Flag.redirect;
  if (change.transit !== undefined) flags |= Flag.transit | (TRANSIT[change.transit] << 9);
  if (change.replaceAllowedIps) flags |= Flag.replaceAllowedIps;
  bytes.set(keyBytes(change.sessionKey), at);
  if (presharedKey !== undefined) {
    if (presharedKey !== null && presharedKey.length !== 32)
      throw new EngineError('BAD_ARGUMENT', 'presharedKey: expected 32 bytes');
    flags |= Flag.presharedKey;
    if (presharedKey !== null) bytes.set(presharedKey, at + 36);
  }
  if (endpoint !== undefined && 'address' in endpoint) {
    flags |= Flag.address;
    bytes.set(packAddress(endpoint.address), at + 68);
  } else if (endpoint !== undefined) {
    flags |= Flag.leg;
    view.setUint32(at + 88, endpoint.leg, true);
  }
  if (persistentKeepalive !== undefined) {
    flags |= Flag.persistentKeepalive;
    view.setUint32(at + 92, persistentKeepalive, true);
  }
  view.setUint32(at + 32, flags, true);
  view.setUint32(at + 96, change.allowedIps.count, true);
  bytes.set(change.allowedIps.bytes, at + CHANGE_BYTES);
}

/** @throws EngineError BAD_ARGUMENT */
export function packPeerChanges(changes: readonly PeerChange[]): Uint8Array {
  const size = changes.reduce((sum, { allowedIps }) => sum + CHANGE_BYTES + allowedIps.bytes.length, 0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const change of changes) {
    packChange(change, bytes, view, at);
    at += CHANGE_BYTES + change.allowedIps.bytes.length;
  }
  return bytes;
}

function endpointAt(bytes: Uint8Array, view: DataView, at: number): PeerEndpoint | undefined {
  const port = view.getUint16(at + 16, true);
  const leg = view.getUint32(at + 20, true);
  if (leg !== 0) return { leg };
  return port === 0 ? undefined : { address: { ip: bytes.slice(at, at + 16), port } };
}

/** Reads what the addon exported, a peer at a time. */
export function* unpackPeerStates(bytes: Uint8Array): Generator<PeerState> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.length;) {
    const prefixes = at + STATE_BYTES;
    const end = prefixes + view.getUint32(at + 116, true) * PREFIX_BYTES;
    const presharedKey = bytes.subarray(at + 32, at + 64);
    yield {
      sessionKey: Buffer.from(bytes.buffer, bytes.byteOffset + at, 32).toString('hex'),
      presharedKey: presharedKey.some((byte) => byte !== 0) ? presharedKey : undefined,
      endpoint: endpointAt(bytes, view, at + 64),
      lastHandshake: view.getBigUint64(at + 88, true),
      rxBytes: Number(view.getBigUint64(at + 96, true)),
      txBytes: Number(view.getBigUint64(at + 104, true)),
      persistentKeepalive: view.getUint32(at + 112, true),
      allowedIps: prefixTexts(bytes.subarray(prefixes, end)),
    };
    at = end;
  }
}
