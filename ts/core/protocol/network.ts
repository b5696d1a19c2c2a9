// A network: the members that may reach each other. Its id and key are known to members only; relays see a blinded id.

import { formatIp, type SocketAddress } from '../../wire/socket-address.js';
import { concat, utf8 } from '../../wire/bytes.js';
import type { Primitives } from '../../contract/primitives.js';

/** A node that admits strangers: where it is and the keys it is known by. */
export interface Bootstrap {
  /** Ed25519 public key, 32 bytes. */
  readonly identity: Uint8Array;
  /** X25519 public key, 32 bytes. */
  readonly sessionKey: Uint8Array;
  /** 1–8 addresses, tried in turn. */
  readonly addresses: readonly SocketAddress[];
}

export interface Network {
  /** 16 random bytes; secret. */
  readonly id: Uint8Array;
  /** 1–63 of `[a-z0-9-]`. */
  readonly name: string;
  /** 32 random bytes; secret. */
  readonly key: Uint8Array;
  /** At most 8. */
  readonly bootstraps: readonly Bootstrap[];
}

/** Addresses of a member inside the network, text form without prefix length. */
export interface OverlayAddresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Prefix lengths of the ranges overlay addresses are from: what a TUN interface is given. */
export const OVERLAY_PREFIX_IPV4 = 10;
export const OVERLAY_PREFIX_IPV6 = 48;

export const MAX_NAME_LENGTH = 63;

/** The name rule that networks and machines share. */
export function isName(text: string): boolean {
  return /^[a-z0-9-]{1,63}$/.test(text);
}

/** What members know and nobody else. */
export type NetworkSecrets = Pick<Network, 'id' | 'key'>;

/** What relays know a network by: 16 bytes, of the key its members can sign by. */
export function blindedNetworkId(primitives: Primitives, network: NetworkSecrets): Uint8Array {
  return blindedIdOf(primitives, membershipKey(primitives, network).publicKey);
}

/** The blinded id of the network whose members sign by this public key. */
export function blindedIdOf(primitives: Primitives, publicKey: Uint8Array): Uint8Array {
  return primitives.sha256(utf8('omerta blinded network v2'), publicKey).slice(0, 16);
}

/** The Ed25519 key that whoever knows the network key can sign by. */
export function membershipKey(
  primitives: Primitives,
  { id, key }: NetworkSecrets,
): { readonly seed: Uint8Array; readonly publicKey: Uint8Array } {
  const seed = primitives.hkdfSha256(concat(key, id), 'omerta membership key v1', 32);
  return { seed, publicKey: primitives.ed25519PublicKey(seed) };
}

/** The ends of a session in which membership is proven to a relay that does not know the network key. */
export interface MembershipSession {
  readonly relay: Uint8Array;
  readonly relaySessionKey: Uint8Array;
  /** The relay's, new at each of its starts. */
  readonly boot: Uint8Array;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
}

/** What a member signs by the membership key: worth something in this session only. */
export function membershipMessage(session: MembershipSession): Uint8Array {
  const { relay, relaySessionKey, boot, identity, sessionKey } = session;
  return concat(utf8('omerta membership v2'), relay, relaySessionKey, boot, identity, sessionKey);
}

/** The WireGuard preshared key between members: 32 bytes. */
export function networkPresharedKey(primitives: Primitives, network: Network): Uint8Array {
  return primitives.hkdfSha256(network.key, 'omerta preshared key v1', 32);
}

/**
 * The preshared key of two nodes that share several networks: both must know the key of each.
 * @param keys networkPresharedKey of each shared network, at least one, ordered by blinded id.
 */
export function combinePresharedKeys(primitives: Primitives, keys: readonly Uint8Array[]): Uint8Array {
  const [only] = keys;
  if (only !== undefined && keys.length === 1) return only;
  return primitives.hkdfSha256(concat(...keys), 'omerta preshared keys v1', 32);
}

/**
 * What a member tells its bootstrap, whose session has no preshared key, to prove that it knows the
 * network key: 32 bytes, bound to both session keys and to the direction.
 */
export function membershipProof(
  primitives: Primitives,
  network: Network,
  proverSessionKey: Uint8Array,
  verifierSessionKey: Uint8Array,
): Uint8Array {
  const key = primitives.hkdfSha256(network.key, 'omerta membership v1', 32);
  return primitives.hmacSha256(key, proverSessionKey, verifierSessionKey);
}

/**
 * The overlay addresses of `identity` in the network with this (unblinded) id.
 * @param round 0–255: of hashing for another IPv4 address, where somebody has had the one before for longer.
 */
export function overlayAddresses(
  primitives: Primitives,
  networkId: Uint8Array,
  identity: Uint8Array,
  round = 0,
): OverlayAddresses {
  const label = utf8('omerta overlay v1');
  const ofNetwork = primitives.sha256(label, networkId);
  const ofMember = primitives.sha256(label, networkId, identity);
  const ofRound =
    round === 0 ? ofMember : primitives.sha256(label, networkId, identity, Uint8Array.of(round));
  const ipv6 = concat(
    Uint8Array.of(0xfd),
    ofNetwork.subarray(0, 5),
    new Uint8Array(2),
    ofMember.subarray(0, 8),
  );
  const [, b = 0, c = 0, d = 0] = ofRound.subarray(8, 12);
  // 100.64.0.0/10 leaves 22 bits: the low six of the second byte and all below.
  return { ipv4: `100.${64 | (b & 0x3f)}.${c}.${d}`, ipv6: formatIp(ipv6) };
}
