// npm run sim: builds, then asks the simulator, in virtual time, what happens in many worlds.

import { join } from 'node:path';
import { attached } from './lib/command.mjs';
import { build } from './lib/build.mjs';
import { root } from './lib/paths.mjs';
import { setup } from './lib/setup.mjs';
import { main } from './lib/steps.mjs';

const HELP = `Usage: npm run sim -- paths [--runs N] [--fault-runs N] [--seed N] [--pair FROM/TO] [--fault NAME] [--json] [--chart FILE]

Runs the shipped protocol core over simulated engines, NATs and links, in virtual time; needs no root. The same options
give the same result on every machine.

paths: two members behind each pair of NATs, two relays between them, one-way delays of 5 to 40 ms drawn by the seed: how
often and how soon they talk directly, what is lost meanwhile, how soon data flows again after the path in use died, after
another network, after a NAT's reboot, and what an idle pair costs. About a quarter of an hour.

  --runs N         worlds of each pair of NATs, and of the idle pair (default 20)
  --fault-runs N   worlds of each fault (default 100)
  --seed N         of the first world; the next has the next (default 1)
  --pair FROM/TO   this pair of NATs alone (repeatable): public, full, addr-R, port-R (restricted by address, by address and
                   port), and those that give each destination a port: symmetric (any), sequential, preserving
  --fault NAME     this fault alone (repeatable), such as "NAT reboot"
  --json           every run as one JSON object on stdout, progress on stderr
  --chart FILE     an SVG of the distributions

Exit code: 0 all as promised, 1 something was not, 2 bad usage.`;

await main(async () => {
  const options = process.argv.slice(2);
  if (options.includes('--help') || options.includes('-h')) {
    console.log(HELP);
    return;
  }
  await setup(['build']);
  await build();
  return attached(process.execPath, [join(root, 'dist/ts/study/main.js'), ...options]);
});
