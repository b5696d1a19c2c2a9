// Runs a daemon in this process until SIGTERM, SIGINT or `omerta down`, and reports its start to a
// parent that waits for it (`omerta up` in the background).

import { Daemon } from '../daemon/daemon.js';
import type { DaemonMode } from '../daemon/daemon-status.js';
import { openLog } from '../daemon/log.js';
import { OperatorError } from '../daemon/operator-error.js';
import { applyNodeOptions, type NodeOptions } from './node-options.js';
import type { Context } from './context.js';

/** What the daemon tells a parent process over its IPC channel. */
export type StartReport =
  | { readonly type: 'ready' }
  | {
      readonly type: 'failed';
      readonly exitCode: number;
      readonly field: string;
      readonly expected: string;
      readonly next: string;
    };

function report(message: StartReport): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(message, undefined, {}, () => resolve());
  });
}

/** @param ready called once the daemon serves; prints the banner. */
export async function runForeground(
  context: Context,
  mode: DaemonMode,
  options: NodeOptions,
  ready: (daemon: Daemon) => void,
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
    const config = applyNodeOptions(context.loadConfig(), options);
    const log = openLog(config.log.level);
    daemon = await Daemon.start({ mode, state: context.state, config, log, onEnd: end });
  } catch (error) {
    if (error instanceof OperatorError) {
      const { exitCode, field, expected, next } = error;
      await report({ type: 'failed', exitCode, field, expected, next });
    }
    throw error;
  }
  try {
    ready(daemon);
    await report({ type: 'ready' });
    if (process.connected) process.disconnect();
    const failure = await ended;
    if (failure !== undefined) throw failure;
  } finally {
    await daemon.close();
  }
}
