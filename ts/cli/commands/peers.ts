// omerta peers: the members and bootstraps this node knows.

import type { Command } from 'commander';
import { peerRows } from '../../status/model/daemon-status.js';
import { Context, print, printJson, requestStatus } from '../context.js';
import { describePeers } from '../describe-status.js';
import { explain } from '../help.js';

export function peersCommand(program: Command): void {
  const command = program
    .command('peers')
    .summary('list members and bootstraps')
    .description(
      'Lists the members of all joined networks and the bootstraps: name, overlay addresses, path ' +
        '(direct, relay or none), its round trip and how many bytes of UDP payload it takes (MTU), age of the ' +
        'last handshake, traffic.',
    )
    .option('--json', 'print as JSON')
    .action(async ({ json }: { json?: boolean }, self: Command) => {
      const status = await Context.of(self).withDaemon(requestStatus);
      if (json === true) printJson(peerRows(status));
      else print(describePeers(status));
    });
  explain(command, ['omerta peers', 'omerta peers --json'], { 3: true, 4: true });
}
