// Single 64-byte packets of mixed flows through namespaces, client – relay – server: what forwarding one
// costs by XDP, by this project's relay in user space, and by coturn.

import { mustRun } from '../ts/lab/command.js';
import type { RelayOptions, RelayProcess, Subject, SubjectName, Subjects } from './relay-subjects.js';
import { ADVISED, NO_DEFERRAL, type Deferral, type Topology } from './relay-topology.js';
import { LIVE_DESTINATIONS, LIVE_FLOWS, type LiveTraffic } from './xdp-live.js';
import { spread, type Spread } from './spread.js';

export const LEGS = 10_000;
/** Of what is offered, at the rates that are reported. */
const TOLERATED_LOSS = 0.01;
/** What is offered while looking for the highest rate: this, and so much more each time. */
const FIRST_RATE = 40_000;
const STEP = 1.2;
const HIGHEST_RATE = 3_000_000;

export interface Cost {
  readonly offered: number;
  readonly packetsPerSecond: Spread;
  readonly loss: Spread;
  /** Of the relay's interface and the relay's process, per packet that arrived. */
  readonly nsPerPacket: Spread;
  readonly processNsPerPacket: Spread;
  /** From the generator to the sink, µs. */
  readonly p50: Spread;
  readonly p99: Spread;
}

/**
 * Who defers polls: the relay as `omerta doctor` advises; the server as a machine whose network card holds
 * back its interrupts. Over a veth whoever sends to one that does not wakes its thread on another core.
 */
export const DEFERRALS = ['nobody', 'relay', 'server', 'server, relay'] as const;
/** The server is polled so often, and need not be woken while frames come. */
const SERVER_DEFERRAL: Deferral = { timeoutNs: 50_000, empty: 100 };

export interface EndToEnd {
  readonly name: SubjectName;
  readonly atItsHighest: Cost;
  /** At a step less than the highest rate of user space, with polls deferred by DEFERRALS; empty for subjects that are not asked. */
  readonly atEqualRate: readonly Cost[];
}

interface Round {
  readonly packetsPerSecond: number;
  readonly loss: number;
  readonly nsPerPacket: number;
  readonly processNsPerPacket: number;
  readonly p50: number;
  readonly p99: number;
}

async function round(
  traffic: LiveTraffic,
  subject: Subject,
  rate: number,
  durationMs: number,
): Promise<Round> {
  const { protocol, port } = subject;
  if (protocol === 'plain') throw new Error('a plain forwarder is not driven by live frames');
  const before = { napi: traffic.cpu(), process: subject.cpu() ?? 0 };
  const { sent, received, ns, latencyUs } = await traffic.run({
    protocol,
    port,
    legs: LEGS,
    rate,
    durationMs,
  });
  const napi = traffic.cpu() - before.napi;
  const process = (subject.cpu() ?? 0) - before.process;
  if (received === 0) throw new Error(`${subject.name}: nothing arrived`);
  return {
    packetsPerSecond: (received / ns) * 1e9,
    loss: 1 - received / sent,
    nsPerPacket: (napi + process) / received,
    processNsPerPacket: process / received,
    ...latencyUs,
  };
}

/** The highest rate at which as good as nothing is lost. */
async function highestRate(traffic: LiveTraffic, subject: Subject, durationMs: number): Promise<number> {
  let good = FIRST_RATE;
  for (let rate = FIRST_RATE; rate < HIGHEST_RATE; rate *= STEP) {
    const { loss } = await round(traffic, subject, rate, durationMs);
    if (loss > TOLERATED_LOSS) {
      const again = await round(traffic, subject, rate, durationMs);
      if (again.loss > TOLERATED_LOSS) break;
    }
    good = rate;
  }
  return good;
}

function costOf(offered: number, rounds: readonly Round[]): Cost {
  const of = (field: keyof Round): Spread => spread(rounds.map((each) => each[field]));
  return {
    offered,
    packetsPerSecond: of('packetsPerSecond'),
    loss: of('loss'),
    nsPerPacket: of('nsPerPacket'),
    processNsPerPacket: of('processNsPerPacket'),
    p50: of('p50'),
    p99: of('p99'),
  };
}

async function deferPolls(topology: Topology, by: (typeof DEFERRALS)[number]): Promise<void> {
  const { relay, server } = topology;
  await topology.deferPolls(server, 'eth0', by.includes('server') ? SERVER_DEFERRAL : NO_DEFERRAL);
  await topology.deferPolls(relay, 'client0', by.includes('relay') ? ADVISED : NO_DEFERRAL);
}

/** The relay in the kernel, with its process: `xdp` of the benchmark. */
export function startXdp(subjects: Subjects, options: RelayOptions = {}): Promise<RelayProcess> {
  const plan = { legs: LEGS, flows: LIVE_FLOWS, destinations: LIVE_DESTINATIONS };
  return subjects.relay('xdp', plan, { ...options, xdp: true });
}

/** Every subject in turn, round after round. */
export async function endToEnd(
  topology: Topology,
  traffic: LiveTraffic,
  taking: readonly Subject[],
  { rounds, durationMs }: { readonly rounds: number; readonly durationMs: number },
): Promise<EndToEnd[]> {
  const rates = new Map<SubjectName, number>();
  for (const subject of taking) rates.set(subject.name, await highestRate(traffic, subject, durationMs));
  const highest = new Map<SubjectName, Round[]>(taking.map(({ name }) => [name, []]));
  for (let count = 0; count <= rounds; count++) {
    for (const subject of count % 2 === 0 ? taking : taking.toReversed()) {
      const result = await round(traffic, subject, rates.get(subject.name) ?? FIRST_RATE, durationMs);
      if (count > 0) highest.get(subject.name)?.push(result);
    }
  }
  // One that user space has a little room at: at its highest, a moment's disturbance makes a queue of frames.
  const userspace = (rates.get('engine') ?? FIRST_RATE) / STEP;
  const compared = taking.filter(({ name }) => name === 'xdp' || name === 'engine');
  const equal = new Map<SubjectName, Cost[]>(compared.map(({ name }) => [name, []]));
  for (const by of DEFERRALS) {
    await deferPolls(topology, by);
    const results = new Map<SubjectName, Round[]>(compared.map(({ name }) => [name, []]));
    for (let count = 0; count <= rounds; count++)
      for (const subject of count % 2 === 0 ? compared : compared.toReversed()) {
        const result = await round(traffic, subject, userspace, durationMs);
        if (count > 0) results.get(subject.name)?.push(result);
      }
    for (const [name, each] of results) equal.get(name)?.push(costOf(userspace, each));
  }
  await deferPolls(topology, 'nobody');
  return taking.map(({ name }) => ({
    name,
    atItsHighest: costOf(rates.get(name) ?? 0, highest.get(name) ?? []),
    atEqualRate: equal.get(name) ?? [],
  }));
}

/** ns of the attached program alone, by the kernel's own count, which reads the clock twice a packet. */
export async function programTime(
  subjects: Subjects,
  traffic: LiveTraffic,
  xdp: Subject,
  rate: number,
): Promise<number> {
  const { relay } = subjects.topology;
  const links = await relay.mustRun('ip', ['-details', 'link', 'show', 'client0']);
  const id = /prog\/xdp id (\d+)/.exec(links)?.[1];
  if (id === undefined) throw new Error('client0 has no program');
  const read = async (): Promise<{ readonly run_time_ns?: number; readonly run_cnt?: number }> =>
    JSON.parse(await mustRun('bpftool', ['-j', 'prog', 'show', 'id', id])) as {
      readonly run_time_ns?: number;
    };
  await mustRun('sysctl', ['-qw', 'kernel.bpf_stats_enabled=1']);
  try {
    const before = await read();
    await traffic.run({ protocol: 'omerta', port: xdp.port, legs: LEGS, rate, durationMs: 300 });
    const after = await read();
    const runs = (after.run_cnt ?? 0) - (before.run_cnt ?? 0);
    return ((after.run_time_ns ?? 0) - (before.run_time_ns ?? 0)) / runs;
  } finally {
    await mustRun('sysctl', ['-qw', 'kernel.bpf_stats_enabled=0']);
  }
}
