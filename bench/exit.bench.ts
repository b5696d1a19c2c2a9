// Exits beside each other: the kernel's, the gateway without root, wireguard-go with the kernel's masquerade and with what gives
// a namespace the network without root, and the same way without a tunnel. All stand at the same time in one world (exit-subjects.ts); they take turns in each round, in reverse
// order every other time, and the first round is discarded. Nothing is pinned: guest, exit, web server and load generator share
// the machine's cores.
//
// Bypassed, for all alike: no NIC and no driver (veth hands packets over by reference). What one guest may have connecting is
// bounded by Omerta's exits (128): connections are begun 120 at a time.
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
import {
  isPeer,
  omerta,
  plain,
  rootless,
  wireguardGo,
  type Subject,
  type SubjectName,
} from './exit-subjects.js';
import { wireguardImplementations } from './wireguard-implementations.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    chart: { type: 'string' },
  },
});
const rounds = values.quick ? 2 : 5;
const context: Context = {
  tcpSeconds: values.quick ? 1 : 3,
  roundTrips: values.quick ? 200 : 1000,
  flows: values.quick ? 300 : 1000,
};

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
  else {
    subjects.push(await wireguardGo(world, newest));
    for (const name of ['slirp4netns', 'pasta'] as const)
      if (labUnavailable([name]) === undefined) subjects.push(await rootless(world, newest, name));
      else skipped.push(`${name} is not installed: apt install ${name === 'pasta' ? 'passt' : name}`);
  }
  return { subjects, skipped };
}

/** A peer that fails is named, and left out of the rest; one of Omerta's fails the benchmark. */
async function measure(scenario: Scenario, subjects: readonly Subject[]): Promise<Map<SubjectName, Round[]>> {
  console.error(`  ${scenario.title} …`);
  const kept = new Map<SubjectName, Round[]>(subjects.map(({ name }) => [name, []]));
  const failed = new Set<SubjectName>();
  for (let round = 0; round <= rounds; round++)
    for (const subject of round % 2 === 0 ? subjects : subjects.toReversed()) {
      if (failed.has(subject.name) || (scenario.needsIpv6 === true && subject.isIpv4Only === true)) continue;
      try {
        const measured = await scenario.measure(subject, context);
        if (round > 0) kept.get(subject.name)?.push(measured);
      } catch (error) {
        const text = `${subject.title}: ${error instanceof Error ? error.message : String(error)}`;
        if (!isPeer(subject)) throw new Error(text, { cause: error });
        console.error(`  not measured: ${text}`);
        failed.add(subject.name);
        kept.set(subject.name, []);
      }
    }
  return kept;
}

async function main(): Promise<number> {
  const missing = labUnavailable(['wg', 'iperf3', 'ping', 'ss', 'setpriv', 'ethtool']);
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
