// Ends a daemon and waits until its process has gone.

import { setTimeout as sleep } from 'node:timers/promises';
import { isLiveSocket } from '../daemon/control/live-socket.js';
import { ExitCode, OperatorError, systemErrorCode } from '../host/operator-error.js';
import type { Context } from './context.js';

const STOP_TIMEOUT_MS = 10_000;

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0); // signal 0 only asks
    return true;
  } catch (error) {
    return systemErrorCode(error) === 'EPERM';
  }
}

/**
 * @param unload whether a relay is to take its kernel path away, whatever its configuration says.
 * @throws OperatorError (exit 3) when none runs.
 */
export async function stopDaemon(context: Context, unload = false): Promise<void> {
  const { pid, drainSeconds } = (await context.withDaemon((client) =>
    client.request({ command: 'down', ...(unload && { unload }) }),
  )) as { pid: number; drainSeconds: number };
  await awaitEnd(context, pid, drainSeconds);
}

/**
 * Waits until a daemon's process has gone. @param drainSeconds what a relay takes longer, for clients that move.
 * @throws OperatorError when it is there still.
 */
export async function awaitEnd(context: Context, pid: number, drainSeconds: number): Promise<void> {
  const timeoutMs = STOP_TIMEOUT_MS + drainSeconds * 1000;
  const deadline = Date.now() + timeoutMs;
  // Until the process has gone, its store and its claim on the directory are not free.
  while ((await isLiveSocket(context.state.socket)) || isRunning(pid)) {
    if (Date.now() >= deadline)
      throw new OperatorError(
        ExitCode.failure,
        'daemon',
        `process ${pid} is still closing after ${timeoutMs / 1000} s`,
        `See its log; to end it at once type: kill -9 ${pid}`,
      );
    await sleep(20);
  }
}
