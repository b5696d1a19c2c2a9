// npm run build: system packages, npm packages, native engine with its tests, WASM, TypeScript.

import { build } from './lib/build.mjs';
import { setup } from './lib/setup.mjs';
import { main } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run build [-- --native-required]

Builds everything that changed: the C++ addon, its tests and the BPF objects (build/native),
the WASM engine (dist/wasm) and the TypeScript (dist). Full output is in build/logs.
  --native-required   fail when the addon cannot be built, rather than going on with WASM`;

await main(async () => {
  const { values } = readArguments(HELP, { 'native-required': { type: 'boolean', default: false } });
  await setup(['build']);
  await build({ nativeTests: true, nativeRequired: values['native-required'] });
});
