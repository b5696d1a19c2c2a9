// npm run lab -- failover: the path two nodes use dies while another is there.

import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { failoverSubjects, type FailoverSubject } from './failover-subjects.js';
import { UsageError, positive } from './options.js';
import { PingWatch } from './ping.js';
import { formatMs, formatTable } from './report.js';
import { percentile } from './statistics.js';
import { World, type Node } from './world.js';

/** Between two pings. */
const PING_MS = 5;
/** Replies have come without a gap for so long: data flows again, or the tunnel is at rest before the next run. */
const STEADY_MS = 500;
/** How long a tunnel may take to come up, or to find another path. */
const PATIENCE_MS = 30_000;
/** After so many runs in a row without data within PATIENCE_MS a subject is done. */
const MOST_FAILURES = 2;
/** From the path's return to the next run: it has to be found alive again. */
const REST_MS = 5000;
const SAMPLE_MS = 300;

/** What the data plane promises. */
const MARK = { p50: 150, p99: 400 };

export interface FailoverRun {
  /** The longest time without an answer; undefined: none came within PATIENCE_MS. */
  readonly gapMs: number | undefined;
  /** Pings that were never answered. */
  readonly lost: number;
}

export interface FailoverResult {
  readonly name: FailoverSubject['name'];
  readonly title: string;
  readonly runs: readonly FailoverRun[];
}

/** Which of a node's two uplinks the tunnel's packets leave by: the one that sent more just now. */
async function uplinkInUse(world: World, uplinks: readonly string[]): Promise<string> {
  const count = (): Promise<number[]> => Promise.all(uplinks.map((address) => world.sentBy(address)));
  const before = await count();
  await sleep(SAMPLE_MS);
  const sent = (await count()).map((after, index) => after - (before[index] ?? 0));
  const most = uplinks[sent.indexOf(Math.max(...sent))];
  if (most === undefined) throw new Error('no uplink');
  return most;
}

async function uplinksOf(node: Node): Promise<string[]> {
  const printed = await node.mustRun('ip', ['-4', '-o', 'address', 'show', 'scope', 'global']);
  return [...printed.matchAll(/ eth\d\s+inet ([\d.]+)\//g)].map(([, address]) => address ?? '');
}

async function measure(
  subject: FailoverSubject,
  runs: number,
  say: (text: string) => void,
): Promise<FailoverResult> {
  const world = await World.create();
  const results: FailoverRun[] = [];
  try {
    const { left, inner } = await subject.start(world);
    const uplinks = await uplinksOf(left);
    const watch = PingWatch.start(left, inner, PING_MS);
    if (!(await watch.steady(STEADY_MS, PATIENCE_MS)))
      throw new Error(`${subject.title}: no tunnel within 30 s`);
    await sleep(REST_MS);
    let failures = 0;
    for (let run = 1; run <= runs && failures < MOST_FAILURES; run++) {
      const uplink = await uplinkInUse(world, uplinks);
      const before = watch.seen().lost;
      const cut = performance.now();
      await world.cut(uplink);
      const back = await watch.steady(STEADY_MS, PATIENCE_MS);
      const gapMs = back ? watch.longestGap(cut) : undefined;
      await world.cut(uplink, false);
      if (!(await watch.steady(STEADY_MS, PATIENCE_MS)))
        throw new Error(`${subject.title}: no data on two paths`);
      results.push({ gapMs, lost: watch.seen().lost - before });
      failures = back ? 0 : failures + 1;
      say(`${subject.title}: run ${run} of ${runs}: ${back ? formatMs(gapMs) : 'no data within 30 s'}`);
      await sleep(REST_MS);
    }
    watch.close();
  } finally {
    world.remove();
  }
  return { name: subject.name, title: subject.title, runs: results };
}

export function failoverTable(results: readonly FailoverResult[]): string {
  const rows = results.map(({ title, runs }) => {
    const gaps = runs.map(({ gapMs }) => gapMs ?? Infinity);
    const at = (fraction: number): string => {
      const gap = percentile(gaps, fraction);
      return gap === Infinity ? `over ${formatMs(PATIENCE_MS)}` : formatMs(gap);
    };
    const lost = runs.map((run) => run.lost);
    return [
      title,
      String(runs.length),
      at(0.5),
      at(0.99),
      at(1),
      `${percentile(lost, 0.5) ?? 0} / ${Math.max(0, ...lost)}`,
    ];
  });
  return formatTable([['', 'runs', 'p50', 'p99', 'max', 'pings lost, median / max'], ...rows]);
}

/** Whether Omerta's runs are within what is promised. */
export function failoverMet(results: readonly FailoverResult[]): boolean {
  const gaps =
    results.find(({ name }) => name === 'omerta')?.runs.map(({ gapMs }) => gapMs ?? Infinity) ?? [];
  return (percentile(gaps, 0.5) ?? 0) < MARK.p50 && (percentile(gaps, 0.99) ?? 0) < MARK.p99;
}

/** @returns the exit code: 1 when Omerta took longer than it should. */
export async function failover(args: readonly string[]): Promise<number> {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        runs: { type: 'string', default: '20' },
        only: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  const { only } = values;
  const runs = positive('runs', values.runs);
  const { present, skipped } = failoverSubjects();
  const unknown = only.find((name) => !['omerta', 'wireguard-go', 'nebula'].includes(name));
  if (unknown !== undefined)
    throw new UsageError(`--only wants omerta, wireguard-go or nebula, not "${unknown}"`);
  for (const reason of skipped) console.error(`· skipped: ${reason}`);
  const results: FailoverResult[] = [];
  for (const subject of present)
    if (only.length === 0 || only.includes(subject.name))
      results.push(await measure(subject, runs, (text) => console.error(`· ${text}`)));
  const met = failoverMet(results);
  if (values.json) console.log(JSON.stringify({ met, results, skipped }, null, 2));
  else console.log(`\n${failoverTable(results)}`);
  return met ? 0 : 1;
}
