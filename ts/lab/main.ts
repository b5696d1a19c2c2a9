// npm run lab: shows the shipped binary at work and measures it. Options are explained by
// `npm run lab -- --help` (scripts/lab.mjs).

import { parseArgs } from 'node:util';
import { exitLab } from './exit-lab.js';
import { failover } from './failover.js';
import { tcpThroughput } from './iperf.js';
import { matrix } from './matrix.js';
import { MeshPair } from './mesh-pair.js';
import { UsageError, positive } from './options.js';
import { ping } from './ping.js';
import { Report, formatMs, formatRate } from './report.js';
import { labUnavailable } from './requirements.js';
import { wireguardGo } from './wireguard-go.js';
import { World, removeKeptWorlds } from './world.js';

const MIN_MEGABITS = 300;
const MAX_OUTAGE_MS = 5000;
const PING_INTERVAL_MS = 5;
/** Measurements alternate between the peers this often, so that a busy machine hits both. */
const ROUNDS = 2;

interface Options {
  readonly seconds: number;
  readonly pings: number;
  readonly peer: boolean;
  readonly json: boolean;
  readonly keep: boolean;
  readonly remove: boolean;
}

function readOptions(): Options {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        seconds: { type: 'string', default: '10' },
        pings: { type: 'string', default: '1000' },
        peer: { type: 'string' },
        json: { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        remove: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  if (values.peer !== undefined && values.peer !== 'wireguard-go') {
    throw new UsageError(`--peer knows wireguard-go, not "${values.peer}"`);
  }
  return {
    ...values,
    seconds: positive('seconds', values.seconds),
    pings: positive('pings', values.pings),
    peer: values.peer !== undefined,
  };
}

const say = (text: string): void => console.error(`· ${text}`);

async function measurePings(pair: MeshPair, report: Report, count: number): Promise<void> {
  const { left, right } = pair;
  const targets: [family: string, address: string, pings: number][] = [['IPv6', right.ipv6, count]];
  if (right.ipv4 !== undefined) targets.unshift(['IPv4', right.ipv4, Math.min(count, 100)]);
  for (const [family, address, pings] of targets) {
    say(`${pings} pings to ${address}`);
    const { sent, lost, p50, p99, max } = await ping(left.omerta.node, address, pings, PING_INTERVAL_MS);
    report.judge(`${family}: pings lost of ${sent}`, String(lost), '0', lost === 0, { sent, lost });
    report.note(`${family}: ping p50 / p99 / max`, [p50, p99, max].map(formatMs).join(' / '), {
      p50,
      p99,
      max,
    });
  }
}

async function measureThroughput(
  pair: MeshPair,
  world: World,
  report: Report,
  options: Options,
): Promise<void> {
  const own: number[] = [];
  const shares: number[] = [];
  const measureOwn = async (): Promise<void> => {
    say(`TCP through Omerta for ${options.seconds} s`);
    const { megabitsPerSecond, bytes, relayedBytes } = await pair.throughput(options.seconds);
    own.push(megabitsPerSecond);
    shares.push(relayedBytes / bytes);
  };
  const best = (rates: readonly number[]): number => Math.max(...rates);
  if (!options.peer) await measureOwn();
  else {
    const [first, second] = [await world.addNode('wg-first'), await world.addNode('wg-second')];
    const [, address] = await wireguardGo(first, second);
    const theirs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      await measureOwn();
      say(`TCP through wireguard-go for ${options.seconds} s`);
      theirs.push((await tcpThroughput(first, second, address, options.seconds)).megabitsPerSecond);
    }
    report.note('TCP, one stream, wireguard-go, without relay', formatRate(best(theirs)), {
      megabitsPerSecond: best(theirs),
    });
    const { p50, p99, max } = await ping(first, address, options.pings, PING_INTERVAL_MS);
    report.note(
      'ping p50 / p99 / max, wireguard-go, without relay',
      [p50, p99, max].map(formatMs).join(' / '),
    );
  }
  const share = Math.min(...shares);
  report.judge('bytes through the relay per byte delivered', share.toFixed(2), '≥ 1', share >= 1, { share });
  const rate = best(own);
  report.judge('TCP, one stream', formatRate(rate), `≥ ${MIN_MEGABITS} Mbit/s`, rate >= MIN_MEGABITS, {
    megabitsPerSecond: rate,
  });
}

async function measure(world: World, options: Options): Promise<{ pair: MeshPair; report: Report }> {
  const report = new Report();
  const pair = await MeshPair.start(world, say);
  const { engine } = await pair.status();
  report.note('engine', `${engine.summary}, ${engine.aead}`);
  const { registered, serving, firstPacket } = pair.times;
  report.note('first node: omerta up until registered', formatMs(registered), { milliseconds: registered });
  report.note('second node: omerta up until it serves', formatMs(serving), { milliseconds: serving });
  report.note('from then to the first packet there and back', formatMs(firstPacket), {
    milliseconds: firstPacket,
  });
  const handshake = await pair.handshake();
  report.judge(
    'handshake between the two nodes, end to end',
    handshake === undefined ? 'none' : `done ${handshake.age} s ago, by way of ${handshake.endpoint}`,
    'done',
    handshake !== undefined,
  );
  await measurePings(pair, report, options.pings);
  const path = await pair.path();
  report.judge('path in use', path, 'relay (these two NATs)', path === 'relay');
  await measureThroughput(pair, world, report, options);
  say('the relay is killed and started again');
  const { lost, milliseconds } = await pair.killRelay();
  report.judge(
    'relay killed (SIGKILL) and restarted: tunnel back after',
    `${formatMs(milliseconds)}, ${lost} pings of 20 ms lost`,
    `≤ ${formatMs(MAX_OUTAGE_MS)}`,
    milliseconds <= MAX_OUTAGE_MS,
    { milliseconds, lost },
  );
  return { pair, report };
}

function howToLookAround(pair: MeshPair): string {
  const { relay, left, right } = pair;
  return [
    'The world is still running. Look around with:',
    `  ${left.omerta.shellCommand('status')}`,
    `  ${relay.shellCommand('status')}`,
    `  nsenter --net=/run/netns/${left.omerta.node.name} -- ping ${right.ipv6}`,
    'Remove it with:',
    '  npm run lab -- --remove',
  ].join('\n');
}

async function main(): Promise<number> {
  const [command, ...rest] = process.argv.slice(2);
  if (command === 'exit') {
    const unavailable = labUnavailable(['ping', 'curl', 'tcpdump', 'python3']);
    if (unavailable === undefined) return exitLab(rest);
    console.error(`The lab cannot run here: ${unavailable}.`);
    return process.getuid?.() === 0 ? 1 : 4;
  }
  if (command === 'matrix' || command === 'failover') {
    const unavailable = labUnavailable(['ping']);
    if (unavailable === undefined) return command === 'matrix' ? matrix(rest) : failover(rest);
    console.error(`The lab cannot run here: ${unavailable}.`);
    return process.getuid?.() === 0 ? 1 : 4;
  }
  const options = readOptions();
  const reason = labUnavailable(['ping', 'iperf3', 'ss', ...(options.peer ? ['wireguard-go', 'wg'] : [])]);
  if (reason !== undefined) {
    console.error(`The lab cannot run here: ${reason}.`);
    return process.getuid?.() === 0 ? 1 : 4;
  }
  if (options.remove) {
    const removed = removeKeptWorlds();
    console.error(removed.length === 0 ? 'No world was kept.' : `Removed ${removed.join(', ')}.`);
    return 0;
  }
  const world = await World.create({ keep: options.keep });
  try {
    const { pair, report } = await measure(world, options);
    if (options.json) console.log(JSON.stringify({ met: !report.failed, results: report.results }, null, 2));
    else console.log(`\n${report.table()}`);
    if (options.keep) console.error(`\n${howToLookAround(pair)}`);
    return report.failed ? 1 : 0;
  } finally {
    if (!options.keep) world.remove();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
