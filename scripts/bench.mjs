// npm run bench: the benchmarks under bench/, one after the other.

import { basename } from 'node:path';
import { attached } from './lib/command.mjs';
import { build } from './lib/build.mjs';
import { setup } from './lib/setup.mjs';
import { filesUnder } from './lib/stamp.mjs';
import { main } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run bench [-- NAME ...]

Runs every bench/*.bench.ts whose name contains one of NAMEs (all of them without a NAME).`;

await main(async () => {
  const { positionals } = readArguments(HELP, {}, { positionals: true });
  await setup(['build', 'lab']);
  await build({ nativeTests: true });
  const all = filesUnder(['dist/bench'], (file) => file.endsWith('.bench.js'));
  const wanted = all.filter(
    (file) => positionals.length === 0 || positionals.some((name) => basename(file).includes(name)),
  );
  if (wanted.length === 0) {
    console.error(
      `No benchmark ${positionals.join(', ')}. There are: ${all.map((file) => basename(file, '.bench.js')).join(', ') || 'none'}`,
    );
    return 1;
  }
  let failed = 0;
  for (const file of wanted) {
    console.log(`\n# ${basename(file, '.bench.js')}`);
    if ((await attached(process.execPath, ['--expose-gc', file])) !== 0) failed++;
  }
  return failed === 0 ? 0 : 1;
});
