// Two connections become one: what comes by either goes out by the other, each direction ends by itself (half-close), and
// who reads slowly is sent to slowly.

import type { Socket } from 'node:net';
import type { InnerNetwork } from './inner-network.js';

/** RFC 5382, REQ-5: at least 2 h 4 min. */
const IDLE_MS = 124 * 60_000;
/** Of the addresses of a name, so many are tried. */
const MAX_ADDRESSES = 4;

/** A connection could not be made. `code`: of the system, or ETIMEDOUT. */
export class ConnectError extends Error {
  constructor(readonly code: string) {
    super(code);
    this.name = 'ConnectError';
  }
}

/** Joins two connections until both directions have ended, or one of them is cut off: then the other is reset. */
export function relayStreams(a: Socket, b: Socket): void {
  const cut = (): void => {
    for (const socket of [a, b]) if (!socket.destroyed) socket.resetAndDestroy();
  };
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.setTimeout(IDLE_MS, cut);
    from.on('error', cut);
    from.on('close', (failed) => {
      // Ended in both directions: the other has been told by pipe(). Cut off in one of them: it is told now.
      if (failed || !from.readableEnded || !from.writableFinished) cut();
    });
    from.pipe(to);
  }
}

/** The first of these addresses that takes a connection within `timeoutMs` in all. @throws ConnectError of the last */
export async function connectToFirst(
  network: InnerNetwork,
  addresses: readonly string[],
  port: number,
  timeoutMs: number,
): Promise<Socket> {
  const tried = addresses.slice(0, MAX_ADDRESSES);
  let last = new ConnectError('EHOSTUNREACH');
  for (const address of tried) {
    try {
      return await connectTo(network, address, port, timeoutMs / tried.length);
    } catch (error) {
      if (error instanceof ConnectError) last = error;
      else throw error;
    }
  }
  throw last;
}

/** @throws ConnectError: no socket of this family is no reason not to try the next address */
function begin(network: InnerNetwork, address: string, port: number): Socket {
  try {
    return network.connect(address, port);
  } catch (error) {
    throw new ConnectError((error as NodeJS.ErrnoException).code ?? 'EIO');
  }
}

async function connectTo(
  network: InnerNetwork,
  address: string,
  port: number,
  timeoutMs: number,
): Promise<Socket> {
  const socket = begin(network, address, port);
  return new Promise((resolve, reject) => {
    const fail = (code: string): void => {
      socket.destroy();
      reject(new ConnectError(code));
    };
    socket.setTimeout(timeoutMs, () => fail('ETIMEDOUT'));
    socket.once('error', (error: NodeJS.ErrnoException) => fail(error.code ?? 'EIO'));
    socket.once('connect', () => {
      socket.setTimeout(0);
      socket.removeAllListeners('timeout');
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}
