// Runs a daemon in this process until SIGTERM, SIGINT or `omerta down`, and reports its start to a
// parent that waits for it (`omerta up` in the background).

import type { Config } from '../daemon/config.js';
import { Daemon } from '../daemon/daemon.js';
import type { DaemonMode } from '../daemon/daemon-status.js';
import { openLog } from '../daemon/log.js';
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
    const config = adapt(applyNodeOptions(context.loadConfig(), options));
    const log = openLog(config.log.level);
    daemon = await Daemon.start({ mode, state: context.state, config, log, onEnd: end });
  } catch (error) {
    await reportFailure(error);
    throw error;
  }
  try {
    ready(daemon);
    await reportReady();
    const failure = await ended;
    if (failure !== undefined) throw failure;
  } finally {
    await daemon.close();
  }
}
