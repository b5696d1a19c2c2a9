// Starts a daemon as a process of its own and waits until it serves or says why it cannot.

import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { ExitCode, OperatorError, fileError, messageOf } from '../host/operator-error.js';
import type { Context } from './context.js';
import { nodeArguments, type NodeOptions } from './node-options.js';
import type { StartReport } from './start-report.js';

const START_TIMEOUT_MS = 20_000;

/** Starts `omerta up`. @throws OperatorError it failed with. @returns its process id. */
export async function startBackground(context: Context, options: NodeOptions): Promise<number> {
  context.state.prepare();
  let log: number;
  try {
    log = openSync(context.state.log, 'a', 0o600);
  } catch (error) {
    throw fileError('log', context.state.log, error);
  }
  try {
    return await startDetached(
      [...context.globalArguments(), 'up', '--foreground', ...nodeArguments(options)],
      log,
      `See its log: ${context.state.log}`,
    );
  } finally {
    closeSync(log);
  }
}

/**
 * Starts `omerta` with these arguments as a process of its own and waits for its report.
 * @param output where its output goes: a file descriptor, or nowhere
 * @param next what to do when it fails without saying why
 * @throws OperatorError it failed with. @returns its process id.
 */
export async function startDetached(
  argumentsOfChild: readonly string[],
  output: number | 'ignore',
  next: string,
): Promise<number> {
  const program = process.argv[1] ?? '';
  const child = spawn(process.execPath, [...process.execArgv, program, ...argumentsOfChild], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', output, output, 'ipc'],
  });
  const failed = (expected: string): OperatorError =>
    new OperatorError(ExitCode.failure, 'daemon', expected, next);
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
