// npm run package:prebuild: puts this machine's addon where a package carries it.

import { copyFileSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { quietly } from './lib/command.mjs';
import { ADDON, PREBUILT, buildNative, loads } from './lib/native.mjs';
import { root } from './lib/paths.mjs';
import { setup } from './lib/setup.mjs';
import { main, step } from './lib/steps.mjs';
import { readArguments } from './lib/usage.mjs';

const HELP = `Usage: npm run package:prebuild

Builds the addon and puts it, without debug information, into ${PREBUILT}:
the layout from which node-gyp-build loads. \`npm pack\` then includes it.`;

await main(async () => {
  readArguments(HELP);
  await setup(['build']);
  await buildNative({ tests: true, required: true });
  await step(PREBUILT, async () => {
    const target = join(root, PREBUILT);
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(join(root, ADDON), target);
    await quietly('prebuild', 'strip', ['--strip-unneeded', target]);
    if (!loads(PREBUILT)) throw new Error('Node cannot load the stripped addon');
    return `${Math.round(statSync(target).size / 1024)} KiB`;
  });
});
