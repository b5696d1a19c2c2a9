// omerta down: ends the daemon and waits until it has gone.

import type { Command } from 'commander';
import { Context, print } from '../context.js';
import { explain } from '../help.js';
import { stopDaemon } from '../stop-daemon.js';

export function downCommand(program: Command): void {
  const command = program
    .command('down')
    .summary('stop the daemon')
    .description(
      'Stops the daemon of the state directory (started by up or relay) and waits until it has ended.',
    )
    .action(async (_options: object, self: Command) => {
      await stopDaemon(Context.of(self));
      print('stopped');
    });
  explain(command, ['omerta down', 'omerta --state /var/lib/omerta-2 down'], { 1: true, 3: true, 4: true });
}
