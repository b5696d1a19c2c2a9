// The C++ and BPF tests, run by ctest in build/native.

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { quietly } from './command.mjs';
import { root } from './paths.mjs';

const LOG = 'native-tests';

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

/** Adds what ctest runs to `results`. An error when one fails, with what the failed ones said as its detail. */
export async function runNativeTests(results, { say }) {
  const junit = join(root, 'build/native/tests.xml');
  rmSync(junit, { force: true });
  const options = ['--output-on-failure', '--parallel', '3', '--timeout', '300', '--no-tests=error'];
  const args = ['--test-dir', 'build/native', '--output-junit', junit, ...options];
  try {
    await quietly(LOG, 'ctest', args, { say });
  } catch (error) {
    const log = readFileSync(join(root, 'build/logs', `${LOG}.log`), 'utf8');
    error.detail = log.replace(/^ +Start +\d+: .*\n|^ *\d+\/\d+ Test .* Passed .*\n/gm, '');
    throw error;
  } finally {
    if (existsSync(junit)) readJUnit(readFileSync(junit, 'utf8'), results);
    else results.fail('native: ctest ran no test');
  }
}
