// Runs a daemon in this process until SIGTERM, SIGINT, a hang-up of its terminal or `omerta down`, and reports its start to a
// parent that waits for it (`omerta up` in the background).

import type { Config } from '../daemon/config/config.js';
import type { Daemon, DaemonEnd } from '../daemon/lifecycle/daemon.js';
import type { ServiceManager } from '../daemon/lifecycle/service-manager.js';
import type { DaemonMode } from '../status/model/daemon-status.js';
import { openLog } from '../daemon/lifecycle/log.js';
import { messageOf } from '../host/operator-error.js';
import { applyNodeOptions, type NodeOptions } from './node-options.js';
import { Configuration } from './configuration.js';
import type { Context } from './context.js';
import { onHangup } from './hangup.js';
import { outliveReaders, printUnattended } from './outlive-readers.js';
import { reportFailure, reportReady } from './start-report.js';

/**
 * @param banner what is printed once the daemon serves.
 * @param adapt what more the command line overrides in the configuration.
 */
export async function runForeground(
  context: Context,
  mode: DaemonMode,
  options: NodeOptions,
  banner: (daemon: Daemon) => string | undefined,
  adapt: (config: Config) => Config = (config) => config,
): Promise<void> {
  process.umask(0o077);
  let end: (failure?: Error) => void = () => undefined;
  const ended = new Promise<Error | undefined>((resolve) => {
    end = resolve;
  });
  let daemon: Daemon | undefined;
  // Told twice, a relay does not wait for its clients; the third time nothing is waited for.
  let told = 0;
  const onSignal = (): void => {
    told++;
    if (told === 1) end();
    else daemon?.hurry();
    if (told === 2) process.off('SIGTERM', onSignal).off('SIGINT', onSignal);
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
  let manager: ServiceManager | undefined;
  onHangup({ end: () => end(), reload: () => daemon && reloadAfterHangup(daemon) });
  outliveReaders();
  try {
    const configuration = new Configuration(context);
    const configure = (): Config => adapt(applyNodeOptions(configuration.read(), options));
    const config = configure();
    // After what was typed is known to be right: it takes longer to load than that takes.
    const [{ Daemon }, { ServiceManager }] = await Promise.all([
      import('../daemon/lifecycle/daemon.js'),
      import('../daemon/lifecycle/service-manager.js'),
    ]);
    const { logger: log, status: logStatus } = openLog(config.log.level);
    manager = ServiceManager.take(process.env, log);
    const settings = {
      mode,
      state: context.state,
      config,
      log,
      logStatus,
      onEnd: end,
      reload: configure,
      source: context.configPath,
    };
    daemon = await Daemon.start(settings);
    const serving = daemon;
    manager?.serves(() => serving.status());
  } catch (error) {
    await reportFailure(error);
    throw error;
  }
  let how: DaemonEnd = 'failed';
  try {
    const text = banner(daemon);
    if (text !== undefined) printUnattended(text);
    await reportReady();
    const failure = await ended;
    if (failure !== undefined) throw failure;
    how = 'asked';
    await daemon.drain();
  } finally {
    manager?.ends();
    await daemon.close(how);
  }
}

function reloadAfterHangup(daemon: Daemon): void {
  const { log } = daemon.settings;
  daemon
    .reloadConfiguration()
    .catch((error: unknown) => log.error({ error: messageOf(error) }, 'configuration-not-reloaded'));
}
