// omerta status: who this node is and how it fares.

import type { Command } from 'commander';
import { Context, print, printJson, requestStatus } from '../context.js';
import { describeStatus } from '../describe-status.js';
import { ExitCode } from '../../host/operator-error.js';
import { obstacles } from '../../status/model/readiness.js';
import { explain } from '../help.js';

export function statusCommand(program: Command): void {
  const command = program
    .command('status')
    .summary('show the running node')
    .description(
      'Shows the running node: whether it is ready for what it is there for, identity, addresses, engine and ' +
        'accelerators, networks, bootstraps, traffic. ' +
        'With --json also every session, circuit and counter.',
    )
    .option('--json', 'print everything as JSON')
    .action(async ({ json }: { json?: boolean }, self: Command) => {
      const status = await Context.of(self).withDaemon(requestStatus);
      if (json === true) printJson(status);
      else print(describeStatus(status));
      if (obstacles(status).length > 0) process.exitCode = ExitCode.failure;
    });
  explain(command, ['omerta status', 'omerta status --json | jq .counters'], {
    1: 'it runs, but is not ready: no relay holds its registration, its interface is gone, its exit closed, its store unwritable, its limits reached',
    3: true,
    4: true,
  });
}
