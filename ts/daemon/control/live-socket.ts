// Whether a daemon runs for a state directory: something accepts connections on its control socket.

import { connect } from 'node:net';
import { ExitCode, OperatorError, systemErrorCode } from '../../host/operator-error.js';

/** Whether something accepts connections on a unix socket. */
export function isLiveSocket(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // EAGAIN: the backlog is full, so a daemon listens. ECONNREFUSED, ENOENT: none does.
    socket.once('error', (error) => resolve(systemErrorCode(error) === 'EAGAIN'));
  });
}

/** What the second daemon of a state directory is told. */
export function alreadyRunning(socket: string): OperatorError {
  return new OperatorError(
    ExitCode.failure,
    'daemon',
    `one is already running for this state directory (${socket})`,
    'Type: omerta status, or stop it with: omerta down',
  );
}
