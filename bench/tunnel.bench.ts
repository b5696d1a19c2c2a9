// `omerta wg` beside wireguard-go: both ends of a tunnel are the same implementation, in two namespaces
// joined by a veth pair, configured alike by `wg`, MTU 1420. All tunnels stand at the same time; the
// implementations take turns in each round, in reverse order every other time, and the first round
// is discarded. Nothing is pinned: load generator, both ends and sink share the machine's cores.
//
// Bypassed, for all alike: no NIC and no driver (veth hands packets over by reference, and a coalesced
// message is never cut up between the two ends).
//
// Options: --quick, --json (results on standard output), --chart FILE.

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mustRun } from '../ts/lab/command.js';
import { labUnavailable } from '../ts/lab/requirements.js';
import { chart, table, verdicts } from './tunnel-report.js';
import {
  CROWD,
  SCENARIOS,
  type Context,
  type Round,
  type Scenario,
  type Subject,
} from './tunnel-scenarios.js';
import {
  wireguardImplementations,
  type Implementation,
  type ImplementationName,
} from './wireguard-implementations.js';
import { Tunnel, WireguardInterface } from './wireguard-interface.js';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    chart: { type: 'string' },
  },
});
const rounds = values.quick ? 2 : 5;
const context: Context = {
  tools: fileURLToPath(new URL('../../build/bench/bench/native', import.meta.url)),
  tcpSeconds: 1,
  udpMs: values.quick ? 250 : 500,
  pings: values.quick ? 200 : 600,
  handshakes: values.quick ? 250 : 500,
};

async function startSubject(implementation: Implementation, peers: string): Promise<Subject> {
  console.error(`  starting ${implementation.title} …`);
  const tunnel = await Tunnel.start(implementation);
  const crowd = await WireguardInterface.start(implementation);
  await crowd.addPeers(peers);
  await crowd.up('10.64.0.1');
  return { name: implementation.name, tunnel, crowd, crowdBytes: crowd.residentBytes() };
}

async function measure(
  scenario: Scenario,
  subjects: readonly Subject[],
): Promise<Map<ImplementationName, Round[]>> {
  console.error(`  ${scenario.title} …`);
  const kept = new Map<ImplementationName, Round[]>(subjects.map(({ name }) => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    const order = round % 2 === 0 ? subjects : subjects.toReversed();
    const measured = await scenario.measure(order, context);
    if (round === 0) continue;
    for (const [name, result] of measured) kept.get(name)?.push(result);
  }
  return kept;
}

async function main(): Promise<number> {
  const missing = labUnavailable(['wg', 'iperf3', 'ping', 'ss']);
  if (missing !== undefined) {
    console.error(`skipped: the tunnel benchmark ${missing}`);
    return 0;
  }
  const { present, skipped } = wireguardImplementations();
  for (const reason of skipped) console.error(`skipped: ${reason}`);
  const peers = await mustRun(`${context.tools}/handshakes`, ['--config', '--count', String(CROWD)]);
  const subjects: Subject[] = [];
  for (const implementation of present) subjects.push(await startSubject(implementation, peers));

  const results = new Map<Scenario, Map<ImplementationName, Round[]>>();
  for (const scenario of SCENARIOS) results.set(scenario, await measure(scenario, subjects));

  const judged = verdicts(results);
  if (values.json) {
    const scenarios = [...results].map(([{ id, title }, measurements]) => ({
      ...{ id, title },
      results: Object.fromEntries(measurements),
    }));
    console.log(
      JSON.stringify({ rounds, implementations: present, skipped, scenarios, aims: judged }, undefined, 1),
    );
  } else {
    console.log(table(results, judged, present));
  }
  if (values.chart !== undefined) writeFileSync(values.chart, chart(results, present));
  return 0;
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }),
);
