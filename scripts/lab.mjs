// npm run lab: builds, then shows the shipped binary at work in a world of network namespaces.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { attached } from './lib/command.mjs';
import { build } from './lib/build.mjs';
import { root } from './lib/paths.mjs';
import { setup } from './lib/setup.mjs';
import { main } from './lib/steps.mjs';

const HELP = `Usage: npm run lab [-- OPTIONS]        (as root)
       npm run lab -- exit [--json]
       npm run lab -- matrix [--runs N] [--pair FROM/TO] [--cell NAME] [--json] [--chart FILE]
       npm run lab -- failover [--runs N] [--only NAME] [--json]

Builds a small Internet from network namespaces: a relay with a public address, two nodes behind
two NATs (port-restricted and symmetric), each running bin/omerta with its own state. Then it
measures the tunnel, kills the relay and waits for the tunnel to come back.

  --seconds N            length of each throughput measurement (default 10)
  --pings N              number of pings, 5 ms apart (default 1000)
  --peer wireguard-go    also measures Debian's wireguard-go between two namespaces, in turn
  --json                 prints the results as one JSON object on stdout
  --keep                 leaves the world running and prints how to look around in it
  --remove               removes worlds left by --keep, and does nothing else

exit: curl, ping and names of a guest behind one NAT by an exit behind another, over a relay and directly; where nothing
is forwarded to; what stays on the hosts; 21 ways out of a machine beside its tunnel, without the guard and with it
(docs/exit.md).

matrix: two nodes behind each kind of NAT; for every pair the way they take, how long it took to find it and
what was lost meanwhile; a minute and a half a run. --pair (repeatable) measures these pairs alone, the kinds
being public, full-cone, address-restricted, port-restricted and symmetric; --cell (repeatable) a place that is
no kind of NAT, such as same-nat or v6-only (docs/lab.md); --chart writes an SVG.

failover: two nodes with two networks between them, of which the one in use drops everything, N times (default 20):
how long nothing comes through and what is lost, for Omerta and, where they are installed, the newest wireguard-go
and nebula; --only (repeatable) omerta, wireguard-go or nebula. About 7 s a run of Omerta.

Exit code: 0 all as it should be, 1 something failed or missed its mark, 2 bad usage, 4 not root.`;

await main(async () => {
  const options = process.argv.slice(2);
  if (options.includes('--help') || options.includes('-h')) {
    console.log(HELP);
    return;
  }
  if (process.getuid() !== 0) {
    console.error('The lab makes network namespaces, which needs root. Type: sudo npm run lab');
    return 4;
  }
  const program = join(root, 'dist/ts/lab/main.js');
  if (!options.includes('--remove') || !existsSync(program)) {
    await setup(['build', 'lab']);
    await build();
  }
  return attached(process.execPath, [program, ...options]);
});
