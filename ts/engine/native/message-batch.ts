// What is sent by the control plane, and whom stock WireGuard clients are relayed to, in one buffer each, as they cross
// into the native addon; native/addon/message_calls.cc and wireguard_relay_calls.cc draw the layouts.

import { EngineError, type SessionKey, type WireguardBinding } from '../../contract/engine.js';
import { viewOf } from '../../wire/bytes.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { keyBytes, packAddress } from './peer-batch.js';

export function packFrames(
  frames: readonly { readonly to: SocketAddress; readonly frame: Uint8Array }[],
): Uint8Array {
  return Buffer.concat(
    frames.flatMap(({ to, frame }) => {
      const header = new Uint8Array(24);
      header.set(packAddress(to));
      viewOf(header).setUint32(20, frame.length, true);
      return [header, frame];
    }),
  );
}

export function packControl(
  messages: readonly { readonly peer: SessionKey; readonly payload: Uint8Array }[],
): Uint8Array {
  return Buffer.concat(
    messages.flatMap(({ peer, payload }) => {
      const header = new Uint8Array(36);
      header.set(keyBytes(peer));
      viewOf(header).setUint32(32, payload.length, true);
      return [header, payload];
    }),
  );
}

/** @throws EngineError BAD_ARGUMENT */
export function packBindings(bindings: readonly WireguardBinding[]): Uint8Array {
  return Buffer.concat(
    bindings.map(({ publicKey, address, charging }) => {
      if (publicKey.length !== 32)
        throw new EngineError('BAD_ARGUMENT', `publicKey: ${publicKey.length} bytes given, must be 32`);
      const entry = new Uint8Array(60);
      entry.set(publicKey);
      entry.set(packAddress(address), 32);
      const view = viewOf(entry);
      view.setUint16(50, charging.network, true);
      view.setUint32(52, charging.identity, true);
      view.setUint16(56, charging.limits, true);
      return entry;
    }),
  );
}
