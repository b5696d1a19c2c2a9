// npm run fuzz: coverage-guided fuzzing of whatever reads bytes of others, in C++ and in TypeScript.

import { build } from './lib/build.mjs';
import {
  buildFuzzers,
  fuzzingUnavailable,
  replayTarget,
  runFuzzer,
  saveCrash,
  scriptTargets,
} from './lib/fuzz.mjs';
import { linesFile, prepareLines, reportCoverage } from './lib/fuzz-coverage.mjs';
import { setup } from './lib/setup.mjs';
import { ScriptError, StepFailed, main, warn } from './lib/steps.mjs';
import { positive, readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run fuzz [-- --minutes N] [NAME ...]

Builds the fuzz targets (C++: libFuzzer, AddressSanitizer, UBSan; TypeScript: test/fuzz/harness) and
runs each whose name contains one of NAMEs, all of them without a NAME, starting from
test/fuzz/corpus/TARGET.
  --minutes N   how long each target runs (default 1)
  --seconds N   the same in seconds
  --seed N      begins another sequence of mutations (default: by the clock)
  --keep        puts inputs that reach new code into the corpus, and the smallest of those that
                reach the same in the place of the others
  --replay      runs the inputs that are there, and makes none up
  --coverage    the same, and prints the lines they reach of the files that read bytes of others;
                fails where a file is below what scripts/lib/fuzz-coverage.mjs asks for
  --document    the same of all targets, and writes the table into docs/development.md
  --save FILE   makes a crash a regression: the smallest input found that breaks the target goes to
                test/fuzz/regressions/TARGET, which npm test replays
  --list        prints the targets

A crash ends with exit code 1; its input is in build/fuzz/crashes/TARGET.`;

await main(async () => {
  const { values, positionals } = readArguments(
    HELP,
    {
      seconds: { type: 'string' },
      minutes: { type: 'string' },
      seed: { type: 'string' },
      keep: { type: 'boolean', default: false },
      replay: { type: 'boolean', default: false },
      coverage: { type: 'boolean', default: false },
      document: { type: 'boolean', default: false },
      save: { type: 'string' },
      list: { type: 'boolean', default: false },
    },
    { positionals: true },
  );
  const seconds =
    values.seconds === undefined
      ? positive('minutes', values.minutes ?? '1') * 60
      : positive('seconds', values.seconds);
  const seed = Math.floor(positive('seed', values.seed ?? String((Date.now() % 2 ** 31) + 1)));
  await setup(['build', 'lab']);
  await build();
  const reason = fuzzingUnavailable();
  if (reason !== undefined) warn(`the C++ targets are left out: ${reason}`);
  const targets = [...(reason === undefined ? await buildFuzzers() : []), ...scriptTargets()];
  const names = targets.map((target) => target.name);
  if (values.list) {
    for (const name of names) console.log(name);
    return 0;
  }
  if (values.save !== undefined) {
    await saveCrash(values.save, targets);
    return 0;
  }
  if (values.document && (positionals.length > 0 || reason !== undefined))
    throw new ScriptError(`--document is of all targets${reason === undefined ? '' : `: ${reason}`}`, 2);
  const coverage = values.coverage || values.document;
  const wanted = targets.filter(
    ({ name }) => positionals.length === 0 || positionals.some((part) => name.includes(part)),
  );
  if (wanted.length === 0) {
    console.error(`No target ${positionals.join(', ')}. There are: ${names.join(', ')}`);
    return 1;
  }
  prepareLines();
  const failed = [];
  for (const target of wanted) {
    const work =
      values.replay || coverage
        ? replayTarget(target, coverage ? { lines: linesFile(target.name) } : {})
        : runFuzzer(target, Math.ceil(seconds), { keep: values.keep, seed });
    await work.catch((error) => {
      if (!(error instanceof StepFailed)) throw error;
      failed.push(target.name);
    });
  }
  if (failed.length > 0) console.error(`Broken: ${failed.join(', ')}`);
  const document = values.document && failed.length === 0 ? 'docs/development.md' : undefined;
  const covered = coverage ? reportCoverage(wanted, { document }) : true;
  return failed.length === 0 && covered ? 0 : 1;
});
