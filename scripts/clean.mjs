// npm run clean: removes what builds made.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './lib/paths.mjs';
import { main } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run clean [-- --all]

Removes build/ and dist/.
  --all   node_modules/ and prebuilds/ as well`;

await main(() => {
  const { values } = readArguments(HELP, { all: { type: 'boolean', default: false } });
  const folders = ['build', 'dist', ...(values.all ? ['node_modules', 'prebuilds'] : [])];
  for (const folder of folders) rmSync(join(root, folder), { recursive: true, force: true });
  console.log(`removed ${folders.join(', ')}`);
});
