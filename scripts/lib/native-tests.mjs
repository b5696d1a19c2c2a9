// The C++ and BPF tests, run by ctest in build/native.

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { attached } from './command.mjs';
import { root } from './paths.mjs';

const unescape = (text) =>
  text.replace(
    /&(lt|gt|quot|apos|amp);/g,
    (_, name) => ({ lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' })[name],
  );

/** Adds the outcomes in a JUnit file written by ctest to `results`. */
export function readJUnit(xml, results) {
  for (const [, attributes, body = ''] of xml.matchAll(
    /<testcase\s([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g,
  )) {
    const attribute = (key) => unescape(new RegExp(`${key}="([^"]*)"`).exec(attributes)?.[1] ?? '');
    const name = `native: ${attribute('name')}`;
    const status = attribute('status');
    if (status === 'run') results.pass();
    else if (status === 'notrun' || status === 'disabled') {
      // A test skips by printing "SKIP: reason" and returning its SKIP_RETURN_CODE.
      const said = /SKIP(?:PED)?: ?([^<\n]*)/.exec(body)?.[1];
      const message = /<skipped message="([^"]*)"/.exec(body)?.[1];
      // CMake says "not run" of a skipped test and of one whose program is missing; the latter is a failure.
      if (said === undefined && message !== undefined && /not found|unable to find/i.test(message))
        results.fail(name);
      else results.skip(name, unescape(said ?? message ?? 'no reason given'));
    } else results.fail(name);
  }
}

/** Runs ctest and adds the outcomes to `results`. */
export async function runNativeTests(results) {
  const junit = join(root, 'build/native/tests.xml');
  rmSync(junit, { force: true });
  const options = ['--output-on-failure', '--parallel', '2', '--timeout', '300', '--no-tests=error'];
  await attached('ctest', ['--test-dir', 'build/native', '--output-junit', junit, ...options]);
  if (existsSync(junit)) readJUnit(readFileSync(junit, 'utf8'), results);
  else results.fail('native: ctest ran no test');
}
