// node:test over dist/test, shown by its own spec reporter and counted.

import { relative } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { root } from './paths.mjs';

// A file that hangs fails rather than holding everything up.
const FILE_TIMEOUT_MS = 10 * 60_000;

/** Runs the test files two at a time and adds their outcomes to `results`. */
export async function runNodeTests(files, results) {
  const stream = run({ files, concurrency: 2, timeout: FILE_TIMEOUT_MS });
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
