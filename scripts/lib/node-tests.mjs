// node:test over dist/test, shown by its own spec reporter and counted.

import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { PassThrough } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { endDescendantsOnSignal, endWithNpm } from './descendants.mjs';
import { root } from './paths.mjs';

// A file that hangs fails rather than holding everything up.
const FILE_TIMEOUT_MS = 10 * 60_000;

/**
 * The files that take longest, the longest first: begun at the end, one of them would run alone. Times are
 * those of `npm test` on two processors, which are in build/logs/node-tests.log after each.
 */
export const LONGEST = [
  'lab/special-cells',
  'lab/exit-refused',
  'lab/relay-policy',
  'sim/mesh',
  'lab/nat-behaviour',
  'lab/routes',
  'lab/guard',
  'tunnel/accelerators',
  'sim/direct-paths',
  'lab/path-mtu',
  'sim/nat-behaviour',
  'lab/one-family',
  'sim/path-failover',
  'cli/relay',
  'lab/exit-kernel',
  'lab/private-exit',
  'sim/standing-policy',
  'lab/exit-leaks',
  'lab/port-mapping',
  'lab/kernel-path',
  'lab/kernel-path-upgrade',
  'lab/wireguard-relay',
  'lab/stranger-flood',
  'cli/bad-input',
  'lab/path-policy',
  'core/strangers',
  'lab/bpftrace',
  'lab/standing-policy',
  'lab/relay-chain',
  'lab/private-network',
  'core/tables',
  'lab/udp-blocked',
  'lab/kernel-path-wireguard',
  'sim/port-search',
  'lab/shaping',
  'sim/relay-away',
  'lab/padding',
  'sim/relay-limits',
  'wg/roaming',
  'lab/exit-configured',
  'sim/path-policy',
];

/**
 * Those that send as much as the machine takes, or measure what it carries: one of them at a time, beside others
 * that wait more than they compute.
 */
export const LOADING = [
  'lab/relay-policy',
  'lab/path-mtu',
  'tunnel/accelerators',
  'lab/kernel-path-upgrade',
  'lab/stranger-flood',
  'lab/shaping',
  'lab/garbage-flood',
  'lab/instruments',
  'lab/mesh',
  'lab/relay-path-mtu',
  'wg/suites',
  'wg/tools',
];

/** Most tests wait for other processes or for time to pass, so there are more of them than processors. */
const CONCURRENCY = availableParallelism() + 2;
/** Where the times of the files of the last run are. */
const TIMES = join(root, 'build/logs/node-tests.log');

const isOneOf = (names, file) => names.some((name) => file.endsWith(`test/${name}.test.js`));

/** The files with those of LONGEST first, the others as they were. */
export function longestFirst(files) {
  const rank = (file) => {
    const at = LONGEST.findIndex((name) => isOneOf([name], file));
    return at === -1 ? LONGEST.length : at;
  };
  return files.toSorted((a, b) => rank(a) - rank(b));
}

/** What runs at the same time: files, and how many of them. */
export function lanesOf(files) {
  const loading = files.filter((file) => isOneOf(LOADING, file));
  const others = files.filter((file) => !isOneOf(LOADING, file));
  if (loading.length === 0 || others.length === 0)
    return [{ files, concurrency: loading.length === 0 ? CONCURRENCY : 1 }];
  return [
    { files: longestFirst(loading), concurrency: 1 },
    { files: longestFirst(others), concurrency: CONCURRENCY - 1 },
  ];
}

/** The events of several streams as one. */
function merged(streams) {
  const all = new PassThrough({ objectMode: true });
  let open = streams.length;
  for (const stream of streams) {
    stream.on('data', (event) => {
      // How many there were in this stream; the totals are of all.
      if (event.type !== 'test:diagnostic' || event.data.nesting !== 0) all.write(event);
    });
    stream.on('end', () => {
      if (--open === 0) all.end();
    });
  }
  return all;
}

/** Runs the test files, several at a time, and adds their outcomes to `results`. */
export async function runNodeTests(files, results) {
  endDescendantsOnSignal();
  endWithNpm();
  const times = [];
  const lanes = lanesOf(files).map((lane) => run({ ...lane, timeout: FILE_TIMEOUT_MS }));
  for (const stream of lanes) watch(stream, files, results, times);
  for await (const text of merged(lanes).compose(new spec())) process.stdout.write(text);
  const own = times.filter(({ file }) => file.startsWith('dist/test/'));
  if (own.length === 0) return; // files that a test made
  mkdirSync(dirname(TIMES), { recursive: true });
  const lines = own
    .toSorted((a, b) => b.seconds - a.seconds)
    .map(({ seconds, file }) => `${seconds.toFixed(1)} s ${file}\n`);
  writeFileSync(TIMES, lines.join(''));
}

/** Adds what a stream of events tells to `results`, and how long each file took to `times`. */
function watch(stream, files, results, times) {
  const name = (event) => `${relative(root, event.file ?? '')}: ${event.name}`;
  // The runner reports a file as a test of its own when the file had none or broke before any ran.
  const isFile = (event) => files.includes(event.name) || files.includes(`${root}/${event.name}`);
  stream.on('test:pass', (event) => {
    if (event.details?.type === 'suite' && event.skip === undefined) return;
    if (event.skip !== undefined)
      results.skip(
        name(event),
        typeof event.skip === 'string' && event.skip !== '' ? event.skip : 'no reason given',
      );
    else if (event.todo !== undefined) results.skip(name(event), 'to do');
    else if (isFile(event)) results.fail(`${relative(root, event.name)} holds no test`);
    else results.pass();
  });
  stream.on('test:fail', (event) => {
    // A parent fails because of its children, which are listed themselves.
    if (event.details?.error?.failureType === 'subtestsFailed') return;
    results.fail(name(event));
  });
  stream.on('test:complete', (event) => {
    if (isFile(event))
      times.push({ seconds: event.details.duration_ms / 1000, file: relative(root, resolve(event.name)) });
  });
}
