// Starts the daemon as a process of its own and waits until it serves or says why it cannot.

import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { ExitCode, OperatorError, fileError, messageOf } from '../daemon/operator-error.js';
import type { Context } from './context.js';
import type { StartReport } from './foreground.js';
import { nodeArguments, type NodeOptions } from './node-options.js';

const START_TIMEOUT_MS = 20_000;

/** @throws OperatorError the daemon failed with. @returns the daemon's process id. */
export async function startBackground(context: Context, options: NodeOptions): Promise<number> {
  context.state.prepare();
  let log: number;
  try {
    log = openSync(context.state.log, 'a', 0o600);
  } catch (error) {
    throw fileError('log', context.state.log, error);
  }
  const program = process.argv[1] ?? '';
  const child = spawn(
    process.execPath,
    [
      ...process.execArgv,
      program,
      ...context.globalArguments(),
      'up',
      '--foreground',
      ...nodeArguments(options),
    ],
    { detached: true, cwd: '/', stdio: ['ignore', log, log, 'ipc'] },
  );
  closeSync(log);
  const failed = (expected: string): OperatorError =>
    new OperatorError(ExitCode.failure, 'daemon', expected, `See its log: ${context.state.log}`);
  let timer: NodeJS.Timeout | undefined;
  const report = await new Promise<StartReport | OperatorError>((resolve) => {
    timer = setTimeout(
      () => resolve(failed(`it is not ready after ${START_TIMEOUT_MS / 1000} s`)),
      START_TIMEOUT_MS,
    );
    child.once('message', (message) => resolve(message as StartReport));
    child.once('error', (error) => resolve(failed(`it cannot be started (${messageOf(error)})`)));
    child.once('exit', (code, signal) =>
      resolve(failed(`it ended while starting (${signal ?? `exit code ${code ?? 'unknown'}`})`)),
    );
  });
  clearTimeout(timer);
  child.removeAllListeners();
  if (report instanceof OperatorError) {
    child.kill();
    throw report;
  }
  if (report.type === 'failed')
    throw new OperatorError(report.exitCode as ExitCode, report.field, report.expected, report.next);
  if (child.connected) child.disconnect();
  child.unref();
  return child.pid ?? 0;
}
