// What a relay keeps across a restart: registered clients, their standing policies, and standing
// circuits, one entry each.
// Times are wall clock, in seconds: the monotonic clock does not survive.

import type { LegKey } from '../../wire/leg.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { decodeCbor, encodeCbor, isArrayOf, isBytes, isInteger } from '../protocol/cbor.js';
import { MAX_RECORD_BYTES } from '../protocol/peer-record.js';
import { MAX_CIRCUIT_RELAYS, MAX_RECORD_NETWORKS } from '../protocol/message-limits.js';
import { MAX_POLICY_BYTES, PREPARED_LEGS } from '../protocol/standing-policy.js';

export const CLIENT_PREFIX = 'relay/client/';
export const CIRCUIT_PREFIX = 'relay/circuit/';
export const POLICY_PREFIX = 'relay/policy/';
const MAX_CIRCUIT_BYTES = 768;
const MAX_CLIENT_BYTES = MAX_RECORD_BYTES + 256;
const MAX_STORED_POLICY_BYTES = MAX_POLICY_BYTES + 256;

export interface StoredClient {
  readonly address: SocketAddress;
  readonly record: Uint8Array;
  /** The client's boot id. */
  readonly boot: Uint8Array;
  readonly expires: number;
  /** Blinded ids of the networks its membership of is proven. */
  readonly proven: readonly Uint8Array[];
}

export interface StoredCircuit {
  readonly id: Uint8Array;
  readonly network: Uint8Array;
  /** Session keys. */
  readonly caller: Uint8Array;
  readonly callee: Uint8Array;
  /** What the ends and the relay (towards each of them) receive on. */
  readonly legCaller: LegKey;
  readonly legCallee: LegKey;
  readonly fromCaller: LegKey;
  readonly fromCallee: LegKey;
  /** Identities of the circuit's ends, and of the relays before this one. */
  readonly callerIdentity: Uint8Array;
  readonly calleeIdentity: Uint8Array;
  readonly path: readonly Uint8Array[];
  /** Whether `callee` is a relay that carries the circuit on. */
  readonly onward: boolean;
  /** Serial of the standing policy it was set up under; undefined = the callee was asked. */
  readonly policy: number | undefined;
  readonly opened: number;
  readonly expires: number;
}

export function encodeStoredClient({ address, record, boot, expires, proven }: StoredClient): Uint8Array {
  return encodeCbor([address.ip, address.port, record, boot, expires, proven]);
}

/** Undefined when the store holds something else. */
export function decodeStoredClient(bytes: Uint8Array): StoredClient | undefined {
  const value = decodeCbor(bytes, MAX_CLIENT_BYTES);
  if (!Array.isArray(value) || value.length !== 6) return undefined;
  const [ip, port, record, boot, expires, proven] = value as unknown[];
  if (!isBytes(ip, 16) || !isInteger(port, 1, 0xffff) || !(record instanceof Uint8Array)) return undefined;
  if (!isBytes(boot, 8) || !isInteger(expires, 0, Number.MAX_SAFE_INTEGER)) return undefined;
  if (!isArrayOf(proven, MAX_RECORD_NETWORKS, (id) => isBytes(id, 16))) return undefined;
  return { address: { ip, port }, record, boot, expires, proven };
}

const encodeLeg = ({ id, key, epoch }: LegKey): unknown[] => [id, key, epoch];

function decodeLeg(value: unknown): LegKey | undefined {
  if (!Array.isArray(value) || value.length !== 3) return undefined;
  const [id, key, epoch] = value as unknown[];
  if (!isInteger(id, 1, 0xffffffff) || !isBytes(key, 16) || !isInteger(epoch, 0, 15)) return undefined;
  return { id, key, epoch };
}

export function encodeStoredCircuit(circuit: StoredCircuit): Uint8Array {
  return encodeCbor([
    circuit.id,
    circuit.network,
    circuit.caller,
    circuit.callee,
    encodeLeg(circuit.legCaller),
    encodeLeg(circuit.legCallee),
    encodeLeg(circuit.fromCaller),
    encodeLeg(circuit.fromCallee),
    circuit.callerIdentity,
    circuit.calleeIdentity,
    circuit.path,
    circuit.onward,
    circuit.policy ?? false,
    circuit.opened,
    circuit.expires,
  ]);
}

/** Undefined when the store holds something else. */
export function decodeStoredCircuit(bytes: Uint8Array): StoredCircuit | undefined {
  const value = decodeCbor(bytes, MAX_CIRCUIT_BYTES);
  if (!Array.isArray(value) || value.length !== 15) return undefined;
  const [
    id,
    network,
    caller,
    callee,
    a,
    b,
    c,
    d,
    callerIdentity,
    calleeIdentity,
    path,
    onward,
    policy,
    opened,
    expires,
  ] = value as unknown[];
  const legCaller = decodeLeg(a);
  const legCallee = decodeLeg(b);
  const fromCaller = decodeLeg(c);
  const fromCallee = decodeLeg(d);
  if (!isBytes(id, 16) || !isBytes(network, 16) || !isBytes(caller, 32) || !isBytes(callee, 32))
    return undefined;
  if (!isBytes(callerIdentity, 32) || !isBytes(calleeIdentity, 32) || typeof onward !== 'boolean')
    return undefined;
  if (!isArrayOf(path, MAX_CIRCUIT_RELAYS - 1, (relay) => isBytes(relay, 32))) return undefined;
  if (policy !== false && !isInteger(policy, 0, Number.MAX_SAFE_INTEGER)) return undefined;
  if (!isInteger(opened, 0, Number.MAX_SAFE_INTEGER) || !isInteger(expires, 0, Number.MAX_SAFE_INTEGER))
    return undefined;
  if (!legCaller || !legCallee || !fromCaller || !fromCallee) return undefined;
  const ends = { caller, callee, callerIdentity, calleeIdentity };
  return {
    id,
    network,
    ...ends,
    legCaller,
    legCallee,
    fromCaller,
    fromCallee,
    path,
    onward,
    policy: policy === false ? undefined : policy,
    opened,
    expires,
  };
}

/** A client's standing policy, under its session key, and the legs not used yet. */
export interface StoredPolicy {
  readonly policy: Uint8Array;
  readonly legs: readonly LegKey[];
}

export function encodeStoredPolicy({ policy, legs }: StoredPolicy): Uint8Array {
  return encodeCbor([policy, legs.map(encodeLeg)]);
}

/** Undefined when the store holds something else. */
export function decodeStoredPolicy(bytes: Uint8Array): StoredPolicy | undefined {
  const value = decodeCbor(bytes, MAX_STORED_POLICY_BYTES);
  if (!Array.isArray(value) || value.length !== 2) return undefined;
  const [policy, encoded] = value as unknown[];
  if (!(policy instanceof Uint8Array) || !Array.isArray(encoded) || encoded.length > PREPARED_LEGS)
    return undefined;
  const legs = encoded.map(decodeLeg).filter((leg) => leg !== undefined);
  return legs.length === encoded.length ? { policy, legs } : undefined;
}
