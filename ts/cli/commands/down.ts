// omerta down: ends the daemon and waits until it has gone.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { isLiveSocket } from '../../daemon/control-server.js';
import { ExitCode, OperatorError, systemErrorCode } from '../../daemon/operator-error.js';
import { Context, print } from '../context.js';
import { explain } from '../help.js';

const STOP_TIMEOUT_MS = 10_000;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0); // signal 0 only asks
    return true;
  } catch (error) {
    return systemErrorCode(error) === 'EPERM';
  }
}

async function down(context: Context): Promise<void> {
  const { pid } = (await context.withDaemon((client) => client.request({ command: 'down' }))) as {
    pid: number;
  };
  const deadline = Date.now() + STOP_TIMEOUT_MS;
  // Until the process has gone, its store and its claim on the directory are not free.
  while ((await isLiveSocket(context.state.socket)) || isRunning(pid)) {
    if (Date.now() >= deadline)
      throw new OperatorError(
        ExitCode.failure,
        'daemon',
        `process ${pid} is still closing after ${STOP_TIMEOUT_MS / 1000} s`,
        `See its log; to end it at once type: kill -9 ${pid}`,
      );
    await sleep(20);
  }
  print('stopped');
}

export function downCommand(program: Command): void {
  const command = program
    .command('down')
    .summary('stop the daemon')
    .description(
      'Stops the daemon of the state directory (started by up or relay) and waits until it has ended.',
    )
    .action((_options: object, self: Command) => down(Context.of(self)));
  explain(command, ['omerta down', 'omerta --state /var/lib/omerta-2 down'], { 1: true, 3: true, 4: true });
}
