// npm run-time hook (binding.gyp): builds the addon unless a prebuilt one for this platform loads.
// Never fails an installation: without a native engine the WASM engine carries the packets.

import { buildNative } from './lib/native.mjs';
import { main } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: node scripts/native.mjs [--required]

Builds build/native/omerta.node, or leaves it at a prebuilt addon that loads.
  --required   exit 1 when there is no native engine in the end (default: say so, exit 0)`;

await main(async () => {
  const { values } = readArguments(HELP, { required: { type: 'boolean', default: false } });
  await buildNative({ required: values.required });
});
