// node:test over dist/test, shown by its own spec reporter and counted.

import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { endDescendantsOnSignal, endWithNpm } from './descendants.mjs';
import { root } from './paths.mjs';

// A file that hangs fails rather than holding everything up.
const FILE_TIMEOUT_MS = 10 * 60_000;

/**
 * The files that take longest, the longest first: begun at the end, one of them would run alone. Times are
 * those of `npm test` on two processors.
 */
export const LONGEST = [
  'lab/exit-refused',
  'lab/exit-kernel',
  'lab/exit-leaks',
  'lab/exit-configured',
  'lab/routes',
  'lab/guard',
  'lab/path-mtu',
  'lab/relay-policy',
  'sim/direct-paths',
  'lab/nat-behaviour',
  'lab/port-mapping',
  'sim/path-failover',
  'sim/nat-behaviour',
  'lab/padding',
  'lab/path-policy',
  'lab/kernel-path-upgrade',
  'tunnel/accelerators',
  'lab/kernel-path',
  'lab/one-family',
  'lab/stranger-flood',
  'sim/standing-policy',
  'sim/mesh',
  'lab/standing-policy',
  'cli/relay',
  'lab/udp-blocked',
  'lab/special-cells',
  'lab/relay-chain',
  'lab/kernel-path-wireguard',
  'lab/bpftrace',
  'lab/wireguard-relay',
  'sim/relay-limits',
];

/** Most tests wait for other processes or for time to pass, so there are more of them than processors. */
const CONCURRENCY = availableParallelism() + 2;

/** The files with those of LONGEST first, the others as they were. */
export function longestFirst(files) {
  const rank = (file) => {
    const at = LONGEST.findIndex((name) => file.endsWith(`test/${name}.test.js`));
    return at === -1 ? LONGEST.length : at;
  };
  return files.toSorted((a, b) => rank(a) - rank(b));
}

/** Runs the test files, several at a time, and adds their outcomes to `results`. */
export async function runNodeTests(files, results) {
  endDescendantsOnSignal();
  endWithNpm();
  const stream = run({ files: longestFirst(files), concurrency: CONCURRENCY, timeout: FILE_TIMEOUT_MS });
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
  const shown = stream.compose(new spec());
  for await (const text of shown) process.stdout.write(text);
}
