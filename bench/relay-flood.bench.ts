// The userspace relay under a flood of spoofed 64-byte garbage, beside an established circuit at a tenth of
// what the relay can receive and a client that asks for control answers. The flood is half of that capacity,
// all of it, twice and four times as much.
//
//   core 0: flooder, the circuit's sender and sink, the client      core 1: the relay, and all of receiving
//
// Receiving is bound to the relay's core as a network card's interrupts are, so the capacity is that of a
// host with one core: above it, the kernel drops before any program is asked.
//
// Options: --quick, --json (results on standard output).

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { availableParallelism } from 'node:os';
import { run } from '../ts/lab/command.js';
import { labUnavailable } from '../ts/lab/requirements.js';
import type { ControlReport } from './relay-control-client.js';
import { LOAD_CORE, RELAY_CORE, Subjects, type Subject } from './relay-subjects.js';
import { CLIENT_IP, RELAY_IP, SERVER_IP, Topology } from './relay-topology.js';
import { spread, type Spread } from './spread.js';
import { columns, short, spreadText } from './text-table.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const rounds = values.quick ? 1 : 5;
const durationMs = values.quick ? 1000 : 2000;
const PROBE_MS = 300;
/** Datagrams the generator sends at once in mode "batched", each by itself for the network. */
const BURST = 64;

/** The flood, as a part of what the relay can receive. */
const LOADS = [0, 0.5, 1, 2, 4];
const CIRCUIT_LOAD = 0.1;
const FIRST_RATE = 50_000;
const RATE_STEP = 1.2;
const LOST = 0.01;

const tools = fileURLToPath(new URL('../../build/bench/bench/native', import.meta.url));
const netns = (name: string): string => `/run/netns/${name}`;

interface Sent {
  readonly sent: number;
  readonly ns: number;
}
interface Delivery {
  readonly sent: number;
  readonly received: number;
  readonly corrupt: number;
  readonly duplicates: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
}

interface Round {
  readonly floodPerSecond: number;
  readonly circuitPerSecond: number;
  readonly circuitLoss: number;
  readonly p50Ns: number;
  readonly p99Ns: number;
  readonly control: ControlReport;
  readonly relayBusy: number;
  /** Datagrams the relay's socket had no room for. */
  readonly queueDrops: number;
  /** Flood datagrams neither taken from the socket nor dropped there: the kernel's backlog was full. */
  readonly backlogDrops: number;
  readonly rssGrowthBytes: number;
  readonly counters: Readonly<Record<string, number>>;
}

async function toolOutput(name: string, args: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await run('taskset', ['-c', LOAD_CORE, `${tools}/${name}`, ...args]);
  if (code !== 0) throw new Error(`${name} ended with code ${code}: ${stderr.trim()}`);
  return JSON.parse(stdout);
}

class FloodedRelay {
  private constructor(
    readonly topology: Topology,
    readonly relay: Subject,
    readonly mac: string,
  ) {}

  static async create(): Promise<FloodedRelay> {
    const topology = await Topology.create();
    await topology.relay.sysctl('net.ipv4.conf.all.rp_filter=0', 'net.ipv4.conf.client0.rp_filter=0');
    await topology.receiveOn(Number(RELAY_CORE));
    await topology.client.mustRun('ethtool', ['-K', 'eth0', 'tx-udp-segmentation', 'off']);
    const [link] = JSON.parse(await topology.relay.mustRun('ip', ['-j', 'link', 'show', 'client0'])) as {
      address: string;
    }[];
    return new FloodedRelay(
      topology,
      await new Subjects(topology, tools).engine('engine'),
      link?.address ?? '',
    );
  }

  async flood(perSecond: number, ms: number): Promise<Sent> {
    return (await toolOutput('flooder', [
      ...['--netns', netns(this.topology.client.name), '--device', 'eth0', '--mac', this.mac],
      ...['--relay', RELAY_IP, '--relay-port', String(this.relay.port), '--client', CLIENT_IP],
      ...['--rate', String(Math.round(perSecond)), '--duration-ms', String(ms)],
    ])) as Sent;
  }

  async circuit(perSecond: number, ms: number): Promise<Delivery> {
    return (await toolOutput('generator', [
      ...['--client-netns', netns(this.topology.client.name)],
      ...['--server-netns', netns(this.topology.server.name)],
      ...['--relay', RELAY_IP, '--relay-port', String(this.relay.port), '--server', SERVER_IP],
      ...['--protocol', 'omerta', '--mode', 'batched', '--size', '64', '--flows', '1', '--legs', '1'],
      ...['--destinations', String(this.relay.destinations)],
      ...['--rate', String(Math.round(perSecond / BURST)), '--duration-ms', String(ms)],
    ])) as Delivery;
  }

  async control(ms: number): Promise<ControlReport> {
    const stdout = await this.topology.client.mustRun('taskset', [
      ...['-c', LOAD_CORE, process.execPath],
      fileURLToPath(new URL('relay-control-client.js', import.meta.url)),
      ...['--relay', RELAY_IP, '--port', String(this.relay.port), '--duration-ms', String(ms)],
    ]);
    return JSON.parse(stdout) as ControlReport;
  }

  /** What was done between two looks at the relay, and what it was worth. */
  async between<T>(work: () => Promise<T>): Promise<{
    result: T;
    counters: Record<string, number>;
    cpuNs: number;
    rssGrowthBytes: number;
  }> {
    const before = await this.relay.report();
    const cpuBefore = this.relay.cpu() ?? NaN;
    const result = await work();
    const cpuNs = (this.relay.cpu() ?? NaN) - cpuBefore;
    const after = await this.relay.report();
    if (before === undefined || after === undefined) throw new Error('the relay does not report');
    const counters = Object.fromEntries(
      Object.entries(after.counters)
        .map(([name, value]) => [name, value - (before.counters[name] ?? 0)] as const)
        .filter(([, value]) => value !== 0),
    );
    return { result, counters, cpuNs, rssGrowthBytes: after.rssBytes - before.rssBytes };
  }

  /** The highest rate of garbage of which the relay misses less than 1 %. */
  async capacity(): Promise<{ perSecond: number; limitedBySender: boolean }> {
    let perSecond = 0;
    for (let rate = FIRST_RATE; ; rate *= RATE_STEP) {
      const { result, counters } = await this.between(() => this.flood(rate, PROBE_MS));
      const taken = counters.rx_datagrams ?? 0;
      const sentPerSecond = (result.sent / result.ns) * 1e9;
      if (taken < result.sent * (1 - LOST)) return { perSecond, limitedBySender: false };
      perSecond = sentPerSecond;
      if (sentPerSecond < rate * 0.9) return { perSecond, limitedBySender: true };
    }
  }

  async round(capacity: number, load: number): Promise<Round> {
    const { result, counters, cpuNs, rssGrowthBytes } = await this.between(() =>
      Promise.all([
        load === 0 ? { sent: 0, ns: durationMs * 1e6 } : this.flood(capacity * load, durationMs),
        this.circuit(capacity * CIRCUIT_LOAD, durationMs),
        this.control(durationMs),
      ]),
    );
    const [flood, circuit, control] = result;
    if (circuit.corrupt + circuit.duplicates > 0)
      throw new Error(`${circuit.corrupt} corrupt and ${circuit.duplicates} duplicate datagrams`);
    const queueDrops = counters.drop_receive_queue ?? 0;
    const arrived = (counters.rx_datagrams ?? 0) + queueDrops;
    return {
      floodPerSecond: (flood.sent / flood.ns) * 1e9,
      circuitPerSecond: circuit.sent / (durationMs / 1000),
      circuitLoss: 1 - circuit.received / circuit.sent,
      ...{ p50Ns: circuit.p50Ns, p99Ns: circuit.p99Ns, control },
      relayBusy: cpuNs / (durationMs * 1e6),
      queueDrops,
      backlogDrops: Math.max(0, flood.sent + circuit.sent + control.sent + control.stunSent - arrived),
      ...{ rssGrowthBytes, counters },
    };
  }
}

const of = (results: readonly Round[], field: (round: Round) => number): Spread => spread(results.map(field));
const answered = ({ control }: Round): number =>
  (control.answered + control.stunAnswered) / (control.sent + control.stunSent);

interface Verdict {
  readonly target: string;
  readonly measured: Spread;
  readonly limit: number;
  readonly atLeast: boolean;
  readonly met: boolean;
}

function targets(half: readonly Round[]): Verdict[] {
  const verdict = (target: string, measured: Spread, limit: number, atLeast = false): Verdict => ({
    ...{ target, measured, limit, atLeast },
    met: atLeast ? measured.median >= limit : measured.median <= limit,
  });
  return [
    verdict(
      "circuit's loss, %",
      of(half, (round) => round.circuitLoss * 100),
      1,
    ),
    verdict(
      'control questions answered, %',
      of(half, (round) => answered(round) * 100),
      99,
      true,
    ),
    verdict(
      'growth of resident memory, kB',
      of(half, (round) => round.rssGrowthBytes / 1000),
      1000,
    ),
  ];
}

function table(results: ReadonlyMap<number, readonly Round[]>, verdicts: readonly Verdict[]): string {
  const percent = ({ median, min, max }: Spread): string =>
    `${(median * 100).toFixed(1)} (${(min * 100).toFixed(1)}–${(max * 100).toFixed(1)})`;
  const rows = [...results].map(([load, taken]) => [
    load === 0 ? 'none' : `${load} × capacity`,
    short(of(taken, (round) => round.floodPerSecond).median),
    percent(of(taken, (round) => round.circuitLoss)),
    `${short(of(taken, (round) => round.p50Ns).median / 1000)} / ${short(of(taken, (round) => round.p99Ns).median / 1000)}`,
    percent(of(taken, answered)),
    `${short(of(taken, (round) => round.control.p50Ms).median)} / ${short(of(taken, (round) => round.control.p99Ms).median)}`,
    percent(of(taken, (round) => round.relayBusy)),
    short(of(taken, (round) => round.backlogDrops).median),
    short(of(taken, (round) => round.queueDrops).median),
    spreadText(
      of(taken, (round) => round.rssGrowthBytes),
      1000,
    ),
  ]);
  const titles = [
    ...['flood', 'datagrams/s', 'circuit lost %', 'p50 / p99 µs', 'control answered %', 'p50 / p99 ms'],
    ...["relay's CPU %", 'lost in backlog', 'lost in queue', 'RSS growth kB'],
  ];
  const judged = verdicts.map(({ target, measured, limit, atLeast, met }) => [
    `${met ? '✓' : '✗'} ${target}`,
    spreadText(measured),
    `${atLeast ? '≥' : '≤'} ${short(limit)}`,
  ]);
  return [
    ...columns([titles, ...rows]),
    '',
    'Against the targets at half of the capacity, median (smallest–largest) over the rounds',
    ...columns(judged),
  ].join('\n');
}

async function main(): Promise<number> {
  const missing = labUnavailable(['taskset', 'ethtool']);
  if (missing !== undefined || availableParallelism() < 2) {
    console.error(`skipped: the flood benchmark ${missing ?? 'needs two cores'}`);
    return 0;
  }
  const flooded = await FloodedRelay.create();
  const { perSecond: capacity, limitedBySender } = await flooded.capacity();
  console.error(
    `  the relay receives ${short(capacity)} datagrams of garbage/s` +
      (limitedBySender ? ', and the sender cannot send more' : ''),
  );
  await flooded.round(capacity, 1); // what is allocated once is
  const results = new Map<number, Round[]>();
  for (const load of LOADS) {
    console.error(`  a flood of ${load} × that …`);
    const taken: Round[] = [];
    for (let round = 0; round < rounds; round++) taken.push(await flooded.round(capacity, load));
    results.set(load, taken);
  }
  const verdicts = targets(results.get(0.5) ?? []);
  if (values.json) {
    const loads = Object.fromEntries(results);
    console.log(
      JSON.stringify(
        { rounds, durationMs, capacity, limitedBySender, loads, targets: verdicts },
        undefined,
        1,
      ),
    );
  } else {
    console.log(`\ncapacity: ${short(capacity)} datagrams/s; the circuit: a tenth of it`);
    console.log(table(results, verdicts));
  }
  return 0;
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }),
);
