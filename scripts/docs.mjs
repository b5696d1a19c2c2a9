// npm run docs: writes the tables in docs/ that are derived from the code.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildTypeScript } from './lib/build.mjs';
import { derivedTables, withTable } from './lib/derived-tables.mjs';
import { root } from './lib/paths.mjs';
import { setup } from './lib/setup.mjs';
import { ScriptError, main } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run docs

Writes the tables in docs/ that are derived from the code, between their marks. A test compares them.`;

await main(async () => {
  readArguments(HELP);
  await setup([]);
  await buildTypeScript();
  const load = (module) => import(pathToFileURL(join(root, 'dist', module)).href);
  for (const { file, name, module, render } of derivedTables) {
    const path = join(root, file);
    const before = readFileSync(path, 'utf8');
    const after = withTable(before, name, (await load(module))[render]());
    if (after === undefined) throw new ScriptError(`${file} has no marks for the table "${name}"`, 1);
    if (after !== before) writeFileSync(path, after);
    console.log(`${file}: "${name}" ${after === before ? 'is as in the code' : 'written'}`);
  }
});
