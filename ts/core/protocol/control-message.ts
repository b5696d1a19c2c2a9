// Control messages: `[type, request, fields]` in deterministic CBOR inside a control frame of kind
// message. The table below is the whole vocabulary; a message with a field too many, too few or out
// of its limits is no message.

import type { LegKey } from '../../wire/leg.js';
import { concat, viewOf } from '../../wire/bytes.js';
import { decodeTenure, encodedTenure, MAX_ROUND, type AddressTenure } from './address-tenure.js';
import { decodeCbor, encodeCbor, isArrayOf, isBytes, isInteger } from './cbor.js';
import { CandidateKind, MAX_CONTACT_CANDIDATES, type ContactCandidate } from './contact-candidate.js';
import { ControlKind, encodeControlFrame, MAX_CONTROL_BODY } from './control-frame.js';
import {
  MAX_CIRCUIT_RELAYS,
  MAX_DRAIN_SECONDS,
  MAX_EXIT_HOPS,
  MAX_LAN_PREFIXES,
  MAX_RECORD_NETWORKS,
  MAX_SEARCH_PORTS,
} from './message-limits.js';
import { MAX_RECORD_BYTES } from './peer-record.js';
import { REFUSALS, type Refusal } from './refusal.js';
import { MAX_POLICY_BYTES, PREPARED_LEGS } from './standing-policy.js';
import { MAX_RECEIPT_BYTES } from './usage-receipt.js';
import { isIPv4, type SocketAddress } from '../../wire/socket-address.js';
import type { Prefix } from '../../wire/prefix.js';

interface Field<T> {
  encode(value: T): unknown;
  /** Undefined when the value is outside the field's limits. */
  decode(value: unknown): T | undefined;
}

const same = <T>(accepts: (value: unknown) => value is T): Field<T> => ({
  encode: (value) => value,
  decode: (value) => (accepts(value) ? value : undefined),
});
const bytes = (length: number): Field<Uint8Array> =>
  same((value): value is Uint8Array => isBytes(value, length));
const integer = (min: number, max: number): Field<number> =>
  same((value): value is number => isInteger(value, min, max));
const isRecord = (value: unknown): value is Uint8Array =>
  value instanceof Uint8Array && value.length > 0 && value.length <= MAX_RECORD_BYTES;

const record: Field<Uint8Array> = same(isRecord);
const receipt: Field<Uint8Array> = same(
  (value): value is Uint8Array =>
    value instanceof Uint8Array && value.length > 0 && value.length <= MAX_RECEIPT_BYTES,
);
const policy: Field<Uint8Array> = same(
  (value): value is Uint8Array =>
    value instanceof Uint8Array && value.length > 0 && value.length <= MAX_POLICY_BYTES,
);
/** A page of records; its size is bounded by the body's. */
const records: Field<readonly Uint8Array[]> = same(
  (value): value is readonly Uint8Array[] =>
    Array.isArray(value) && value.length <= 16 && value.every(isRecord),
);
/** Identities that are no longer in a directory. */
const identities: Field<readonly Uint8Array[]> = same((value): value is readonly Uint8Array[] =>
  isArrayOf(value, 16, (identity) => isBytes(identity, 32)),
);
const flag: Field<boolean> = same((value): value is boolean => typeof value === 'boolean');
const refusal: Field<Refusal> = same((value): value is Refusal =>
  REFUSALS.some((reason) => reason === value),
);
/** Identities of the relays a circuit has come by. */
const path: Field<readonly Uint8Array[]> = same(
  (value): value is readonly Uint8Array[] =>
    isArrayOf(value, MAX_CIRCUIT_RELAYS - 1, (relay) => isBytes(relay, 32)) && value.length > 0,
);
const shortText: Field<string> = same(
  (value): value is string => typeof value === 'string' && value.length > 0 && value.length <= 32,
);
const identity = bytes(32);
const network = bytes(16);
const circuit = bytes(16);
const boot = bytes(8);
const nonce = bytes(16);
const proof = bytes(32);
const signature = bytes(64);
/** Blinded ids. */
const networks: Field<readonly Uint8Array[]> = same((value): value is readonly Uint8Array[] =>
  isArrayOf(value, MAX_RECORD_NETWORKS, (id) => isBytes(id, 16)),
);
const version = integer(0, Number.MAX_SAFE_INTEGER);
/** Seconds; a day is the longest promise anybody makes. */
const lifetime = integer(1, 86_400);
const leg: Field<LegKey> = {
  encode: ({ id, key, epoch }) => [id, key, epoch],
  decode(value) {
    if (!Array.isArray(value) || value.length !== 3) return undefined;
    const [id, key, epoch] = value as unknown[];
    if (!isInteger(id, 1, 0xffffffff) || !isBytes(key, 16) || !isInteger(epoch, 0, 15)) return undefined;
    return { id, key, epoch };
  },
};
/** Legs a callee keeps prepared, each once. */
const legs: Field<readonly LegKey[]> = {
  encode: (value) => value.map((each) => leg.encode(each)),
  decode(value) {
    if (!Array.isArray(value) || value.length > PREPARED_LEGS) return undefined;
    const decoded = value.map((each) => leg.decode(each)).filter((each) => each !== undefined);
    const ids = new Set(decoded.map(({ id }) => id));
    return ids.size === value.length ? decoded : undefined;
  },
};
/** Relays a question has come by. */
const depth = integer(0, MAX_CIRCUIT_RELAYS - 1);
const legId = integer(1, 0xffffffff);
/** 18 bytes: ip ‖ port, little-endian. */
const address: Field<SocketAddress> = {
  encode({ ip, port }) {
    return concat(ip, Uint8Array.of(port & 0xff, port >> 8));
  },
  decode(value) {
    if (!isBytes(value, 18)) return undefined;
    const port = viewOf(value).getUint16(16, true);
    return port === 0 ? undefined : { ip: value.slice(0, 16), port };
  },
};
/** Each `[kind, ip ‖ port]`; what is no address is dropped by whoever reads them, not here. */
const candidates: Field<readonly ContactCandidate[]> = {
  encode: (value) => value.map((each) => [each.kind, address.encode(each.address)]),
  decode(value) {
    if (!Array.isArray(value) || value.length > MAX_CONTACT_CANDIDATES) return undefined;
    const decoded = value.map((each: unknown) => {
      if (!Array.isArray(each) || each.length !== 2) return undefined;
      const [kind, at] = each as unknown[];
      const decodedAddress = address.decode(at);
      if (!isInteger(kind, 0, CandidateKind.mapped) || decodedAddress === undefined) return undefined;
      return { kind: kind as CandidateKind, address: decodedAddress };
    });
    const valid = decoded.filter((each) => each !== undefined);
    return valid.length === decoded.length ? valid : undefined;
  },
};

/** Each `[length, address]`, of 4 or 16 bytes. */
const prefixes: Field<readonly Prefix[]> = {
  encode: (value) => value.map(({ family, length, ip }) => [length, family === 4 ? ip.slice(12) : ip]),
  decode(value) {
    if (!Array.isArray(value) || value.length > MAX_LAN_PREFIXES) return undefined;
    const decoded = value.map(decodePrefix).filter((each) => each !== undefined);
    return decoded.length === value.length ? decoded : undefined;
  },
};

function decodePrefix(value: unknown): Prefix | undefined {
  if (!Array.isArray(value) || value.length !== 2) return undefined;
  const [length, ip] = value as unknown[];
  if (isBytes(ip, 4) && isInteger(length, 0, 32)) return { family: 4, length, ip: concat(V4_MAPPED, ip) };
  return isBytes(ip, 16) && !isIPv4(ip) && isInteger(length, 0, 128) ? { family: 6, length, ip } : undefined;
}
const V4_MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);
/** Identities of the exits behind this one. */
const exits: Field<readonly Uint8Array[]> = same((value): value is readonly Uint8Array[] =>
  isArrayOf(value, MAX_EXIT_HOPS - 1, (exit) => isBytes(exit, 32)),
);

/** A bootstrap vouches for how long the address of this round has been had in a network. */
export interface TenureGrant {
  /** Blinded id. */
  readonly network: Uint8Array;
  readonly round: number;
  readonly tenure: AddressTenure;
}
const tenures: Field<readonly TenureGrant[]> = {
  encode: (value) => value.map(({ network: id, round, tenure }) => [id, round, encodedTenure(tenure)]),
  decode(value) {
    if (!Array.isArray(value) || value.length > MAX_RECORD_NETWORKS) return undefined;
    const decoded = value.map(decodeGrant).filter((grant) => grant !== undefined);
    return decoded.length === value.length ? decoded : undefined;
  },
};

function decodeGrant(value: unknown): TenureGrant | undefined {
  if (!Array.isArray(value) || value.length !== 3) return undefined;
  const [id, round, encoded] = value as unknown[];
  const tenure = decodeTenure(encoded);
  if (!isBytes(id, 16) || !isInteger(round, 0, MAX_ROUND) || tenure === undefined) return undefined;
  return { network: id, round, tenure };
}

const SCHEMA = {
  register: { record, boot },
  registered: { observed: address, lease: lifetime, boot, tenures, unproven: networks },
  'join-network': { key: bytes(32), signature },
  'network-joined': { tenures },
  lookup: { network, after: version, depth },
  records: { network, from: version, records, gone: identities, version, more: flag },
  'records-changed': { network, from: version, records, gone: identities, version },
  'records-received': { network, version },
  'prove-membership': { network, proof },
  'membership-proven': { network, proof },
  'circuit-open': { callee: identity, network, leg },
  'circuit-extend': { circuit, caller: record, callee: identity, network, leg, path },
  'circuit-offer': { circuit, caller: record, network, leg, lifetime },
  'circuit-accept': { circuit, leg },
  'standing-policy': { policy, legs },
  'policy-held': { serial: version },
  'circuit-opened': { circuit, caller: record, network, leg, on: legId, lifetime },
  'circuit-joined': { circuit, leg },
  'circuit-granted': { circuit, callee: record, leg, lifetime },
  'circuit-refresh': { circuit },
  'circuit-refreshed': { circuit, lifetime },
  'circuit-close': { circuit },
  'circuit-closed': { circuit },
  receipt: { circuit },
  'receipt-given': { receipt },
  'relay-drain': { seconds: integer(0, MAX_DRAIN_SECONDS) },
  'relay-drain-noted': { leaves: flag },
  unregister: {},
  unregistered: {},
  'wireguard-bind': {},
  'wireguard-bound': {},
  'address-challenge': { nonce },
  'address-answer': { nonce },
  contact: { candidates },
  'contact-accepted': { candidates },
  'contact-begin': {},
  'filtering-test': { address },
  'filtering-tested': {},
  'port-search': { address, ports: integer(1, MAX_SEARCH_PORTS) },
  'port-search-accepted': { address, lifetime: integer(1, 120_000) },
  'port-search-begin': {},
  'exit-request': { network, hops: integer(1, MAX_EXIT_HOPS) },
  'exit-granted': { ipv4: flag, ipv6: flag, dns: flag, lan: prefixes, lifetime, path: exits },
  'exit-released': {},
  'exit-withdrawn': { reason: refusal },
  'route-request': { network, hold: flag },
  'route-granted': { prefixes, lifetime },
  'route-released': {},
  'route-withdrawn': { reason: refusal },
  refused: { reason: refusal, what: shortText },
} as const;

type Schema = typeof SCHEMA;
export type MessageType = keyof Schema;
type FieldsOf<S> = { readonly [K in keyof S]: S[K] extends Field<infer T> ? T : never };
/** One message of a type, e.g. `MessageOf<'register'>`. */
export type MessageOf<K extends MessageType> = { readonly type: K } & FieldsOf<Schema[K]>;
export type ControlMessage = { [K in MessageType]: MessageOf<K> }[MessageType];

/** What answers a request; `refused` may take its place. */
export const ANSWER_OF = {
  register: 'registered',
  'join-network': 'network-joined',
  lookup: 'records',
  'records-changed': 'records-received',
  'prove-membership': 'membership-proven',
  'circuit-open': 'circuit-granted',
  'circuit-extend': 'circuit-granted',
  'circuit-offer': 'circuit-accept',
  'standing-policy': 'policy-held',
  'circuit-opened': 'circuit-joined',
  'circuit-refresh': 'circuit-refreshed',
  'circuit-close': 'circuit-closed',
  receipt: 'receipt-given',
  'relay-drain': 'relay-drain-noted',
  unregister: 'unregistered',
  'wireguard-bind': 'wireguard-bound',
  'address-challenge': 'address-answer',
  contact: 'contact-accepted',
  'filtering-test': 'filtering-tested',
  'port-search': 'port-search-accepted',
  'exit-request': 'exit-granted',
  'route-request': 'route-granted',
} as const satisfies Partial<Record<MessageType, MessageType>>;
export type RequestType = keyof typeof ANSWER_OF;
export type RequestMessage = Extract<ControlMessage, { readonly type: RequestType }>;
export type AnswerTo<K extends RequestType> = MessageOf<(typeof ANSWER_OF)[K]> | MessageOf<'refused'>;

/** Whether a message asks for an answer. */
export function isRequest(message: ControlMessage): message is RequestMessage {
  return Object.hasOwn(ANSWER_OF, message.type);
}

export interface Envelope {
  /** The sender's number; 0 when no answer is wanted. */
  readonly request: number;
  readonly message: ControlMessage;
}

/** The body of a message. */
function encodeBody({ request, message }: Envelope): Uint8Array {
  const schema = SCHEMA[message.type] as Readonly<Record<string, Field<unknown>>>;
  const values = message as unknown as Readonly<Record<string, unknown>>;
  const fields = new Map(Object.entries(schema).map(([name, field]) => [name, field.encode(values[name])]));
  return encodeCbor([message.type, request, fields]);
}

/** Bytes of a message's body: what a page of records is filled up to. */
export function messageSize(message: ControlMessage): number {
  return encodeBody({ request: 0xffffffff, message }).length;
}

/** The control payload of a message. @throws RangeError when its body is longer than 1,200 bytes. */
export function encodeMessage(envelope: Envelope): Uint8Array {
  return encodeControlFrame({ kind: ControlKind.message, body: encodeBody(envelope) });
}

/** Reads a message body; undefined when any part of it is not as the table says. */
export function decodeMessage(body: Uint8Array): Envelope | undefined {
  const value = decodeCbor(body, MAX_CONTROL_BODY);
  if (!Array.isArray(value) || value.length !== 3) return undefined;
  const [type, request, fields] = value as unknown[];
  if (typeof type !== 'string' || !Object.hasOwn(SCHEMA, type)) return undefined;
  if (!isInteger(request, 0, 0xffffffff) || !(fields instanceof Map)) return undefined;
  const schema = SCHEMA[type as MessageType] as Readonly<Record<string, Field<unknown>>>;
  const names = Object.keys(schema);
  if (fields.size !== names.length) return undefined;
  const message: Record<string, unknown> = { type };
  for (const name of names) {
    const decoded = schema[name]?.decode((fields as Map<unknown, unknown>).get(name));
    if (decoded === undefined) return undefined;
    message[name] = decoded;
  }
  return { request, message: message as unknown as ControlMessage };
}
