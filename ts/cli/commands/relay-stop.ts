// omerta relay stop: ends a relay; with --unload nothing of it stays in the kernel either.

import type { Command } from 'commander';
import { PORT_RULE } from '../../daemon/config/config-rules.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { Context, print } from '../context.js';
import { explain } from '../help.js';
import { stopDaemon } from '../stop-daemon.js';

interface StopOptions {
  readonly unload?: boolean;
  readonly port?: string;
}

async function portOf(context: Context, given: string | undefined): Promise<number> {
  if (given === undefined) {
    const { Configuration } = await import('../configuration.js');
    return new Configuration(context).read().node.port;
  }
  if (/^\d{1,5}$/.test(given) && Number(given) >= 1 && Number(given) <= 65_535) return Number(given);
  throw new OperatorError(
    ExitCode.usage,
    '--port',
    `"${given}" is not ${PORT_RULE}`,
    'Type for example: --port 51901',
  );
}

/** What a relay that is not running any more left in the kernel. */
async function unload(port: number): Promise<boolean> {
  const { removeKernelPath } = await import('../../engine/xdp/kernel-path-engine.js');
  const { XdpError } = await import('../../engine/xdp/xdp-addon.js');
  try {
    return removeKernelPath(port);
  } catch (error) {
    if (!(error instanceof XdpError)) throw error;
    throw new OperatorError(
      error.isRefused ? ExitCode.permission : ExitCode.failure,
      'kernel path',
      error.message,
      `Type: ${error.remedy ?? 'omerta doctor'}`,
    );
  }
}

async function stop(context: Context, options: StopOptions): Promise<void> {
  const port = await portOf(context, options.port);
  if (options.unload !== true) {
    await stopDaemon(context);
    print('stopped');
    return;
  }
  let stopped = true;
  try {
    await stopDaemon(context, true);
  } catch (error) {
    if (!(error instanceof OperatorError) || error.exitCode !== ExitCode.notRunning) throw error;
    stopped = false;
  }
  const removed = await unload(port); // nothing, when the daemon has done it
  if (!stopped && !removed)
    throw new OperatorError(
      ExitCode.notRunning,
      'daemon',
      `none is running for this state directory, and none left anything in the kernel at UDP port ${port}`,
      'Name its directory with --state DIR, or its port with --port N',
    );
  print(stopped ? 'stopped and unloaded' : 'unloaded');
}

export function relayStopCommand(relay: Command): void {
  const command = relay
    .command('stop')
    .summary('stop the relay')
    .description(
      'Stops the relay of the state directory and waits until it has ended. A relay with --detach leaves ' +
        'the kernel forwarding; --unload takes that away too, also after a relay that was killed.',
    )
    .option('--unload', 'leave nothing in the kernel')
    .option('--port <n>', 'UDP port of the relay, if it is not the configured one')
    .action((_options: StopOptions, self: Command) => stop(Context.of(self), self.optsWithGlobals()));
  explain(command, ['omerta relay stop', 'sudo omerta relay stop --unload'], {
    1: true,
    2: true,
    3: true,
    4: true,
  });
}
