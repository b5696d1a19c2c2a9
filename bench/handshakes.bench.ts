// Handshakes answered by one core, `omerta wg` beside wireguard-go: each has a core for itself, the
// initiators have another. First at a rate nobody takes for a flood, then as many as are answered, with
// the cookies that are asked for then.
//
// Bypassed, for all alike: everything runs over the loopback interface of the responder's namespace.
//
// Options: --quick, --json (results on standard output).

import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mustRun } from '../ts/lab/command.js';
import { labUnavailable } from '../ts/lab/requirements.js';
import { ratio, spread } from './spread.js';
import { columns, spreadText } from './text-table.js';
import {
  wireguardImplementations,
  type Implementation,
  type ImplementationName,
} from './wireguard-implementations.js';
import { PORT, WireguardInterface } from './wireguard-interface.js';

const PEERS = 1000;
const CALM_PER_SECOND = 500;
/** Cookies are asked for until a second after a flood. */
const AFTER_FLOOD_MS = 1500;

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
});
const rounds = values.quick ? 2 : 5;
const floodMs = values.quick ? 500 : 1500;
const tool = fileURLToPath(new URL('../../build/bench/bench/native/handshakes', import.meta.url));

interface Measured {
  /** CPU of one handshake, at a calm rate and in the flood. */
  readonly calmNs: number;
  readonly floodNs: number;
  readonly answeredPerSecond: number;
  /** Of those the flood began. */
  readonly lost: number;
}

/** What bench/native/handshakes.cc prints. */
interface Calm {
  readonly sent: number;
  readonly completed: number;
}
interface Flood {
  readonly completed: number;
  readonly lost: number;
  readonly ns: number;
}

function pinned(implementation: Implementation): Implementation {
  return { ...implementation, command: ['taskset', '-c', '1', ...implementation.command] };
}

async function start(implementation: Implementation, peers: string): Promise<WireguardInterface> {
  console.error(`  starting ${implementation.title} …`);
  const responder = await WireguardInterface.start(pinned(implementation));
  // Any address of it is the namespace's own: every initiator gets one.
  await responder.namespace.ip('route add local 10.250.0.0/16 dev lo');
  await responder.addPeers(peers);
  await responder.up('10.64.0.1');
  return responder;
}

async function measure(responder: WireguardInterface): Promise<Measured> {
  await sleep(AFTER_FLOOD_MS);
  const run = async (...mode: readonly string[]): Promise<[text: string, cpuNs: number]> => {
    const before = responder.cpu();
    const text = await mustRun('taskset', [
      ...['-c', '0', tool, '--netns', responder.netns, '--to', '127.0.0.1', '--port', String(PORT)],
      ...['--public-key', Buffer.from(responder.publicKey, 'base64').toString('hex')],
      ...mode,
    ]);
    return [text, responder.cpu() - before];
  };
  const calmCount = CALM_PER_SECOND;
  const [calmText, calmCpu] = await run('--count', String(calmCount), '--rate', String(CALM_PER_SECOND));
  const calm = JSON.parse(calmText) as Calm;
  if (calm.completed < calm.sent)
    throw new Error(`${responder.implementation.title}: ${calm.completed} of ${calm.sent} handshakes`);
  const [floodText, floodCpu] = await run('--count', String(PEERS), '--flood', String(floodMs));
  const flood = JSON.parse(floodText) as Flood;
  return {
    calmNs: calmCpu / calm.completed,
    floodNs: floodCpu / flood.completed,
    answeredPerSecond: (flood.completed * 1e9) / flood.ns,
    lost: flood.lost / (flood.completed + flood.lost),
  };
}

async function main(): Promise<number> {
  const missing = labUnavailable(['wg', 'taskset']);
  if (missing !== undefined || availableParallelism() < 2) {
    console.error(`skipped: the handshake benchmark ${missing ?? 'needs two cores'}`);
    return 0;
  }
  const { present, skipped } = wireguardImplementations();
  for (const reason of skipped) console.error(`skipped: ${reason}`);
  const peers = await mustRun(tool, ['--config', '--count', String(PEERS)]);
  const responders: WireguardInterface[] = [];
  for (const implementation of present) responders.push(await start(implementation, peers));

  const results = new Map<ImplementationName, Measured[]>();
  for (let round = 0; round <= rounds; round++) {
    const order = round % 2 === 0 ? responders : responders.toReversed();
    for (const responder of order) {
      const measured = await measure(responder);
      const kept = results.get(responder.implementation.name) ?? [];
      if (round > 0) results.set(responder.implementation.name, [...kept, measured]);
    }
  }

  if (values.json) {
    console.log(
      JSON.stringify({ rounds, peers: PEERS, skipped, results: Object.fromEntries(results) }, undefined, 1),
    );
    return 0;
  }
  const of = (name: ImplementationName, field: keyof Measured): number[] | undefined =>
    results.get(name)?.map((measured) => measured[field]);
  const cell = (name: ImplementationName, field: keyof Measured, unit: number): string => {
    const found = of(name, field);
    return spreadText(found && spread(found), unit);
  };
  const rows = present.map(({ name, title }) => [
    title,
    cell(name, 'calmNs', 1000),
    cell(name, 'floodNs', 1000),
    cell(name, 'answeredPerSecond', 1),
    cell(name, 'lost', 0.01),
  ]);
  const heads = [
    `${PEERS} peers, one core`,
    `CPU µs at ${CALM_PER_SECOND}/s`,
    'CPU µs in a flood',
    'answered per second',
    'lost %',
  ];
  console.log(columns([heads, ...rows]).join('\n'));
  for (const name of ['newest', 'debian'] as const) {
    const over = ratio(of('omerta', 'answeredPerSecond'), of(name, 'answeredPerSecond'));
    const title = present.find((implementation) => implementation.name === name)?.title;
    if (title !== undefined) console.log(`answered per second over ${title}: ${spreadText(over)}`);
  }
  return 0;
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    return 1;
  }),
);
