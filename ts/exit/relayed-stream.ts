// Two connections become one: what comes by either goes out by the other, each direction ends by itself (half-close), and
// who reads slowly is sent to slowly.

import type { Socket } from 'node:net';
import { loadNativeAddon, type NativeStreamRelay } from '../engine/native/native-addon.js';
import type { InnerNetwork } from './inner-network.js';

/** RFC 5382, REQ-5: at least 2 h 4 min. */
const IDLE_MS = 124 * 60_000;
/** Of a joined connection: each of its two ends is open here, and where they are joined. */
export const JOINED_DESCRIPTORS = 4;
/** Of the addresses of a name, so many are tried. */
const MAX_ADDRESSES = 4;

/** A connection could not be made. `code`: of the system, or ETIMEDOUT. */
export class ConnectError extends Error {
  constructor(readonly code: string) {
    super(code);
    this.name = 'ConnectError';
  }
}

/** Of Node.js: what is below a socket. */
interface Handle {
  readonly fd: number;
  readStop(): void;
}

/** Undefined: it was closed. */
function handleOf(socket: Socket): Handle | undefined {
  return (socket as unknown as { readonly _handle: Handle | null })._handle ?? undefined;
}

/** Of this thread, and by pair what is to be done at its end. */
let joined:
  { readonly relay: NativeStreamRelay; readonly ends: Map<number, (isCut: boolean) => void> } | undefined;

function streamRelay(): NonNullable<typeof joined> {
  if (joined !== undefined) return joined;
  const ends = new Map<number, (isCut: boolean) => void>();
  const ended = (pair: number, isCut: boolean): void => {
    ends.get(pair)?.(isCut);
    ends.delete(pair);
  };
  joined = { relay: new (loadNativeAddon().StreamRelay)(ended, IDLE_MS), ends };
  return joined;
}

/**
 * Joins two connections until both directions have ended, or one of them is cut off: then the other is reset. What goes by
 * is moved by a thread of the addon (native/exit/stream_relay.h). The sockets stay open here, and are closed when the pair
 * has ended; nothing is read or written by them any more.
 */
export function relayStreams(a: Socket, b: Socket): void {
  const { relay, ends } = streamRelay();
  let pair: number | undefined;
  const cut = (): void => {
    if (pair !== undefined) {
      relay.cut(pair);
      ends.delete(pair);
    }
    pair = undefined;
    for (const socket of [a, b]) if (!socket.destroyed) socket.resetAndDestroy();
  };
  for (const socket of [a, b]) socket.on('error', cut).on('close', cut).setTimeout(IDLE_MS, cut);
  const begin = (): void => {
    const [handle, other] = [handleOf(a), handleOf(b)];
    if (handle === undefined || other === undefined) return; // its end cuts the other off
    for (const socket of [a, b]) socket.setTimeout(0);
    const begun = relay.join(handle.fd, other.fd);
    if (begun < 0) {
      cut(); // no descriptor is left
      return;
    }
    pair = begun;
    ends.set(begun, (isCut) => {
      pair = undefined;
      if (isCut) cut();
      for (const socket of [a, b]) socket.destroy();
    });
  };
  // What was read of them before goes first. Reading it has Node.js wait for more, which is not to be its any longer.
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.pause();
    const before = from.read() as Buffer | null;
    if (before !== null) to.write(before);
    handleOf(from)?.readStop();
  }
  flushed(a, () => flushed(b, begin));
}

/** Once the kernel has all that was written. */
function flushed(socket: Socket, then: () => void): void {
  if (socket.writableLength === 0) then();
  else socket.write('', () => then());
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
  const socket = begin(network, address, port).pause(); // nothing is read before somebody takes it
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
