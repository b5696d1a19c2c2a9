// Peer record (docs/protocol.md, "Identities and records"): what an identity says of itself.
//
// A signed map (signed-map.ts) of the keys below, labelled "omerta peer record v1".

import type { SocketAddress } from '../../wire/socket-address.js';
import { utf8 } from '../../wire/bytes.js';
import { decodeTenure, encodedTenure, MAX_ROUND, MAX_TENURES, type AddressTenure } from './address-tenure.js';
import { isArrayOf, isBytes, isInteger } from './cbor.js';
import type { Primitives } from '../../contract/primitives.js';
import { MAX_RECORD_NETWORKS } from './message-limits.js';
import { isName } from './network.js';
import { readSignedMap, signMap, type SignedMap } from './signed-map.js';

export const MAX_RECORD_BYTES = 1024;
export const MAX_RECORD_ENDPOINTS = 16;
export const MAX_RECORD_RELAYS = 4;
export const MAX_RECORD_VALIDITY_SECONDS = 7 * 24 * 3600;
const MAX_CAPABILITIES = 16;
const MAX_CAPABILITY_BYTES = 32;
/**
 * Nodes of version 1 read the directory by other fields (`lookup`, `records`), those of version 2 know one overlay
 * address for an identity. They and we turn each other’s registration down as a bad record, which all know to say.
 */
const VERSION = 3;
const SIGNATURE_LABEL = utf8('omerta peer record v1');

const Key = {
  version: 0,
  identity: 1,
  sessionKey: 2,
  networks: 3,
  endpoints: 4,
  relays: 5,
  nat: 6,
  capabilities: 7,
  sequence: 8,
  notAfter: 9,
  name: 10,
  addresses: 11,
} as const;
const KEY_COUNT = Object.keys(Key).length;

export const EndpointKind = { local: 0, observed: 1, configured: 2 } as const;
export type EndpointKind = (typeof EndpointKind)[keyof typeof EndpointKind];

/** RFC 4787 mapping behaviour. */
export const NatBehaviour = {
  unknown: 0,
  none: 1,
  endpointIndependent: 2,
  addressDependent: 3,
  addressAndPortDependent: 4,
} as const;
export type NatBehaviour = (typeof NatBehaviour)[keyof typeof NatBehaviour];

export interface RecordEndpoint {
  readonly kind: EndpointKind;
  /** 0–65535, higher is tried first. */
  readonly priority: number;
  readonly address: SocketAddress;
}

/** Which overlay address a member has in a network, and who vouches for how long it has. */
export interface RecordAddress {
  readonly round: number;
  readonly tenures: readonly AddressTenure[];
}

export interface RecordFields {
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  /** Blinded ids. */
  readonly networks: readonly Uint8Array[];
  readonly endpoints: readonly RecordEndpoint[];
  /** Identities this node is reached through. */
  readonly relays: readonly Uint8Array[];
  readonly nat: NatBehaviour;
  readonly capabilities: readonly string[];
  /** Strictly increasing, below 2^53. */
  readonly sequence: number;
  /** Seconds since 1970. */
  readonly notAfter: number;
  readonly name: string;
  /** One for each of the networks, in their order. */
  readonly addresses: readonly RecordAddress[];
}

export interface PeerRecord extends RecordFields {
  /** The encoded record, signature included. */
  readonly bytes: Uint8Array;
}

/** Why a record is not accepted. */
export const RECORD_REFUSALS = ['malformed', 'bad-signature', 'expired', 'too-long-lived'] as const;
export type RecordRefusal = (typeof RECORD_REFUSALS)[number];

/**
 * Encodes and signs a record.
 * @throws RangeError when a field is outside its limits or the record is longer than 1,024 bytes.
 */
export function signPeerRecord(
  primitives: Primitives,
  identitySeed: Uint8Array,
  fields: RecordFields,
): PeerRecord {
  const bytes = signMap(SIGNATURE_LABEL, mapOf(fields), (message) =>
    primitives.ed25519Sign(identitySeed, message),
  );
  if (parse(bytes) === undefined)
    throw new RangeError(
      `peer record: a field is outside its limits (${bytes.length} bytes of ${MAX_RECORD_BYTES})`,
    );
  return { ...fields, bytes };
}

/** Bytes of a record that says this. */
export function recordSize(fields: RecordFields): number {
  return signMap(SIGNATURE_LABEL, mapOf(fields), () => new Uint8Array(64)).length;
}

function mapOf(fields: RecordFields): Map<number, unknown> {
  return new Map<number, unknown>([
    [Key.version, VERSION],
    [Key.identity, fields.identity],
    [Key.sessionKey, fields.sessionKey],
    [Key.networks, fields.networks],
    [Key.endpoints, fields.endpoints.map((e) => [e.kind, e.priority, e.address.ip, e.address.port])],
    [Key.relays, fields.relays],
    [Key.nat, fields.nat],
    [Key.capabilities, fields.capabilities],
    [Key.sequence, fields.sequence],
    [Key.notAfter, fields.notAfter],
    [Key.name, fields.name],
    [Key.addresses, fields.addresses.map(({ round, tenures }) => [round, tenures.map(encodedTenure)])],
  ]);
}

/** Reads a record and checks its caps, signature and time. @param wallClock milliseconds since 1970. */
export function openPeerRecord(
  primitives: Primitives,
  bytes: Uint8Array,
  wallClock: number,
): PeerRecord | RecordRefusal {
  const parsed = parse(bytes);
  if (parsed === undefined) return 'malformed';
  const { record, signed } = parsed;
  const now = wallClock / 1000;
  if (record.notAfter <= now) return 'expired';
  if (record.notAfter > now + MAX_RECORD_VALIDITY_SECONDS) return 'too-long-lived';
  return signed.isSignedBy(primitives, record.identity) ? record : 'bad-signature';
}

function parse(bytes: Uint8Array): { record: PeerRecord; signed: SignedMap } | undefined {
  const signed = readSignedMap(SIGNATURE_LABEL, bytes, { maxBytes: MAX_RECORD_BYTES, size: KEY_COUNT });
  if (signed === undefined) return undefined;
  const { field } = signed;
  const identity = field(Key.identity);
  const sessionKey = field(Key.sessionKey);
  const networks = field(Key.networks);
  const endpoints = field(Key.endpoints);
  const relays = field(Key.relays);
  const nat = field(Key.nat);
  const capabilities = field(Key.capabilities);
  const sequence = field(Key.sequence);
  const notAfter = field(Key.notAfter);
  const name = field(Key.name);
  const addresses = addressesOf(field(Key.addresses));
  if (
    field(Key.version) !== VERSION ||
    !isBytes(identity, 32) ||
    !isBytes(sessionKey, 32) ||
    !isArrayOf(networks, MAX_RECORD_NETWORKS, isBlindedId) ||
    !isArrayOf(endpoints, MAX_RECORD_ENDPOINTS, isEndpoint) ||
    !isArrayOf(relays, MAX_RECORD_RELAYS, isIdentity) ||
    !isNatBehaviour(nat) ||
    !isArrayOf(capabilities, MAX_CAPABILITIES, isCapability) ||
    !isInteger(sequence, 0, Number.MAX_SAFE_INTEGER) ||
    !isInteger(notAfter, 0, Number.MAX_SAFE_INTEGER) ||
    typeof name !== 'string' ||
    !isName(name) ||
    addresses?.length !== networks.length
  )
    return undefined;
  const record: PeerRecord = {
    identity,
    sessionKey,
    networks,
    endpoints: endpoints.map(([kind, priority, ip, port]) => ({ kind, priority, address: { ip, port } })),
    relays,
    nat,
    capabilities,
    sequence,
    notAfter,
    name,
    addresses,
    bytes,
  };
  return { record, signed };
}

/** Undefined when one of them is not as it should be. */
function addressesOf(value: unknown): RecordAddress[] | undefined {
  if (!Array.isArray(value) || value.length > MAX_RECORD_NETWORKS) return undefined;
  const addresses = value.map(addressOf).filter((address) => address !== undefined);
  return addresses.length === value.length ? addresses : undefined;
}

function addressOf(value: unknown): RecordAddress | undefined {
  if (!Array.isArray(value) || value.length !== 2) return undefined;
  const [round, encoded] = value as unknown[];
  if (!isInteger(round, 0, MAX_ROUND) || !Array.isArray(encoded) || encoded.length > MAX_TENURES)
    return undefined;
  const tenures = encoded.map(decodeTenure).filter((tenure) => tenure !== undefined);
  return tenures.length === encoded.length ? { round, tenures } : undefined;
}

const isBlindedId = (value: unknown): value is Uint8Array => isBytes(value, 16);
const isIdentity = (value: unknown): value is Uint8Array => isBytes(value, 32);
const isNatBehaviour = (value: unknown): value is NatBehaviour => isInteger(value, 0, 4);
const isCapability = (value: unknown): value is string =>
  typeof value === 'string' && utf8(value).length <= MAX_CAPABILITY_BYTES;
const isEndpoint = (value: unknown): value is [EndpointKind, number, Uint8Array, number] =>
  Array.isArray(value) &&
  value.length === 4 &&
  isInteger(value[0], 0, 2) &&
  isInteger(value[1], 0, 0xffff) &&
  isBytes(value[2], 16) &&
  isInteger(value[3], 1, 0xffff);
