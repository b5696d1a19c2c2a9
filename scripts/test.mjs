// npm test and npm run test:long: build what changed and run the tests there are, saying what was skipped and why.

import { build } from './lib/build.mjs';
import { prepareGuestImage } from './lib/guest-image.mjs';
import { buildFuzzers, fuzzingUnavailable, scriptTargets, tryTargets } from './lib/fuzz.mjs';
import { runNativeTests } from './lib/native-tests.mjs';
import { isLong, LONG, runNodeTests } from './lib/node-tests.mjs';
import { setup } from './lib/setup.mjs';
import { filesUnder } from './lib/stamp.mjs';
import { StepFailed, main, step, warn } from './lib/steps.mjs';
import { TestResults } from './lib/test-results.mjs';
import { readArguments } from './lib/usage.mjs';

/** Of every fuzz target, after the replay of its inputs: enough to see that it still fuzzes. */
const FUZZ_SECONDS = 1;

const HELP = `Usage: npm test [-- PATH ...]
       npm run test:long

Builds what changed, then runs the native tests beside the inputs of each fuzz target and ${FUZZ_SECONDS} s more
of it, and then the TypeScript tests, the longest first. Ends with the skipped tests, their reasons, and one line of totals.
  PATH        run only TypeScript tests whose path contains PATH, e.g. \`npm test -- test/lab\`: long ones too
  test:long   the ${LONG.length} files of TypeScript tests that npm test leaves to it, and nothing else`;

/** Which TypeScript tests are asked for. */
function isWanted(file, paths, long) {
  if (paths.length > 0) return paths.some((path) => file.includes(path.replace(/\.ts$/, '')));
  return isLong(file) === long;
}

/** Runs a part of the tests; a step that fails is one failed test, and the other parts still run. */
async function part(name, results, work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    results.fail(name);
    return undefined;
  }
}

/** What can be fuzzed here. */
async function fuzzTargets(results) {
  const reason = fuzzingUnavailable();
  if (reason !== undefined) results.skip('fuzz targets in C++', reason);
  const native = reason === undefined ? await part('fuzz targets', results, buildFuzzers) : undefined;
  return [...(native ?? []), ...scriptTargets()];
}

/** The native tests, which wait for much, and the fuzz targets, which compute, at the same time. */
async function nativeTestsAndFuzzers(hasNative, results) {
  if (!hasNative) results.skip('native tests', 'the native engine could not be built');
  const targets = await fuzzTargets(results);
  const broken = [];
  const fuzz = `the inputs of ${targets.length} fuzz targets, and ${FUZZ_SECONDS} s more of each`;
  await step(hasNative ? `native tests; ${fuzz}` : fuzz, (say) =>
    Promise.all([
      hasNative
        ? runNativeTests(results, { say }).catch((error) => broken.push(['native tests', error]))
        : undefined,
      tryTargets(targets, FUZZ_SECONDS, {
        say,
        passed: () => results.pass(),
        failed: ({ name }, error) => {
          results.fail(`fuzz: ${name}`);
          broken.push([`fuzz ${name}`, error]);
        },
      }),
    ]).then(() => (broken.length === 0 ? undefined : `broken: ${broken.map(([name]) => name).join(', ')}`)),
  );
  for (const [name, error] of broken) warn([`${name}: ${error.message}`, error.detail ?? ''].join('\n'));
}

await main(async () => {
  const { positionals, values } = readArguments(
    HELP,
    { long: { type: 'boolean', default: false } },
    { positionals: true },
  );
  const results = new TestResults();
  const built = await part('build', results, async () => {
    await setup(['build', 'lab', 'guest']);
    const native = await build({ nativeTests: true });
    await prepareGuestImage();
    return { native };
  });
  if (built !== undefined) {
    if (positionals.length === 0 && !values.long) await nativeTestsAndFuzzers(built.native, results);
    const files = filesUnder(['dist/test'], (file) => file.endsWith('.test.js')).filter((file) =>
      isWanted(file, positionals, values.long),
    );
    if (files.length > 0) await runNodeTests(files, results);
  }
  if (positionals.length === 0 && !values.long)
    console.log(`${LONG.length} files of tests that take long are not among these. Type: npm run test:long`);
  results.print();
  return results.exitCode;
});
