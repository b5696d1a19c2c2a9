// npm run fuzz: coverage-guided fuzzing of the C++ parsers.

import { basename } from 'node:path';
import { buildFuzzers, fuzzingUnavailable, runFuzzer } from './lib/fuzz.mjs';
import { setup } from './lib/setup.mjs';
import { StepFailed, main } from './lib/steps.mjs';
import { positive, readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run fuzz [-- --seconds N] [NAME ...]

Builds the libFuzzer targets with clang and AddressSanitizer and runs each whose name contains one
of NAMEs (all of them without a NAME), starting from test/fuzz/corpus/TARGET.
  --seconds N   how long each target runs (default 60)
  --keep        add inputs that reach new code to the corpus

A crash ends with exit code 1; its input is in build/fuzz/crashes/TARGET. To run it again:
  build/fuzz/native/fuzz/TARGET build/fuzz/crashes/TARGET/crash-...`;

await main(async () => {
  const { values, positionals } = readArguments(
    HELP,
    { seconds: { type: 'string', default: '60' }, keep: { type: 'boolean', default: false } },
    { positionals: true },
  );
  const seconds = positive('seconds', values.seconds);
  await setup(['build', 'lab']);
  const reason = fuzzingUnavailable();
  if (reason !== undefined) {
    console.error(`Cannot fuzz: ${reason}`);
    return 1;
  }
  const executables = await buildFuzzers();
  const wanted = executables.filter(
    (file) => positionals.length === 0 || positionals.some((name) => basename(file).includes(name)),
  );
  if (wanted.length === 0) {
    console.error(
      `No target ${positionals.join(', ')}. There are: ${executables.map((file) => basename(file)).join(', ') || 'none'}`,
    );
    return 1;
  }
  let failed = 0;
  for (const executable of wanted) {
    await runFuzzer(executable, seconds, { keep: values.keep }).catch((error) => {
      if (!(error instanceof StepFailed)) throw error;
      failed++;
    });
  }
  return failed === 0 ? 0 : 1;
});
