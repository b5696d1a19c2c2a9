// Where a peer is reached, and what that is compared and authenticated by.

import { sameSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { PeerEndpoint } from '../../contract/engine.js';
import type { PathEnds } from '../../contract/path-control.js';
import { localOf, sourceAt, type LocalAddress } from './local-address.js';

/** With the address of this host the peer was last heard on, which it is answered from (sticky source). */
export type Endpoint =
  | {
      readonly address: SocketAddress;
      readonly local?: LocalAddress | undefined;
      /** Nothing leaves from elsewhere than `local`. */
      readonly fixed?: boolean;
    }
  | { readonly leg: number };

/** A configured endpoint: routing chooses the source, unless the peer was heard from there. */
export function configuredEndpoint(told: PeerEndpoint, known: Endpoint | undefined): Endpoint {
  if ('leg' in told) return told;
  return known !== undefined && sameEndpoint(told, known) ? known : { address: told.address };
}

/** As the control plane is told it. */
export function toldEndpoint(endpoint: Endpoint): PeerEndpoint {
  return 'leg' in endpoint ? endpoint : { address: endpoint.address };
}

/** The ends of a path that an endpoint of this engine names. */
export function endsOf(endpoint: Endpoint): PathEnds {
  if ('leg' in endpoint) return { remote: endpoint, local: undefined };
  return {
    remote: { address: endpoint.address },
    local: endpoint.local === undefined ? undefined : sourceAt(endpoint.local),
  };
}

/** The endpoint by which a datagram goes by these ends; it leaves from nowhere else. */
export function endpointAt({ remote, local }: PathEnds): Endpoint {
  if ('leg' in remote) return remote;
  return local === undefined
    ? { address: remote.address }
    : { address: remote.address, local: localOf(local), fixed: true };
}

/** Whether it is the same place, whichever address of this host it is reached from. */
export function sameEndpoint(a: PeerEndpoint, b: PeerEndpoint): boolean {
  if ('leg' in a) return 'leg' in b && a.leg === b.leg;
  return 'address' in b && sameSocketAddress(a.address, b.address);
}

/**
 * What cookies are bound to and limits of strangers are counted for: the sender's address; of what came by a
 * leg, the leg, because all who are behind a relay share its address. No datagram comes from the address that
 * stands for a leg: 0100::/8 is reserved (RFC 4291), and there is no port 0.
 */
export function sourceOf(endpoint: PeerEndpoint): SocketAddress {
  if ('address' in endpoint) return endpoint.address;
  const ip = new Uint8Array(16);
  ip[0] = 0x01;
  new DataView(ip.buffer).setUint32(4, endpoint.leg, true);
  return { ip, port: 0 };
}

/** Canonical bytes of an address: ip and port (18 bytes). */
export function addressBytes({ ip, port }: SocketAddress): Uint8Array {
  const bytes = new Uint8Array(18);
  bytes.set(ip);
  new DataView(bytes.buffer).setUint16(16, port);
  return bytes;
}
