// Every table of the core that what others send makes grow: who pays for an entry, how many there may be, in
// all and of one payer, and when an entry ends. The table in docs/threat-model.md is written from it
// (`npm run docs`), and a test looks through the classes of the core for one that is not here.
//
// `fields` are the class and object fields that hold it: the table, what is derived from it, and its timers.

import { MAX_MEMBERS, memberBounds } from '../members/member-table.js';
import { MAX_PINGS } from '../members/ping-table.js';
import { MOST_PROBES } from '../path/path-mtu.js';
import { SENT_BOUNDS } from '../path/sent-addresses.js';
import { INTERVAL_BOUNDS } from '../path/path-keepalive.js';
import { GUEST_BOUNDS } from '../exit/guest-table.js';
import { MAX_SURVEYED } from '../exit/route-client.js';
import { OBSERVATION_BOUNDS } from '../nat/observation.js';
import { CIRCUITS_PER_MEMBER } from '../path/circuit-client.js';
import { MOST_PATHS } from '../path/member-paths.js';
import { MAX_OUTSTANDING } from '../path/tracked-path.js';
import { COUNTED_BOUNDS } from '../path/unproven-budget.js';
import { MAX_CIRCUIT_RELAYS, MAX_RECORD_NETWORKS } from '../protocol/message-limits.js';
import { PREPARED_LEGS } from '../protocol/standing-policy.js';
import { MIN_GONE } from '../relay/directory.js';
import { FOLLOWED_BOUNDS } from '../relay/followed-networks.js';
import { MAX_PROVEN } from '../relay/client-roster.js';
import { accountCapacity } from '../relay/relay-accounts.js';
import { DEFAULT_RELAY_LIMITS, MAX_WIREGUARD_BINDINGS, type RelayLimits } from '../relay/relay-limits.js';
import { remoteBounds } from '../relay/relay-neighbours.js';
import { tenureBounds } from '../relay/relay-tenures.js';
import { ANSWERS_PER_RELAY } from '../relay/circuits/circuit-opening.js';
import { ANSWERS_PER_PEER, REQUEST_BOUNDS } from '../runtime/request-table.js';

export interface GrowingTable {
  readonly name: string;
  /** `file under ts/core#field`. */
  readonly fields: readonly string[];
  readonly key: string;
  /** Entries at most. */
  readonly total: (limits: RelayLimits) => number;
  /** Of one payer of each kind. */
  readonly shares: (limits: RelayLimits) => Readonly<Record<string, number>>;
  readonly ends: string;
  /**
   * What turns down an entry too many, where no field is a BoundedTable: the table whose entries these are parts
   * of, or the comparison in the file of the first field.
   */
  readonly bound?: { readonly follows: string } | { readonly check: string };
}

/** Bootstraps a node may use: eight of each network, and as many relays named by the operator. */
const MOST_UPLINKS = MAX_RECORD_NETWORKS * 8 + 64;

export const GROWING_TABLES: readonly GrowingTable[] = [
  {
    name: 'contacts of members',
    fields: ['path/direct-paths.ts#contacts', 'path/direct-paths.ts#wakes'],
    key: 'session key',
    total: () => MAX_MEMBERS,
    shares: () => ({ member: 1 }),
    ends: '175 s after the session was renewed last, or with the member',
    bound: { follows: 'members' },
  },
  {
    name: 'paths to a member that are tried',
    fields: ['path/member-paths.ts#paths'],
    key: 'local address, remote address or leg',
    total: () => MAX_MEMBERS * MOST_PATHS,
    shares: () => ({ member: MOST_PATHS }),
    ends: 'with the contact, or when one that did not work has to make room',
    bound: { check: 'MOST_PATHS' },
  },
  {
    name: 'members to whom data goes again in a moment',
    fields: ['path/relay-bar.ts#lifts'],
    key: 'session key',
    total: () => MAX_MEMBERS,
    shares: () => ({ member: 1 }),
    ends: 'with the next step, or with the member',
    bound: { follows: 'members' },
  },
  {
    name: 'probes of a path that may yet be answered',
    fields: ['path/tracked-path.ts#outstanding'],
    key: 'token',
    total: () => MAX_MEMBERS * MOST_PATHS * MAX_OUTSTANDING,
    shares: () => ({ path: MAX_OUTSTANDING }),
    ends: 'by its answer, or by the eighth after it',
    bound: { check: 'MAX_OUTSTANDING' },
  },
  {
    name: 'padded probes of a path that may yet be answered',
    fields: ['path/path-mtu.ts#tokens'],
    key: 'token',
    total: () => MAX_MEMBERS * MOST_PATHS * MOST_PROBES,
    shares: () => ({ path: MOST_PROBES }),
    ends: 'when its size is answered, or taken for lost',
    bound: { check: 'MOST_PROBES' },
  },
  {
    name: 'addresses that were probed and have not answered',
    fields: ['path/unproven-budget.ts#counts'],
    key: 'address, host, member',
    total: () => 3 * COUNTED_BOUNDS.total,
    shares: () => COUNTED_BOUNDS.shares,
    ends: 'after 60 s, of port searches 10 min and a day, when a place is wanted',
  },
  {
    name: 'how the last port search of a member ended',
    fields: ['path/port-search.ts#past'],
    key: 'session key',
    total: () => MAX_MEMBERS,
    shares: () => ({ member: 1 }),
    ends: 'with the member',
    bound: { follows: 'members' },
  },
  {
    name: 'addresses that were sent to',
    fields: ['path/sent-addresses.ts#sent'],
    key: 'address, address and port',
    total: () => SENT_BOUNDS.total,
    shares: () => SENT_BOUNDS.shares,
    ends: 'after 10 min, when a place is wanted',
  },
  {
    name: 'how long paths may be silent',
    fields: ['path/path-keepalive.ts#intervals'],
    key: 'member, own address, its address',
    total: () => INTERVAL_BOUNDS.total,
    shares: () => INTERVAL_BOUNDS.shares,
    ends: 'with the member, or the oldest of it, when it is elsewhere',
  },
  {
    name: 'where relays and members see this node',
    fields: ['nat/observation.ts#newest'],
    key: 'observer, its address, own address',
    total: () => 2 * OBSERVATION_BOUNDS.total,
    shares: () => OBSERVATION_BOUNDS.shares,
    ends: 'with the relay or member, or the oldest, when a newer one wants the place',
  },
  {
    name: 'members an exit, or a route, forwards for',
    fields: ['exit/guest-table.ts#guests', 'exit/guest-table.ts#expiries'],
    key: 'session key',
    total: () => GUEST_BOUNDS.total,
    shares: () => GUEST_BOUNDS.shares,
    ends: 'after 120 s without a renewal, with the right or the member',
  },
  {
    name: 'admitted clients',
    fields: [
      'relay/client-roster.ts#clients',
      'relay/relay-clients.ts#registered',
      'relay/client-roster.ts#expiries',
      'relay/relay-clients.ts#publications',
      'relay/restart-handshakes.ts#started',
      'relay/restart-handshakes.ts#waits',
    ],
    key: 'session key',
    total: ({ admissions }) => admissions,
    shares: (limits) => ({
      identity: limits.admissionsPerIdentity,
      network: limits.admissionsPerNetwork, // of those who have shown to be in it
      prefix: limits.admissionsPerPrefix,
      site: limits.admissionsPerSite,
    }),
    ends: 'its lifetime until it has shown to be in a network, then its lease; before, when a prefix with fewer wants the place',
  },
  {
    name: 'networks a client has shown to be in',
    fields: ['relay/client-roster.ts#proven'],
    key: 'client, network',
    total: ({ admissions }) => admissions * MAX_PROVEN,
    shares: () => ({ client: MAX_PROVEN }),
    ends: 'with the client',
    bound: { check: '< MAX_PROVEN' },
  },
  {
    name: 'records of a network, and who left it',
    fields: ['relay/directory.ts#logs', 'relay/directory.ts#newest'],
    key: 'network, identity',
    total: (limits) =>
      MAX_RECORD_NETWORKS * 2 * (limits.registrations + remoteBounds(limits.registrations).total) + MIN_GONE,
    shares: () => ({ client: MAX_RECORD_NETWORKS }),
    ends: 'with the registration; who left is forgotten when they outnumber who is there by 64',
    bound: { follows: 'admitted clients' },
  },
  {
    name: 'overlay address tenures',
    fields: ['relay/relay-tenures.ts#held'],
    key: 'network, identity',
    total: (limits) => tenureBounds(limits).total,
    shares: (limits) => tenureBounds(limits).shares,
    ends: '30 days after it was last signed, or when a site with fewer wants the place',
  },
  {
    name: 'networks followed at neighbours',
    fields: ['relay/followed-networks.ts#followed'],
    key: 'network',
    total: () => FOLLOWED_BOUNDS.total,
    shares: () => FOLLOWED_BOUNDS.shares,
    ends: '60 s after the last client left, one lease after a neighbour last asked',
  },
  {
    name: 'networks a client is told changes of',
    fields: ['relay/relay-clients.ts#cursors', 'relay/relay-clients.ts#pushing'],
    key: 'client, network',
    total: ({ registrations }) => registrations * MAX_RECORD_NETWORKS + FOLLOWED_BOUNDS.total,
    shares: () => ({ client: MAX_RECORD_NETWORKS, neighbour: FOLLOWED_BOUNDS.shares.neighbour }),
    ends: 'with the registration, or when a neighbour no longer follows it',
    bound: { follows: 'admitted clients' },
  },
  {
    name: 'records of neighbours',
    fields: ['relay/relay-neighbours.ts#remote'],
    key: 'identity',
    total: ({ registrations }) => remoteBounds(registrations).total,
    shares: ({ registrations }) => remoteBounds(registrations).shares,
    ends: 'when no neighbour has it, nobody follows its networks, or it runs out',
  },
  {
    name: 'circuits',
    fields: [
      'relay/circuits/circuit-table.ts#circuits',
      'relay/circuits/circuit-lifetime.ts#expiries',
      'relay/circuits/circuit-refresh.ts#rechecks',
      'relay/client-roster.ts#circuits',
      'relay/relay-neighbours.ts#circuits',
    ],
    key: 'circuit',
    total: ({ circuits }) => circuits,
    shares: (limits) => ({
      identity: limits.circuitsPerIdentity,
      network: limits.circuitsPerNetwork,
      prefix: limits.circuitsPerPrefix,
      site: limits.circuitsPerSite,
      neighbour: limits.circuitsPerRelay,
    }),
    ends: 'its lifetime without a refresh, with either end, closed, or when a site or neighbour with fewer wants the place',
  },
  {
    name: 'circuits that wait for consent',
    fields: ['relay/circuits/circuit-table.ts#waiting'],
    key: 'circuit',
    total: ({ halfOpen }) => halfOpen,
    shares: (limits) => ({
      identity: limits.halfOpenPerIdentity,
      prefix: limits.halfOpenPerPrefix,
      site: limits.halfOpenPerSite,
      neighbour: limits.halfOpenPerRelay,
    }),
    ends: 'answered, 3.75 s without an answer at each of the relays asked, or when a site or neighbour with fewer wants the place',
  },
  {
    name: 'standing policies',
    fields: ['relay/circuits/relay-consent.ts#held'],
    key: 'session key',
    total: ({ registrations }) => registrations,
    shares: () => ({ client: 1, legs: PREPARED_LEGS }),
    ends: 'with the registration',
  },
  {
    name: 'accounts charged for what is relayed',
    fields: ['relay/relay-accounts.ts#accounts'],
    key: 'identity; network',
    total: (limits) => accountCapacity(limits).identities + accountCapacity(limits).networks,
    shares: () => ({ identity: 1, network: 1 }),
    ends: 'when another needs it and nothing is charged to it; who finds none shares one',
  },
  {
    name: 'WireGuard servers bound',
    fields: ['relay/wireguard-bindings.ts#clients'],
    key: 'session key',
    total: () => MAX_WIREGUARD_BINDINGS,
    shares: (limits) => ({
      prefix: limits.wireguardBindingsPerPrefix,
      site: limits.wireguardBindingsPerSite,
    }),
    ends: 'with the registration',
  },
  {
    name: 'answers remembered',
    fields: ['runtime/request-table.ts#answers'],
    key: 'session key, request',
    total: ({ admissions }) => admissions * ANSWERS_PER_PEER + MAX_CIRCUIT_RELAYS * ANSWERS_PER_RELAY,
    shares: () => ({ client: ANSWERS_PER_PEER, neighbour: ANSWERS_PER_RELAY }),
    ends: 'the oldest of a peer goes first; with the client or relay',
  },
  {
    name: 'requests under way',
    fields: ['runtime/request-table.ts#outstanding', 'runtime/request-table.ts#timers'],
    key: 'request',
    total: () => REQUEST_BOUNDS.total,
    shares: () => REQUEST_BOUNDS.shares,
    ends: 'answered, or 8 times in vain (19.75 s)',
  },
  {
    name: 'members',
    fields: [
      'members/member-table.ts#members',
      'members/member-table.ts#bySessionKey',
      'members/member-table.ts#overlay',
      'members/address-claims.ts#claims',
      'members/address-claims.ts#heldBefore',
    ],
    key: 'identity',
    total: () => MAX_MEMBERS,
    shares: () => memberBounds(MAX_RECORD_NETWORKS).shares,
    ends: 'when its record runs out (7 days at most), or, told to be gone, when another needs the place',
  },
  {
    name: 'peers the engine is told of',
    fields: ['runtime/peer-table.ts#entries', 'runtime/peer-table.ts#roles', 'runtime/peer-table.ts#proven'],
    key: 'session key',
    total: ({ admissions }) => admissions + MAX_MEMBERS + MOST_UPLINKS,
    shares: () => ({ client: 1, member: 1, bootstrap: 1 }),
    ends: 'when it is neither client nor member nor bootstrap',
    bound: { follows: 'admitted clients' },
  },
  {
    name: 'networks read at a bootstrap',
    fields: [
      'uplink/directory-reader.ts#cursors',
      'uplink/directory-reader.ts#lookups',
      'uplink/directory-reader.ts#reading',
      'uplink/uplink.ts#joining',
    ],
    key: 'bootstrap, network',
    total: () => MOST_UPLINKS * (MAX_RECORD_NETWORKS + FOLLOWED_BOUNDS.total),
    shares: () => ({ bootstrap: MAX_RECORD_NETWORKS + FOLLOWED_BOUNDS.total }),
    ends: 'when it is neither joined nor followed; what was not asked for is refused',
    bound: { follows: 'networks followed at neighbours' },
  },
  {
    name: 'ways to members',
    fields: [
      'path/path-agent.ts#routes',
      'path/path-agent.ts#searches',
      'path/path-agent.ts#handshakes',
      'path/circuit-client.ts#openings',
    ],
    key: 'member',
    total: () => MAX_MEMBERS,
    shares: () => ({ member: 1 }),
    ends: 'with the member, or 60 s after none was found',
    bound: { follows: 'members' },
  },
  {
    name: 'circuits held',
    fields: [
      'path/circuit-client.ts#circuits',
      'path/circuit-client.ts#byMember',
      'path/circuit-client.ts#byLeg',
      'path/circuit-client.ts#refreshes',
      'path/circuit-client.ts#expiries',
    ],
    key: 'relay, circuit',
    total: () => MAX_MEMBERS * CIRCUITS_PER_MEMBER,
    shares: () => ({ member: CIRCUITS_PER_MEMBER }),
    ends: 'its lifetime without use, or closed',
    bound: { check: '>= CIRCUITS_PER_MEMBER' },
  },
  {
    name: 'pings under way',
    fields: ['members/ping-table.ts#pings', 'members/ping-table.ts#timers'],
    key: 'token',
    total: () => MAX_PINGS,
    shares: () => ({ operator: MAX_PINGS }),
    ends: 'answered, or forgotten after its time; the oldest goes first',
    bound: { check: '>= MAX_PINGS' },
  },
];

const CONFIGURED = 'as many as the operator configured';
const PART = 'a part of tables, counted where it is used';

/** Fields that nothing others send makes grow, and what bounds them. */
export const FIXED_FIELDS: Readonly<Record<string, string>> = {
  'members/joined-networks.ts#joined': CONFIGURED,
  'members/joined-networks.ts#movedAt': CONFIGURED,
  'members/own-addresses.ts#addresses': CONFIGURED,
  'node/uplink-set.ts#uplinks': CONFIGURED,
  'node/wireguard-reach.ts#states': CONFIGURED,
  'runtime/peer-table.ts#rights': 'an exit, and LANs',
  'runtime/peer-table.ts#beyond': 'an exit, and LANs',
  'exit/exit-client.ts#candidates': CONFIGURED,
  'exit/route-client.ts#accepted': CONFIGURED,
  'exit/route-client.ts#sources': CONFIGURED,
  'exit/route-client.ts#routed': CONFIGURED,
  'exit/route-client.ts#answers': `of ${MAX_SURVEYED} members, each time the operator asks`,
  'mapping/igd-client.ts#services': 'three of what the gateway describes',
  'mapping/mapping-client.ts#effects': 'of one step',
  'mapping/port-mapper.ts#attempts': 'one for each protocol',
  'nat/nat-classifier.ts#places': 'one for each own address, at most 8',
  'path/contact.ts#filteringTests': 'one for each family',
  'path/contact.ts#set': 'eight of the paths to the member',
  'path/contact.ts#shares': 'as many at most',
  'path/own-policy.ts#given': CONFIGURED,
  'members/shaping-policy.ts#members': CONFIGURED,
  'members/shaping-policy.ts#networks': CONFIGURED,
  'path/path-policy.ts#members': CONFIGURED,
  'path/own-policy.ts#legs': `${PREPARED_LEGS} for each relay`,
  'relay/relay-neighbours.ts#neighbours': CONFIGURED,
  'relay/relay-rules.ts#allow': CONFIGURED,
  'relay/relay-rules.ts#deny': CONFIGURED,
  'relay/relay-rules.ts#peers': CONFIGURED,
  'relay/wireguard-bindings.ts#named': CONFIGURED,
  'node/node-parts.ts#drops': 'one for each reason',
  'relay/service/relay-service.ts#refusals': 'one for each reason',
  'path/port-search.ts#opened': 'the ports of one search, and of paths to members',
  'path/path-agent.ts#outgoing': CONFIGURED,
  'path/path-agent.ts#sources': 'one for each kind of way',
  'runtime/leg-ids.ts#away': 'the legs the engine has room for',
  'runtime/leg-queries.ts#waiting': 'answered before the next step',
  'runtime/turn.ts#effects': 'of one step',
  'runtime/binary-heap.ts#entries': PART,
  'runtime/bounded-table.ts#entries': PART,
  'runtime/bounded-table.ts#held': PART,
  'runtime/bounded-table.ts#places': PART,
  'runtime/fair-places.ts#byPayer': PART,
  'runtime/counter.ts#counts': PART,
  'runtime/timer-queue.ts#deadlines': PART,
  'runtime/timer-queue.ts#heap': PART,
};

/** A table of an engine, whose size its source says. */
export interface EngineTable {
  readonly name: string;
  /** Where the number stands, and behind what. */
  readonly file: string;
  readonly constant: string;
  readonly total: number;
  readonly of: string;
  readonly ends: string;
}

export const ENGINE_TABLES: readonly EngineTable[] = [
  {
    name: 'handshakes of stock WireGuard clients under way',
    file: 'native/relay/wireguard_table.h',
    constant: 'kHalfOpen =',
    total: 1024,
    of: 'prefix 64, site 256',
    ends: '5 s',
  },
  {
    name: 'budgets of source prefixes (forwarding)',
    file: 'native/wire/include/omerta/limits.h',
    constant: 'OMERTA_PREFIX_BUCKET_BITS',
    total: 16,
    of: 'bits: buckets of a fixed table, shared by prefixes that meet',
    ends: 'never; nothing is kept of a prefix',
  },
  {
    name: 'budgets of strangers in the kernel path',
    file: 'xdp/strangers.h',
    constant: 'STRANGER_BUCKETS',
    total: 4096,
    of: 'buckets of a fixed table, shared by prefixes that meet',
    ends: 'never; nothing is kept of a prefix',
  },
  {
    name: 'remotes given room in send queues',
    file: 'native/engine/shared.cc',
    constant: 'kMaxPeersRemembered =',
    total: 16_384,
    of: 'peer 1',
    ends: 'with the peer',
  },
  {
    name: 'packets that wait for a session',
    file: 'native/session/constants.h',
    constant: 'kMaxStagedPackets =',
    total: 128,
    of: 'peer 128',
    ends: 'sent, or the handshake was given up',
  },
  {
    name: 'receiver indices of relayed stock sessions in the kernel path',
    file: 'native/wire/include/omerta/wireguard_relay.h',
    constant: 'OMERTA_EXPECTED_INDICES',
    total: 65_536,
    of: 'counters of a fixed table',
    ends: 'with the session or handshake',
  },
  {
    name: 'handshakes that wait (wasm)',
    file: 'ts/engine/wasm/session-table.ts',
    constant: 'QUEUE_CAPACITY =',
    total: 512,
    of: 'from an eighth on, senders prove their address',
    ends: 'answered or dropped at once',
  },
  {
    name: 'strangers whose way back is remembered (wasm)',
    file: 'ts/engine/wasm/wasm-engine.ts',
    constant: 'STRANGERS =',
    total: 4096,
    of: 'address 1',
    ends: 'the oldest goes first',
  },
  {
    name: 'addresses that have proven themselves (wasm)',
    file: 'ts/engine/wasm/known-addresses.ts',
    constant: 'KNOWN =',
    total: 8192,
    of: 'address 1',
    ends: 'the oldest goes first',
  },
];

/** A Markdown table; what depends on the limits of a relay, as they are by these. */
export function growingTablesMarkdown(limits: RelayLimits = DEFAULT_RELAY_LIMITS): string {
  const rows = GROWING_TABLES.map(({ name, key, total, shares, ends }) => {
    const of = Object.entries(shares(limits)).map(([payer, share]) => `${payer} ${share}`);
    return `| ${name} | ${key} | ${total(limits)} | ${of.join(', ')} | ${ends} |`;
  });
  const engines = ENGINE_TABLES.map(
    ({ name, total, of, ends, file }) => `| ${name} | \`${file}\` | ${total} | ${of} | ${ends} |`,
  );
  return [
    '| table | an entry for each | at most | of one | ends |',
    '|---|---|---|---|---|',
    ...rows,
    ...engines,
  ].join('\n');
}
