// What a node is told to be, and what of it cannot be.

import { MAX_RECORD_NETWORKS } from '../protocol/message-limits.js';
import { MAX_SLOTS } from '../../wire/leg-slots.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import type { LocalInterface } from '../path/local-interface.js';
import type { PathPolicy } from '../path/path-policy.js';
import { isZero, utf8 } from '../../wire/bytes.js';
import type { StockPeer } from '../members/member-table.js';
import type { ShapingPolicy } from '../members/shaping-policy.js';
import { checkConsent, type Consent } from '../path/own-policy.js';
import { isName, type Network } from '../protocol/network.js';
import { checkRelayPolicy, type RelayPolicy } from '../relay/relay-policy.js';

/** Observed addresses of up to eight bootstraps fit beside them in a record. */
const MAX_ENDPOINTS = 8;
const MAX_CAPABILITIES = 16;
const MAX_CAPABILITY_BYTES = 32;
export interface MeshNodeConfig {
  /** Ed25519 seed, 32 bytes. */
  readonly identitySeed: Uint8Array;
  /** X25519 private key, 32 bytes; the engine is given the same. */
  readonly sessionPrivateKey: Uint8Array;
  /** The machine's name inside its networks: 1–63 of `[a-z0-9-]`. */
  readonly name: string;
  /** Own addresses to put in the record, at most 8. A relay refuses them as a next hop. */
  readonly endpoints: readonly SocketAddress[];
  /** At most 8. */
  readonly networks: readonly Network[];
  /** Undefined = neither bootstrap nor relay. */
  readonly relay: RelayPolicy | undefined;
  /** At most 16 texts of at most 32 bytes. */
  readonly capabilities: readonly string[];
  /** Legs the engine has room for, 1 to 2^28. */
  readonly maxLegs: number;
  /** Whether relays are asked to relay stock WireGuard clients to this node. */
  readonly wireguardRelay?: boolean | undefined;
  /** WireGuard peers the operator configured: no member gets their keys or addresses. */
  readonly stockPeers?: readonly StockPeer[] | undefined;
  /** Whether members are reached directly where that is possible: only with an engine that keeps paths. */
  readonly directPaths?: boolean | undefined;
  /**
   * Inner MTU of the tunnel: paths are probed for whether they take it (RFC 8899). Undefined = they are not: there is no
   * tunnel, or the engine cannot keep a datagram whole.
   */
  readonly innerMtu?: number | undefined;
  /** Which ways to members are used; default: every one. */
  readonly pathPolicy?: PathPolicy | undefined;
  /** How packets to members are shaped; default: they are not. */
  readonly shaping?: ShapingPolicy | undefined;
  /** What is sent from; default: routing chooses. */
  readonly interfaces?: readonly LocalInterface[] | undefined;
  /** Whom circuits need not be asked for of; undefined = for each one this node is asked. */
  readonly consent?: Consent | undefined;
}

/** @throws RangeError that names the field and what it may be. */
export function checkConfig(config: MeshNodeConfig): void {
  checkLength('identitySeed', config.identitySeed, 32);
  checkLength('sessionPrivateKey', config.sessionPrivateKey, 32);
  if (!isName(config.name))
    throw new RangeError(`name: "${config.name}" given, must be 1–63 of a–z, 0–9 and -`);
  checkEndpoints(config.endpoints);
  if (config.networks.length > MAX_RECORD_NETWORKS)
    throw new RangeError(
      `networks: ${config.networks.length} given, at most ${MAX_RECORD_NETWORKS} are possible`,
    );
  config.networks.forEach(checkNetwork);
  if (config.relay !== undefined) checkRelayPolicy(config.relay);
  if (config.consent !== undefined) checkConsent(config.consent);
  if (!Number.isInteger(config.maxLegs) || config.maxLegs < 1 || config.maxLegs > MAX_SLOTS)
    throw new RangeError(`maxLegs: ${config.maxLegs} given, must be an integer from 1 to ${MAX_SLOTS}`);
  if (config.capabilities.length > MAX_CAPABILITIES)
    throw new RangeError(
      `capabilities: ${config.capabilities.length} given, at most ${MAX_CAPABILITIES} are possible`,
    );
  for (const capability of config.capabilities)
    if (utf8(capability).length > MAX_CAPABILITY_BYTES)
      throw new RangeError(`capabilities: "${capability}" is longer than ${MAX_CAPABILITY_BYTES} bytes`);
}

/** @throws RangeError that names the field and what it may be. */
export function checkEndpoints(addresses: readonly SocketAddress[]): void {
  if (addresses.length > MAX_ENDPOINTS)
    throw new RangeError(`endpoints: ${addresses.length} given, at most ${MAX_ENDPOINTS} are possible`);
  for (const { ip, port } of addresses)
    if (ip.length !== 16 || isZero(ip) || port < 1 || port > 0xffff)
      throw new RangeError('endpoints: not an address and port that others could reach');
}

/** @throws RangeError that names the field and what it may be. */
export function checkNetwork(network: Network): void {
  checkLength('network id', network.id, 16);
  checkLength('network key', network.key, 32);
  if (!isName(network.name))
    throw new RangeError(`network name: "${network.name}" given, must be 1–63 of a–z, 0–9 and -`);
  for (const { identity, sessionKey, addresses } of network.bootstraps) {
    checkLength('bootstrap identity', identity, 32);
    checkLength('bootstrap session key', sessionKey, 32);
    if (addresses.length === 0)
      throw new RangeError('bootstrap addresses: none given, at least one is needed');
  }
}

function checkLength(field: string, bytes: Uint8Array, length: number): void {
  if (bytes.length !== length)
    throw new RangeError(`${field}: ${bytes.length} bytes given, must be ${length}`);
}
