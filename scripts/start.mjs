// npm start: from a fresh clone to a running relay.

import { join } from 'node:path';
import { build } from './lib/build.mjs';
import { root } from './lib/paths.mjs';
import { setup } from './lib/setup.mjs';
import { main } from './lib/steps.mjs';

const HELP = `Usage: npm start [-- RELAY OPTIONS]

Installs and builds what is missing, then runs \`bin/omerta relay\` with the given options.
\`bin/omerta relay --help\` lists them; \`npm start -- --port 51820\` is an example.`;

await main(async () => {
  const relayOptions = process.argv.slice(2);
  if (relayOptions.includes('--help') || relayOptions.includes('-h')) {
    console.log(HELP);
    return;
  }
  await setup(['build']);
  await build();
  // This process becomes the relay, so that signals and the terminal reach it without a go-between.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.removeAllListeners(signal);
  // Ctrl-C arrives twice, from the terminal and from npm: the relay acts on the first one, and this
  // keeps the second from ending it in the middle. A third one ends it at once.
  let interrupts = 0;
  process.on('SIGINT', () => {
    if (++interrupts > 2) process.exit(130);
  });
  process.argv = [process.execPath, join(root, 'bin/omerta'), 'relay', ...relayOptions];
  await import('../dist/ts/cli/main.js');
});
