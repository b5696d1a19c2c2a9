// omerta status: who this node is and how it fares.

import type { Command } from 'commander';
import { Context, print, printJson, requestStatus } from '../context.js';
import { describeStatus } from '../describe-status.js';
import { ExitCode } from '../../host/operator-error.js';
import { explain } from '../help.js';

export function statusCommand(program: Command): void {
  const command = program
    .command('status')
    .summary('show the running node')
    .description(
      'Shows the running node: identity, addresses, engine and accelerators, networks, bootstraps, traffic. ' +
        'With --json also every session, circuit and counter.',
    )
    .option('--json', 'print everything as JSON')
    .action(async ({ json }: { json?: boolean }, self: Command) => {
      const status = await Context.of(self).withDaemon(requestStatus);
      if (json === true) printJson(status);
      else print(describeStatus(status));
      const { tunnel } = status;
      if (tunnel !== undefined && tunnel.state !== 'up') process.exitCode = ExitCode.failure;
    });
  explain(command, ['omerta status', 'omerta status --json | jq .counters'], {
    1: 'it runs, but its interface is gone, down or elsewhere',
    3: true,
    4: true,
  });
}
