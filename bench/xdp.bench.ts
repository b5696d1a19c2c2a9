// The relay in the kernel: the XDP program alone, end to end beside user space and coturn, through a restart,
// under a flood, and with many legs.
//
// Bypassed end to end, for every subject alike: no network card and no driver (veth hands frames over by
// reference), no hardware interrupt. Counted: the thread of the relay's receiving interface (NAPI: receiving,
// the XDP program, sending what it sends on, building and delivering socket buffers of what it passes) and
// the relay's process, both from the scheduler, by packets that arrived. For user space and coturn the relay's
// XDP program looks at each packet too, and passes it: it is for another port.
//
// Options: --quick, --json (results on standard output), --chart FILE.

import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { ManyLegs } from '../ts/lab/many-legs.js';
import { removePins } from '../ts/lab/pins.js';
import { labUnavailable } from '../ts/lab/requirements.js';
import { xdpUnavailable } from '../ts/lab/xdp.js';
import { barChart } from './bar-chart.js';
import { Subjects, type Subject } from './relay-subjects.js';
import { Topology } from './relay-topology.js';
import { verdictsOf, report, type Results } from './xdp-report.js';
import { LEGS, endToEnd, programTime, startXdp } from './xdp-end-to-end.js';
import { daemonUnderFlood, flood } from './xdp-flood.js';
import { LIVE_DESTINATIONS, LIVE_FLOWS, LiveTraffic } from './xdp-live.js';
import { programCosts } from './xdp-program.js';
import { OTHER_LAYOUT, RESTART_AND_UPGRADE, underLoad } from './xdp-upgrade.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    chart: { type: 'string' },
  },
});
const timing = values.quick ? { rounds: 2, durationMs: 200 } : { rounds: 5, durationMs: 500 };
const MANY_LEGS = values.quick ? 200_000 : 1_000_000;
const say = (text: string): void => console.error(`  ${text} …`);

/** Legs written by one process, adopted and removed by the next. */
async function manyLegs(topology: Topology): Promise<Results['manyLegs']> {
  const run = async (what: 'leave' | 'remove'): Promise<ManyLegs> => {
    const program = fileURLToPath(new URL('../ts/lab/many-legs.js', import.meta.url));
    const { stdout, stderr } = await topology.server.run(
      process.execPath,
      [program, String(MANY_LEGS), what],
      { timeoutMs: 120_000 },
    );
    if (stdout === '') throw new Error(`many-legs: ${stderr}`);
    return JSON.parse(stdout) as ManyLegs;
  };
  // In a namespace without another relay; the sink has its interface.
  await topology.server.ip(
    'link add legs0 type veth peer name legs1',
    'link set legs0 up',
    'link set legs1 up',
  );
  await topology.server.ip('link set eth0 name sink0', 'link set legs0 name eth0');
  const left = await run('leave');
  const taken = await run('remove');
  return {
    legs: MANY_LEGS,
    installed: left.taken,
    adopted: taken.adopted,
    taken: taken.taken,
    removed: taken.removed,
  };
}

async function main(): Promise<number> {
  const missing =
    labUnavailable(['taskset', 'ethtool', 'bpftool', 'ss']) ??
    xdpUnavailable() ??
    (availableParallelism() < 2 ? 'needs two cores' : undefined);
  if (missing !== undefined) {
    console.error(`skipped: the XDP benchmark: ${missing}`);
    return 0;
  }
  const tools = fileURLToPath(new URL('../../build/bench/bench/native', import.meta.url));
  say('the program alone');
  const program = await programCosts(tools, values.quick);

  const topology = await Topology.create();
  const subjects = new Subjects(topology, tools);
  say('end to end');
  const xdp = await startXdp(subjects);
  const plan = { legs: LEGS, flows: LIVE_FLOWS, destinations: LIVE_DESTINATIONS };
  const taking: Subject[] = [xdp, await subjects.relay('engine', plan)];
  const coturn = await subjects.coturn();
  if (typeof coturn === 'string') console.error(`skipped: ${coturn}`);
  else taking.push(coturn);
  const traffic = await LiveTraffic.start(topology, tools);
  await traffic.pin();
  const rows = await endToEnd(topology, traffic, taking, timing);
  const programNs = await programTime(subjects, traffic, xdp, rows[0]?.atItsHighest.offered ?? 0);

  say('a flood beside a circuit');
  const circuitRate = 100_000;
  const floods = [];
  for (const part of [1, 2]) floods.push(await flood(traffic, xdp, LEGS, circuitRate, part, timing));
  say('restart and upgrade under load');
  const { successor, ...upgrade } = await underLoad(subjects, traffic, xdp, circuitRate, RESTART_AND_UPGRADE);
  const migrated = await underLoad(subjects, traffic, successor, circuitRate, OTHER_LAYOUT);
  const { successor: last, ...migration } = migrated;
  last.process.kill('SIGKILL');
  removePins(topology.relay.name);
  say('the daemon under a flood');
  const daemon = await daemonUnderFlood(topology, traffic, values.quick ? 3 : 10);
  traffic.end();
  say(`${MANY_LEGS} legs`);
  const results: Results = {
    program,
    endToEnd: rows,
    programNs,
    floods,
    upgrades: { rate: circuitRate, upgrade, migration },
    daemon,
    manyLegs: await manyLegs(topology),
  };
  const verdicts = verdictsOf(results);
  if (values.json) console.log(JSON.stringify({ ...results, verdicts }, undefined, 1));
  else console.log(report(results, verdicts));
  if (values.chart !== undefined)
    writeFileSync(
      values.chart,
      barChart('CPU per relayed packet, ns (logarithmic, shorter is better)', [
        {
          title: 'single packets of mixed flows, 64 B',
          bars: rows.map(({ name, atItsHighest }) => ({
            label: name,
            value: atItsHighest.nsPerPacket.median,
            own: name !== 'coturn',
          })),
        },
      ]),
    );
  return 0;
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }),
);
