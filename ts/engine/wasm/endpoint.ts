// What a peer's endpoint is compared and authenticated by.

import { sameSocketAddress } from '../../wire/socket-address.js';
import type { PeerEndpoint } from '../../contract/engine.js';

export function sameEndpoint(a: PeerEndpoint, b: PeerEndpoint): boolean {
  if ('leg' in a) return 'leg' in b && a.leg === b.leg;
  return 'address' in b && sameSocketAddress(a.address, b.address);
}

/** Canonical bytes of an endpoint: ip and port (18 bytes, what a cookie is bound to), or leg id (4). */
export function endpointBytes(endpoint: PeerEndpoint): Uint8Array {
  const bytes = new Uint8Array('leg' in endpoint ? 4 : 18);
  const view = new DataView(bytes.buffer);
  if ('leg' in endpoint) {
    view.setUint32(0, endpoint.leg);
  } else {
    bytes.set(endpoint.address.ip);
    view.setUint16(16, endpoint.address.port);
  }
  return bytes;
}
