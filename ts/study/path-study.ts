// What direct paths do over many seeds: each scenario is run in a world of its own for each seed, in virtual time, so
// that a distribution is a matter of seconds and two commits can be compared.

import { PairWorld, Stream, KINDS, networkOf, twoNetworks, type Kind } from '../sim/mesh/pair-world.js';
import { InnerStream } from './inner-stream.js';
import type { SimNode } from '../sim/mesh/simulation.js';
import { formatIp, parseSocketAddress } from '../wire/socket-address.js';

/** Between two pings of a stream whose losses are counted. */
const CONTACT_PING_MS = 20;
/** Between two inner packets of one way when a fault comes. */
const FAULT_PACKET_MS = 5;
/** How long two may look for the direct path: a search for ports drawn at random takes longest. */
const CONTACT_PATIENCE_MS = 30_000;
/** How long data may take to come again after a fault. */
const FAULT_PATIENCE_MS = 10_000;
/** Time for what is under way to be answered. */
const SETTLE_MS = 2000;
/** Without data: sessions end after 175 s of it. */
const IDLE_MS = 115_000;
const AFTER_WORD_MS = 45_000;
/** How long NATs remember is found out during all but the last of them, which is counted. */
const IDLE_STRETCHES = 5;

/** What NATs that give each destination a port do with it, beside those of KINDS, which draw it at random. */
const KINDS_OF_PORTS = ['sequential', 'preserving'] as const;

/** From one pair's first packet to its direct path. */
export interface ContactRun {
  /** Of a packet there and back by the relay. */
  readonly relayRttMs: number;
  /** From the first packet, of two that are registered, until it is delivered; undefined: not in 5 s. */
  readonly firstPacketMs: number | undefined;
  /** From the first packet to both on the direct path; undefined: not in 30 s. */
  readonly directMs: number | undefined;
  /** From the first datagram past the relay to both on the direct path. */
  readonly punchMs: number | undefined;
  readonly pings: number;
  readonly lost: number;
}

export interface ContactCell {
  readonly from: Kind;
  readonly to: Kind;
  readonly runs: readonly ContactRun[];
}

/** One fault while inner packets flow both ways, 5 ms apart. */
export interface FaultRun {
  /** Of a packet there and back by the way that is taken afterwards. */
  readonly rttMs: number;
  /** From the fault to the arrival of a packet sent after it, the slower of the two ways; undefined: none in 10 s. */
  readonly backMs: number | undefined;
  readonly packets: number;
  /** Of those that were under way when it happened, or sent later. */
  readonly lost: number;
}

export interface FaultCell {
  readonly name: FaultName;
  readonly runs: readonly FaultRun[];
}

/** An idle pair on its direct path, whose NATs forget after 120 s. */
export interface IdleRun {
  /** Datagrams past the relay, of both members together, once it is known how long the NATs remember. */
  readonly packetsIn20s: number;
  readonly stayedDirect: boolean;
}

export interface PathStudy {
  readonly firstSeed: number;
  readonly contacts: readonly ContactCell[];
  readonly faults: readonly FaultCell[];
  readonly idle: readonly IdleRun[];
}

const outer = (node: SimNode): string => formatIp(node.nat?.ip ?? node.address.ip);

function runContact(seed: number, from: Kind, to: Kind): ContactRun {
  const world = new PairWorld(seed, from, to);
  const { simulation, a, b, relays } = world;
  world.start();
  const ends = [outer(a), outer(b)];
  let punched: number | undefined;
  const { internet } = simulation;
  internet.blocked = (source, target) => {
    if ([source, target].every(({ ip: at }) => ends.includes(formatIp(at)))) punched ??= simulation.now;
    return false;
  };
  const relayRttMs = 2 * (a.latencyMs + b.latencyMs + 2 * (relays[0]?.latencyMs ?? 0));
  const begin = simulation.now;
  const answered = world.firstPacket();
  // The answer is on its way for half a round trip.
  const firstPacketMs = answered === undefined ? undefined : answered - relayRttMs / 2;
  const streams = [new Stream(world, a, b, CONTACT_PING_MS), new Stream(world, b, a, CONTACT_PING_MS)];
  const direct = simulation.runUntil(() => world.bothDirect, CONTACT_PATIENCE_MS);
  const now = simulation.now;
  simulation.run(500);
  for (const stream of streams) stream.stop();
  simulation.run(SETTLE_MS);
  return {
    relayRttMs,
    firstPacketMs,
    directMs: direct === undefined ? undefined : now - begin,
    punchMs: direct === undefined || punched === undefined ? undefined : now - punched,
    pings: sum(streams.map(({ sent }) => sent)),
    lost: sum(streams.map(({ lost }) => lost.length)),
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

export type FaultName =
  | 'path dies, a relay is left'
  | 'path dies, a second is left'
  | 'all dies but a metered one'
  | 'another network'
  | 'NAT reboot'
  | 'path back';

/** Which of the two networks `a` sends its data in. */
function networkInUse({ a }: PairWorld): number {
  const ways = a.mesh.status(a.step).networks[0]?.members[0]?.ways ?? [];
  const used = parseSocketAddress(ways.find(({ role }) => role === 'active')?.address ?? '');
  return used === undefined ? 1 : networkOf(used);
}

/** A world whose members talk, and the fault that comes over it. */
interface Fault {
  readonly name: FaultName;
  readonly make: (seed: number) => { readonly world: PairWorld; readonly happen: () => void };
  /** Whether data goes over a relay from then on. */
  readonly byRelay: boolean;
}

const punched = (seed: number): PairWorld => new PairWorld(seed, 'port-R', 'port-R');

const FAULTS: readonly Fault[] = [
  {
    name: 'path dies, a relay is left',
    make: (seed) => {
      const world = punched(seed);
      return { world, happen: () => world.cut('both') };
    },
    byRelay: true,
  },
  {
    name: 'path dies, a second is left',
    make: (seed) => {
      const { world, cut } = twoNetworks(seed);
      // Both rank alike, and the first that is found is used: the one that data is on is cut.
      return { world, happen: () => cut(networkInUse(world)) };
    },
    byRelay: false,
  },
  {
    name: 'all dies but a metered one',
    make: (seed) => {
      const { world, cut } = twoNetworks(seed, true);
      return { world, happen: () => cut(1) };
    },
    byRelay: false,
  },
  {
    name: 'another network',
    make: (seed) => {
      const world = punched(seed);
      return { world, happen: () => world.b.setUplinks([world.uplink('port-R', 7)]) };
    },
    byRelay: true,
  },
  {
    name: 'NAT reboot',
    make: (seed) => {
      const world = punched(seed);
      return { world, happen: () => world.b.nat?.reboot() };
    },
    byRelay: true,
  },
  {
    name: 'path back',
    make: (seed) => {
      const world = punched(seed);
      return {
        world,
        happen: () => {
          world.cut('both');
          world.simulation.run(5000);
          world.cut(undefined);
        },
      };
    },
    byRelay: true,
  },
];

function runFault({ make, byRelay }: Fault, seed: number): FaultRun {
  const { world, happen } = make(seed);
  const { simulation, a, b, relays } = world;
  for (const stream of world.talk(FAULT_PACKET_MS)) stream.stop();
  const ways = [new InnerStream(world, a, b), new InnerStream(world, b, a)];
  simulation.run(1000);
  const rttMs = 2 * (a.latencyMs + b.latencyMs + (byRelay ? 2 * (relays[0]?.latencyMs ?? 0) : 0));
  happen();
  const begin = simulation.now;
  const back = (): (number | undefined)[] => ways.map((way) => way.firstArrivalOf(begin));
  simulation.runUntil(() => back().every((at) => at !== undefined), FAULT_PATIENCE_MS, 1);
  // Whatever follows: the direct path again, where it can be.
  simulation.runUntil(() => world.bothDirect, FAULT_PATIENCE_MS, 10);
  simulation.run(SETTLE_MS);
  for (const way of ways) way.stop();
  simulation.run(SETTLE_MS);
  const after = ways.map((way) => way.since(begin - rttMs));
  const arrivals = back().filter((at) => at !== undefined);
  return {
    rttMs,
    backMs: arrivals.length === ways.length ? Math.max(...arrivals) - begin : undefined,
    packets: sum(after.map(({ sent }) => sent)),
    lost: sum(after.map(({ sent, arrived }) => sent - arrived)),
  };
}

function runIdle(seed: number): IdleRun {
  const world = punched(seed);
  for (const stream of world.talk(50)) stream.stop();
  const { simulation, a, b } = world;
  const ends = [outer(a), outer(b)];
  let packets = 0;
  simulation.internet.blocked = (from, to) => {
    if ([from, to].every(({ ip: at }) => ends.includes(formatIp(at)))) packets++;
    return false;
  };
  let stayedDirect = true;
  for (let stretch = 0; stretch < IDLE_STRETCHES; stretch++) {
    // A word keeps the session; its sender is not known to be idle before all that follows it is over.
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const)
      from.ping(to.identity);
    simulation.run(AFTER_WORD_MS);
    packets = 0;
    simulation.run(IDLE_MS);
    stayedDirect &&= world.bothDirect;
  }
  return { packetsIn20s: (packets * 20_000) / IDLE_MS, stayedDirect };
}

export interface PathStudyOptions {
  readonly firstSeed: number;
  /** Worlds of each pair of NATs, and of the idle pair. */
  readonly runs: number;
  /** Worlds of each fault. */
  readonly faultRuns: number;
  /** These pairs of NATs, faults, and whether the idle pair; default: all. */
  readonly only?: {
    readonly pairs: readonly (readonly [from: Kind, to: Kind])[];
    readonly faults: readonly FaultName[];
    readonly idle: boolean;
  };
  /** Hears what is done, of how much. */
  readonly say: (text: string, done: number, of: number) => void;
}

/** Those a study is of, by how their NATs are. */
export const STUDIED_KINDS: readonly Kind[] = [...KINDS, ...KINDS_OF_PORTS];
export const FAULT_NAMES: readonly FaultName[] = FAULTS.map(({ name }) => name);

/** Runs every scenario; the same options give the same result, whatever the machine. */
export function studyPaths({ firstSeed, runs, faultRuns, only, say }: PathStudyOptions): PathStudy {
  const seeds = (count: number): number[] => Array.from({ length: count }, (_, index) => firstSeed + index);
  const pairs =
    only?.pairs ?? STUDIED_KINDS.flatMap((from) => STUDIED_KINDS.map((to) => [from, to] as const));
  const faults = FAULTS.filter(({ name }) => only?.faults.includes(name) ?? true);
  const withIdle = only?.idle ?? true;
  const of = pairs.length + faults.length + (withIdle ? 1 : 0);
  let done = 0;
  const told = <T>(name: string, result: T): T => {
    say(name, ++done, of);
    return result;
  };
  return {
    firstSeed,
    contacts: pairs.map(([from, to]) =>
      told(`${from} to ${to}`, { from, to, runs: seeds(runs).map((seed) => runContact(seed, from, to)) }),
    ),
    faults: faults.map((fault) =>
      told(fault.name, {
        name: fault.name,
        runs: seeds(faultRuns).map((seed) => runFault(fault, seed)),
      }),
    ),
    idle: withIdle ? told('idle', seeds(runs).map(runIdle)) : [],
  };
}
