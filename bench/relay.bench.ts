// The userspace relay beside what else relays UDP, measured by its cost: CPU per relayed datagram from
// the process's own accounting, which a shared machine disturbs less than packets per second.
//
//   core 0: generator, sink        core 1: the relay under test
//
// Bypassed, for every subject alike: no NIC and no driver (veth hands packets over by reference); a
// coalesced message is never segmented in between; a saturated sink is not woken by the relay; softirq work of receiving a packet is done on the
// generator's core, that of handing it to the sink on the relay's, in the relay's account.
//
// Options: --quick, --json (results on standard output), --chart FILE.

import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { availableParallelism } from 'node:os';
import { writeFileSync } from 'node:fs';
import { labUnavailable } from '../ts/lab/requirements.js';
import { table, targets, chart } from './relay-report.js';
import { run, spreadOf, type Measurements, type Scenario } from './relay-rounds.js';
import { ENGINES, FORWARDERS, Subjects, type Subject, type SubjectName } from './relay-subjects.js';
import { Topology } from './relay-topology.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    chart: { type: 'string' },
  },
});
const rounds = values.quick ? 2 : 5;
const durationMs = values.quick ? 150 : 400;

const PEERS = ['engine', 'engine-io-uring', 'single', 'batch', 'dgram', 'coturn'] as const;
const SCENARIOS: readonly Scenario[] = [
  { id: 'single', title: 'single packets, 64 B', mode: 'single', size: 64, subjects: PEERS },
  {
    id: 'batched',
    title: 'bursts of 64 from sendmmsg, 4 destinations mixed, 64 B',
    mode: 'batched',
    size: 64,
    subjects: [...PEERS, 'gather'],
  },
  {
    id: 'mixed',
    title: 'bursts of 64 arriving at once, 4 destinations mixed, 64 B',
    mode: 'bulk',
    size: 64,
    subjects: [...PEERS, 'gather'],
    mixed: true,
  },
  {
    id: 'bulk-64',
    title: 'bulk, 64 segments of 64 B',
    mode: 'bulk',
    size: 64,
    subjects: [...PEERS, 'coalesced'],
  },
  {
    id: 'bulk-1300',
    title: 'bulk, 50 segments of 1,300 B',
    mode: 'bulk',
    size: 1300,
    subjects: [...PEERS, 'coalesced'],
  },
  {
    id: 'single-tuned',
    title: 'single packets, 64 B, veth tuned to coalesce',
    mode: 'single',
    size: 64,
    subjects: ['engine'],
    tuned: true,
  },
  {
    id: 'batched-tuned',
    title: 'bursts as above, veth tuned to coalesce',
    mode: 'batched',
    size: 64,
    subjects: ['engine'],
    tuned: true,
  },
  {
    id: 'legs-single',
    title: 'single packets, another leg each',
    mode: 'single',
    size: 64,
    subjects: ['engine-1k', 'engine-1m'],
  },
  {
    id: 'legs-bulk',
    title: 'bulk, every segment another leg, 64 B',
    mode: 'bulk',
    size: 64,
    subjects: ['engine-1k', 'engine-1m'],
    mixed: true,
  },
];

async function startAll(subjects: Subjects): Promise<[Map<SubjectName, Subject>, string[]]> {
  const started: Subject[] = [subjects.none()];
  const skipped: string[] = [];
  for (const name of ENGINES) started.push(await subjects.engine(name));
  for (const name of FORWARDERS) started.push(await subjects.forwarder(name));
  for (const one of [await subjects.ioUringEngine(), await subjects.coturn()]) {
    if (typeof one === 'string') skipped.push(one);
    else started.push(one);
  }
  return [new Map(started.map((subject) => [subject.name, subject])), skipped];
}

async function main(): Promise<number> {
  const missing = labUnavailable(['taskset', 'ethtool', 'ss']);
  if (missing !== undefined || availableParallelism() < 2) {
    console.error(`skipped: the relay benchmark ${missing ?? 'needs two cores'}`);
    return 0;
  }
  const tools = fileURLToPath(new URL('../../build/bench/bench/native', import.meta.url));
  const subjects = new Subjects(await Topology.create(), tools);
  const [available, skipped] = await startAll(subjects);
  for (const reason of skipped) console.error(`skipped: ${reason}`);

  const results = new Map<Scenario, Measurements>();
  const measured = async (scenario: Scenario): Promise<Measurements> => {
    console.error(`  ${scenario.title} …`);
    const measurements = await run(subjects, available, scenario, rounds, durationMs);
    results.set(scenario, measurements);
    return measurements;
  };
  let bare: number | undefined;
  for (const scenario of SCENARIOS) {
    const measurements = await measured(scenario);
    if (scenario.id === 'single') {
      bare = spreadOf(measurements, 'single', (round) => round.packetsPerSecond)?.median;
    }
  }
  const rate = Math.round((bare ?? 0) / 10);
  await measured({
    id: 'latency',
    title: `one way at 10 % load (${rate}/s), 64 B`,
    mode: 'single',
    size: 64,
    rate,
    subjects: ['engine', 'single', 'dgram', 'coturn', 'none'],
  });
  const outsideTheHeap = async (name: SubjectName): Promise<number> => {
    const { rssBytes, heapBytes } = (await available.get(name)?.report()) ?? { rssBytes: NaN, heapBytes: 0 };
    return rssBytes - heapBytes;
  };
  const memory = {
    thousand: await outsideTheHeap('engine-1k'),
    million: await outsideTheHeap('engine-1m'),
  };

  const verdicts = targets(results, memory);
  if (values.json) {
    console.log(
      JSON.stringify(
        {
          rounds,
          durationMs,
          memory,
          skipped,
          scenarios: [...results].map(([scenario, measurements]) => ({
            ...scenario,
            results: Object.fromEntries(measurements),
          })),
          targets: verdicts,
        },
        undefined,
        1,
      ),
    );
  } else {
    console.log(table(results, verdicts));
  }
  if (values.chart !== undefined) writeFileSync(values.chart, chart(results));
  return 0;
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }),
);
