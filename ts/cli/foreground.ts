// Runs a daemon in this process until SIGTERM, SIGINT or `omerta down`, and reports its start to a
// parent that waits for it (`omerta up` in the background).

import type { Config } from '../daemon/config/config.js';
import { Daemon } from '../daemon/lifecycle/daemon.js';
import type { DaemonMode } from '../status/model/daemon-status.js';
import { openLog } from '../daemon/lifecycle/log.js';
import { messageOf } from '../host/operator-error.js';
import { applyNodeOptions, type NodeOptions } from './node-options.js';
import type { Context } from './context.js';
import { reportFailure, reportReady } from './start-report.js';

/**
 * @param ready called once the daemon serves; prints the banner.
 * @param adapt what more the command line overrides in the configuration.
 */
export async function runForeground(
  context: Context,
  mode: DaemonMode,
  options: NodeOptions,
  ready: (daemon: Daemon) => void,
  adapt: (config: Config) => Config = (config) => config,
): Promise<void> {
  process.umask(0o077);
  let end: (failure?: Error) => void = () => undefined;
  const ended = new Promise<Error | undefined>((resolve) => {
    end = resolve;
  });
  process.once('SIGTERM', () => end());
  process.once('SIGINT', () => end());
  let daemon: Daemon;
  try {
    const configure = (): Config => adapt(applyNodeOptions(context.loadConfig(), options));
    const config = configure();
    const log = openLog(config.log.level);
    const settings = { mode, state: context.state, config, log, onEnd: end, reload: configure };
    daemon = await Daemon.start(settings);
  } catch (error) {
    await reportFailure(error);
    throw error;
  }
  // A terminal that goes away ends a relay it started, as it ends any program.
  if (mode === 'relay' && !process.stdin.isTTY && !process.stderr.isTTY)
    process.on('SIGHUP', () => {
      try {
        daemon.reloadConfiguration();
      } catch (error) {
        daemon.settings.log.error({ error: messageOf(error) }, 'configuration-not-reloaded');
      }
    });
  try {
    ready(daemon);
    await reportReady();
    const failure = await ended;
    if (failure !== undefined) throw failure;
  } finally {
    await daemon.close();
  }
}
