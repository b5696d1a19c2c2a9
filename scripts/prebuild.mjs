// npm run package:prebuild: puts this machine's addon where a package carries it.

import { dirname, join } from 'node:path';
import { ADDON, PREBUILT, buildNative, loads } from './lib/native.mjs';
import { root } from './lib/paths.mjs';
import { putPrebuilt } from './lib/prebuild.mjs';
import { setup } from './lib/setup.mjs';
import { main, step } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run package:prebuild

Builds the addon and puts it, without debug information, into ${dirname(PREBUILT)}:
the layout from which node-gyp-build loads. \`npm pack\` then includes it.`;

await main(async () => {
  readArguments(HELP);
  await setup(['build']);
  await buildNative({ tests: true, required: true });
  await step(dirname(PREBUILT), async () => {
    const put = await putPrebuilt(dirname(join(root, ADDON)), dirname(PREBUILT), 'strip');
    if (!loads(PREBUILT)) throw new Error('Node cannot load the stripped addon');
    return put;
  });
});
