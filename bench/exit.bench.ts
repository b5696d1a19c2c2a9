// Exits beside each other: the kernel's, the gateway without root, and wireguard-go with the kernel's masquerade, and the same
// way without a tunnel. All stand at the same time in one world (exit-subjects.ts); they take turns in each round, in reverse
// order every other time, and the first round is discarded. Nothing is pinned: guest, exit, web server and load generator share
// the machine's cores.
//
// Bypassed, for all alike: no NIC and no driver (veth hands packets over by reference). What one guest may begin in a second is
// bounded by Omerta's exits (200): connections are begun 150 at a time.
//
// Options: --quick, --json (results on standard output), --chart FILE.

import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { OmertaNode } from '../ts/lab/omerta-node.js';
import { ordinaryUserUnavailable } from '../ts/lab/ordinary-user.js';
import { labUnavailable } from '../ts/lab/requirements.js';
import { World } from '../ts/lab/world.js';
import { chart, table, verdicts } from './exit-report.js';
import { SCENARIOS, type Context, type Round, type Scenario } from './exit-scenarios.js';
import { omerta, plain, wireguardGo, type Subject, type SubjectName } from './exit-subjects.js';
import { wireguardImplementations } from './wireguard-implementations.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    chart: { type: 'string' },
  },
});
const rounds = values.quick ? 2 : 5;
const context: Context = { tcpSeconds: values.quick ? 1 : 3, roundTrips: values.quick ? 200 : 1000 };

/** Those that can stand here, and why the others cannot. */
async function subjectsIn(world: World): Promise<{ subjects: Subject[]; skipped: string[] }> {
  const relay = new OmertaNode(world, await world.addNode('relay'), 'relay');
  const { networks } = (await relay.start('relay')) as { networks: [{ invite: string }] };
  const [{ invite }] = networks;
  const subjects = [await plain(world), await omerta(world, invite, 'kernel')];
  const skipped: string[] = [];
  const closed = ordinaryUserUnavailable();
  for (const name of ['namespace', 'stack'] as const)
    if (closed === undefined) subjects.push(await omerta(world, invite, name));
    else skipped.push(`${name}: ${closed}`);
  const newest = wireguardImplementations().present.find(({ name }) => name === 'newest');
  if (newest === undefined)
    skipped.push('wireguard-go is not installed: go install golang.zx2c4.com/wireguard@latest');
  else subjects.push(await wireguardGo(world, newest));
  return { subjects, skipped };
}

async function measure(scenario: Scenario, subjects: readonly Subject[]): Promise<Map<SubjectName, Round[]>> {
  console.error(`  ${scenario.title} …`);
  const kept = new Map<SubjectName, Round[]>(subjects.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++)
    for (const subject of round % 2 === 0 ? subjects : subjects.toReversed()) {
      const measured = await scenario.measure(subject, context);
      if (round > 0) kept.get(subject.name)?.push(measured);
    }
  return kept;
}

async function main(): Promise<number> {
  const missing = labUnavailable(['wg', 'iperf3', 'ping', 'ss', 'setpriv']);
  if (missing !== undefined) {
    console.error(`skipped: the exit benchmark ${missing}`);
    return 0;
  }
  const load = loadavg()[0];
  const world = await World.create();
  try {
    const { subjects, skipped } = await subjectsIn(world);
    for (const reason of skipped) console.error(`skipped: ${reason}`);
    const results = new Map<Scenario, Map<SubjectName, Round[]>>();
    for (const scenario of SCENARIOS) results.set(scenario, await measure(scenario, subjects));
    if (values.json) {
      const scenarios = [...results].map(([{ id, title }, measurements]) => ({
        ...{ id, title },
        results: Object.fromEntries(measurements),
      }));
      const titles = subjects.map(({ name, title }) => ({ name, title }));
      console.log(
        JSON.stringify(
          { rounds, load, subjects: titles, skipped, scenarios, aims: verdicts(results) },
          undefined,
          1,
        ),
      );
    } else {
      console.log(`load before it: ${load?.toFixed(2) ?? ''}`);
      console.log(table(results, subjects));
    }
    if (values.chart !== undefined) writeFileSync(values.chart, chart(results, subjects));
    return 0;
  } finally {
    world.remove();
  }
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }),
);
