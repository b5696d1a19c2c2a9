// One real message of every kind, made by the encoders: what targets start from.

import type { AddressTenure } from '../../../ts/core/protocol/address-tenure.js';
import { CandidateKind } from '../../../ts/core/protocol/contact-candidate.js';
import type { ControlMessage, MessageOf } from '../../../ts/core/protocol/control-message.js';
import { signPeerRecord, EndpointKind, NatBehaviour } from '../../../ts/core/protocol/peer-record.js';
import { signStandingPolicy } from '../../../ts/core/protocol/standing-policy.js';
import { signReceipt } from '../../../ts/core/protocol/usage-receipt.js';
import { nodePrimitives } from '../../../ts/engine/node-primitives.js';
import { address, bytes, keys, recordFields, WALL_CLOCK } from '../../core/fixtures.js';

export const node = keys();
export const relay = keys();
export const lifetime = 3600;
const networks = [bytes(16), bytes(16)];
const tenure = (): AddressTenure => ({
  issuer: relay.identity.slice(0, 4),
  since: WALL_CLOCK / 1000 - 60,
  until: WALL_CLOCK / 1000 + 86_400,
  signature: bytes(64),
});

export const record = signPeerRecord(
  nodePrimitives,
  node.identitySeed,
  recordFields(node, {
    networks,
    endpoints: [
      { kind: EndpointKind.observed, priority: 100, address: address('203.0.113.5:51820') },
      { kind: EndpointKind.configured, priority: 7, address: address('[2001:db8::1]:1') },
    ],
    relays: [relay.identity],
    nat: NatBehaviour.addressDependent,
    capabilities: ['exit', 'xdp'],
    addresses: [
      { round: 0, tenures: [] },
      { round: 3, tenures: [tenure()] },
    ],
  }),
).bytes;

export const policy = signStandingPolicy(nodePrimitives, node.identitySeed, {
  identity: node.identity,
  relay: relay.identity,
  serial: 3,
  notAfter: WALL_CLOCK / 1000 + lifetime,
  identities: [bytes(32), bytes(32)],
  networks,
}).bytes;

export const receipt = signReceipt(
  {
    relay: relay.identity,
    circuit: bytes(16),
    network: bytes(16),
    caller: bytes(32),
    callee: bytes(32),
    issued: WALL_CLOCK / 1000,
    seconds: 60,
    toCallee: { packets: 10, bytes: 12_000 },
    toCaller: { packets: 9, bytes: 800 },
  },
  (message) => nodePrimitives.ed25519Sign(relay.identitySeed, message),
);

const network = bytes(16);
const circuit = bytes(16);
const leg = (): { id: number; key: Uint8Array; epoch: number } => ({ id: 7, key: bytes(16), epoch: 3 });

const candidates = [
  { kind: CandidateKind.host, address: address('192.168.1.2:51820') },
  { kind: CandidateKind.predicted, address: address('[2001:db8::2]:4001') },
];

/** Every type of the vocabulary: the compiler misses one that is not here. */
const messageOf: { readonly [T in ControlMessage['type']]: Omit<MessageOf<T>, 'type'> } = {
  register: { record, boot: bytes(8) },
  registered: {
    observed: address('203.0.113.5:51820'),
    lease: 600,
    boot: bytes(8),
    tenures: [{ network: bytes(16), round: 3, tenure: tenure() }],
    unproven: [bytes(16)],
  },
  'join-network': { key: bytes(32), signature: bytes(64) },
  'network-joined': { tenures: [{ network: bytes(16), round: 0, tenure: tenure() }] },
  lookup: { network, after: 0, depth: 0 },
  records: { network, from: 3, records: [record], gone: [bytes(32)], version: 4, more: true },
  'records-changed': { network, from: 4, records: [], gone: [], version: 5 },
  'records-received': { network, version: 5 },
  'prove-membership': { network, proof: bytes(32) },
  'membership-proven': { network, proof: bytes(32) },
  'circuit-open': { callee: bytes(32), network, leg: leg() },
  'circuit-extend': {
    circuit,
    caller: record,
    callee: bytes(32),
    network,
    leg: leg(),
    path: [bytes(32), bytes(32)],
  },
  'circuit-offer': { circuit, caller: record, network, leg: leg(), lifetime: 60 },
  'circuit-accept': { circuit, leg: leg() },
  'standing-policy': { policy, legs: [leg(), { ...leg(), id: 8 }] },
  'policy-held': { serial: 3 },
  'circuit-opened': { circuit, caller: record, network, leg: leg(), on: 9, lifetime: 60 },
  'circuit-joined': { circuit, leg: leg() },
  'circuit-granted': { circuit, callee: record, leg: leg(), lifetime: 60 },
  'circuit-refresh': { circuit },
  'circuit-refreshed': { circuit, lifetime: 60 },
  'circuit-close': { circuit },
  'circuit-closed': { circuit },
  receipt: { circuit },
  'receipt-given': { receipt },
  'relay-drain': { seconds: 300 },
  'relay-drain-noted': { leaves: true },
  unregister: {},
  unregistered: {},
  'wireguard-bind': {},
  'wireguard-bound': {},
  'address-challenge': { nonce: bytes(16) },
  'address-answer': { nonce: bytes(16) },
  contact: { candidates },
  'contact-accepted': { candidates: candidates.slice(1) },
  'contact-begin': {},
  'filtering-test': { address: address('203.0.113.5:51820') },
  'filtering-tested': {},
  'port-search': { address: address('203.0.113.5:51820'), ports: 256 },
  'port-search-accepted': { address: address('203.0.113.6:51820'), lifetime: 7120 },
  'port-search-begin': {},
  'exit-request': { network, hops: 1 },
  'exit-granted': {
    ipv4: true,
    ipv6: false,
    dns: true,
    lan: [
      { family: 4, length: 24, ip: address('192.168.7.0:1').ip },
      { family: 6, length: 48, ip: address('[fd00:7::]:1').ip },
    ],
    lifetime: 120,
    path: [bytes(32)],
  },
  'exit-released': {},
  'exit-withdrawn': { reason: 'right-lapsed' },
  'route-request': { network, hold: true },
  'route-granted': {
    prefixes: [
      { family: 4, length: 24, ip: address('192.168.7.0:1').ip },
      { family: 6, length: 64, ip: address('[fd00:7::]:1').ip },
    ],
    lifetime: 120,
  },
  'route-released': {},
  'route-withdrawn': { reason: 'not-served' },
  refused: { reason: 'busy', what: 'circuits' },
};
export const controlMessages = Object.entries(messageOf).map(
  ([type, fields]) => ({ type, ...fields }) as ControlMessage,
);
