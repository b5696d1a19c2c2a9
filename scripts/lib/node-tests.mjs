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
  'lab/virtual-machine',
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
  'lab/machine-network',
  'provider/machine',
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

/**
 * Those that `npm run test:long` runs instead of `npm test`, which is to be over within 12 minutes on two processors: each
 * takes long, and the parts of it have tests of their own that stay.
 */
export const LONG = [
  'lab/special-cells', // of the NAT matrix: lab/direct-paths, lab/one-family, sim/direct-paths
  'lab/nat-behaviour', // sim/nat-behaviour
  'lab/exit-refused', // whom an exit refuses: sim/exit, exit/
  'lab/exit-leaks', // each row of the leak table: lab/guard, lab/exit-kernel
  'lab/port-mapping', // beside miniupnpd: core/port-mapping, and its fuzz target
  'provider/kvm-trial', // that /dev/kvm can be opened: provider/machine, without it
  'provider/machines-in-a-row', // what one machine leaves: provider/machine
  'sim/path-failover', // how soon data goes on: lab/failover, lab/path-policy, sim/path-policy
];

/** Most tests wait for other processes or for time to pass, so there are more of them than processors. */
const CONCURRENCY = availableParallelism() + 2;
/** Where the times of the files of the last run are. */
const TIMES = join(root, 'build/logs/node-tests.log');

const isOneOf = (names, file) => names.some((name) => file.endsWith(`test/${name}.test.js`));

/** Whether a file is one of LONG. */
export const isLong = (file) => isOneOf(LONG, file);

/** The files with those of LONGEST first, the others as they were. */
export function longestFirst(files) {
  const rank = (file) => {
    const at = LONGEST.findIndex((name) => isOneOf([name], file));
    return at === -1 ? LONGEST.length : at;
  };
  return files.toSorted((a, b) => rank(a) - rank(b));
}

/**
 * What runs at the same time: for each file that may run beside others, from which lists the next one is taken,
 * the first that is not empty. One takes those that load the machine, and then helps with the others.
 */
export function lanesOf(files) {
  const loading = longestFirst(files.filter((file) => isOneOf(LOADING, file)));
  const others = longestFirst(files.filter((file) => !isOneOf(LOADING, file)));
  return [[loading, others], ...Array.from({ length: CONCURRENCY - 1 }, () => [others])];
}

/** Runs the test files, several at a time, and adds their outcomes to `results`. */
export async function runNodeTests(files, results) {
  endDescendantsOnSignal();
  endWithNpm();
  // Each file is a run of its own, and each run listens to this process until it ends.
  process.setMaxListeners(0);
  const times = [];
  const shown = new PassThrough({ objectMode: true });
  const lane = async (lists) => {
    for (let from; (from = lists.find((list) => list.length > 0));) {
      const stream = run({ files: [from.shift()], timeout: FILE_TIMEOUT_MS });
      watch(stream, files, results, times);
      const events = await stream.toArray();
      // What a file says is shown together. How many tests there were in it is not: the totals are of all.
      for (const event of events)
        if (event.type !== 'test:diagnostic' || event.data.nesting !== 0) shown.write(event);
    }
  };
  const all = Promise.all(lanesOf(files).map(lane)).finally(() => shown.end());
  for await (const text of shown.compose(new spec())) process.stdout.write(text);
  await all;
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
    const { error } = event.details ?? {};
    if (error?.failureType === 'subtestsFailed') return;
    results.fail(name(event), [error?.failureType, error?.cause?.stack ?? error?.message].join(': '));
  });
  stream.on('test:complete', (event) => {
    if (isFile(event))
      times.push({ seconds: event.details.duration_ms / 1000, file: relative(root, resolve(event.name)) });
  });
}
