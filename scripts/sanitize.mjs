// npm run sanitize: the native tests under AddressSanitizer with UBSan, and under ThreadSanitizer.

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { hasProgram, quietly } from './lib/command.mjs';
import { root } from './lib/paths.mjs';
import { setup } from './lib/setup.mjs';
import { StepFailed, main, step, warn } from './lib/steps.mjs';
import { canCompile } from './lib/system-packages.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run sanitize [-- NAME ...]

Builds the native tests with AddressSanitizer and UndefinedBehaviorSanitizer (build/address,undefined)
and with ThreadSanitizer (build/thread), and runs those whose name contains one of NAMEs, all of them
without a NAME. One finding fails a test. Full output: build/logs/sanitize-*.log`;

/** What ctest says it ran: how many, and which. */
function ran(text) {
  const names = [...text.matchAll(/^ *\d+\/\d+ Test +#\d+: (\S+) \.+(?:\*+)? *(\w+)/gm)].map(
    ([, name, outcome]) => (outcome === 'Passed' ? name : `${name} (${outcome.toLowerCase()})`),
  );
  return `${names.length} ran: ${names.sort().join(' ')}`;
}

async function run(sanitizers, names) {
  const build = join(root, 'build', sanitizers);
  const log = `sanitize-${sanitizers.replace(',', '-')}`;
  await step(`native tests under ${sanitizers.replace(',', ' and ')}`, async (say) => {
    const configure = [
      ...['-S', root, '-B', build],
      ...(hasProgram('ninja') ? ['-G', 'Ninja'] : []),
      `-DOMERTA_SANITIZE=${sanitizers}`,
      '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
      // Half the time of -O2 -g to compile; a report names lines all the same.
      '-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1 -DNDEBUG',
    ];
    await quietly(log, 'cmake', configure, { say });
    const parallel = ['--parallel', String(availableParallelism())];
    await quietly(log, 'cmake', ['--build', build, ...parallel], { say, append: true });
    const filter = names.length > 0 ? ['-R', names.join('|')] : [];
    const tests = ['--test-dir', build, '--output-on-failure', '--timeout', '600', '--no-tests=error'];
    await quietly(log, 'ctest', [...tests, ...filter], { say, append: true });
    return ran(readFileSync(join(root, 'build/logs', `${log}.log`), 'utf8'));
  });
}

await main(async () => {
  const { positionals } = readArguments(HELP, {}, { positionals: true });
  await setup(['build']);
  if (!canCompile()) {
    warn('skipped: no C++ compiler or no CMake here');
    return 0;
  }
  let failed = 0;
  for (const sanitizers of ['address,undefined', 'thread']) {
    await run(sanitizers, positionals).catch((error) => {
      if (!(error instanceof StepFailed)) throw error;
      failed++;
    });
  }
  return failed === 0 ? 0 : 1;
});
