// Standing policy (docs/protocol.md, "Standing policies"): which callers an identity accepts at one
// relay without being asked for each circuit.
//
// A signed map (signed-map.ts) of the keys below, labelled "omerta standing policy v1".

import { MAX_POLICY_IDENTITIES, MAX_POLICY_NETWORKS } from './message-limits.js';
import { sameBytes, utf8 } from '../../wire/bytes.js';
import { isArrayOf, isBytes, isInteger } from './cbor.js';
import type { Primitives } from '../../contract/primitives.js';
import { readSignedMap, signMap, type SignedMap } from './signed-map.js';

export const MAX_POLICY_BYTES = 896;
export const MAX_POLICY_VALIDITY_SECONDS = 7 * 24 * 3600;
/** Legs the callee keeps prepared at a relay; each circuit takes one, and its answer brings another. */
export const PREPARED_LEGS = 8;
const VERSION = 1;
const SIGNATURE_LABEL = utf8('omerta standing policy v1');

const Key = {
  version: 0,
  identity: 1,
  relay: 2,
  serial: 3,
  notAfter: 4,
  identities: 5,
  networks: 6,
} as const;
const KEY_COUNT = Object.keys(Key).length;

/** Callers whose circuits are set up without asking the callee. */
export interface AcceptedCallers {
  readonly identities: readonly Uint8Array[];
  /** Blinded ids: members of these, in circuits of these. */
  readonly networks: readonly Uint8Array[];
}

export interface PolicyFields extends AcceptedCallers {
  /** Who accepts, and who has signed it. */
  readonly identity: Uint8Array;
  /** Identity of the one relay it is for. */
  readonly relay: Uint8Array;
  /** Strictly increasing, below 2^53: a newer policy replaces an older one. */
  readonly serial: number;
  /** Seconds since 1970. */
  readonly notAfter: number;
}

export interface StandingPolicy extends PolicyFields {
  /** The encoded policy, signature included. */
  readonly bytes: Uint8Array;
}

/** @throws RangeError when a field is outside its limits. */
export function signStandingPolicy(
  primitives: Primitives,
  identitySeed: Uint8Array,
  fields: PolicyFields,
): StandingPolicy {
  const bytes = signMap(
    SIGNATURE_LABEL,
    new Map<number, unknown>([
      [Key.version, VERSION],
      [Key.identity, fields.identity],
      [Key.relay, fields.relay],
      [Key.serial, fields.serial],
      [Key.notAfter, fields.notAfter],
      [Key.identities, fields.identities],
      [Key.networks, fields.networks],
    ]),
    (message) => primitives.ed25519Sign(identitySeed, message),
  );
  if (read(bytes) === undefined)
    throw new RangeError(
      `standing policy: at most ${MAX_POLICY_IDENTITIES} identities and ${MAX_POLICY_NETWORKS} networks are possible`,
    );
  return { ...fields, bytes };
}

/** Why a policy is not accepted. */
export type PolicyRefusal = 'malformed' | 'bad-signature' | 'another-identity' | 'another-relay' | 'expired';

/**
 * Reads a policy that `identity` has for the relay `relay`; the signature last, what is cheap before.
 * @param wallClock milliseconds since 1970.
 */
export function openStandingPolicy(
  primitives: Primitives,
  bytes: Uint8Array,
  { identity, relay }: Pick<PolicyFields, 'identity' | 'relay'>,
  wallClock: number,
): StandingPolicy | PolicyRefusal {
  const policy = read(bytes);
  if (policy === undefined) return 'malformed';
  const { signed, fields } = policy;
  if (!sameBytes(fields.identity, identity)) return 'another-identity';
  if (!sameBytes(fields.relay, relay)) return 'another-relay';
  const seconds = fields.notAfter - wallClock / 1000;
  if (seconds <= 0 || seconds > MAX_POLICY_VALIDITY_SECONDS) return 'expired';
  return signed.isSignedBy(primitives, fields.identity) ? { ...fields, bytes } : 'bad-signature';
}

/** Whether a caller is accepted in a circuit of this network (blinded id). */
export function accepts(
  { identities, networks }: AcceptedCallers,
  caller: Uint8Array,
  network: Uint8Array,
): boolean {
  return (
    identities.some((identity) => sameBytes(identity, caller)) ||
    networks.some((accepted) => sameBytes(accepted, network))
  );
}

function read(bytes: Uint8Array): { signed: SignedMap; fields: PolicyFields } | undefined {
  const signed = readSignedMap(SIGNATURE_LABEL, bytes, { maxBytes: MAX_POLICY_BYTES, size: KEY_COUNT });
  if (signed === undefined) return undefined;
  const { field } = signed;
  const identity = field(Key.identity);
  const relay = field(Key.relay);
  const serial = field(Key.serial);
  const notAfter = field(Key.notAfter);
  const identities = field(Key.identities);
  const networks = field(Key.networks);
  if (
    field(Key.version) !== VERSION ||
    !isBytes(identity, 32) ||
    !isBytes(relay, 32) ||
    !isInteger(serial, 0, Number.MAX_SAFE_INTEGER) ||
    !isInteger(notAfter, 0, Number.MAX_SAFE_INTEGER) ||
    !isArrayOf(identities, MAX_POLICY_IDENTITIES, (value) => isBytes(value, 32)) ||
    !isArrayOf(networks, MAX_POLICY_NETWORKS, (value) => isBytes(value, 16))
  )
    return undefined;
  return { signed, fields: { identity, relay, serial, notAfter, identities, networks } };
}
