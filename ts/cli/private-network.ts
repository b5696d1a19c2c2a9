// The private network of a member, as commands enter it that stay: where it is, and when it is gone.

import { setTimeout as sleep } from 'node:timers/promises';
import { PrivateNetwork, type PrivatePlace } from '../exit/private-network.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import type { DaemonStatus } from '../status/model/daemon-status.js';
import { requestStatus, type Context } from './context.js';
import { onHangup } from './hangup.js';
import { outliveReaders } from './outlive-readers.js';

const LOOK_MS = 2000;

/**
 * Where the namespaces are that are entered.
 * @param exit the member everything else is to leave by
 * @throws OperatorError where there is no private network, or no such exit
 */
export function privateNetworkOf(context: Context, exit: string | undefined): Promise<PrivatePlace> {
  return context.withDaemon(async (client) => {
    const place = placeOf(await requestStatus(client));
    if (exit !== undefined) {
      const { leaveBy } = await import('./commands/exit.js');
      await leaveBy(client, exit);
    }
    return place;
  });
}

function placeOf({ engine, tunnel, noPrivateNetwork: closed }: DaemonStatus): PrivatePlace {
  if (engine.stack === true)
    throw new OperatorError(
      closed === undefined ? ExitCode.failure : ExitCode.permission,
      'network',
      closed === undefined
        ? 'this member was started with --stack, so it has no private network'
        : `${closed.reason}, so this member has no private network`,
      closed === undefined
        ? 'For one: omerta down, then omerta up --no-tun'
        : `Type: ${closed.remedy}, then omerta down, and omerta up --no-tun`,
    );
  if (engine.guest === true)
    throw new OperatorError(
      ExitCode.failure,
      'network',
      'this member is a virtual machine’s, so it has no private network',
      'Run the program in the virtual machine, or by another member',
    );
  if (tunnel?.private === undefined)
    throw new OperatorError(
      ExitCode.failure,
      'network',
      'the interface of this member is one of the machine, and there is no private network beside it',
      'Programs use it as they are; for a private network: omerta down, then omerta up --no-tun',
    );
  const { error } = tunnel.private;
  if (error === undefined) return tunnel.private;
  throw new OperatorError(ExitCode.failure, 'network', error, 'See the log: omerta status');
}

/**
 * Serves in the private network until Ctrl-C, SIGTERM or a hang-up.
 * @param begin @returns what ends it
 * @param exit as privateNetworkOf() has it
 * @throws OperatorError when the daemon ends, and the network with it
 */
export async function serveInPrivateNetwork(
  context: Context,
  begin: (network: PrivateNetwork) => Promise<() => void>,
  exit?: string,
): Promise<void> {
  const place = await privateNetworkOf(context, exit);
  const network = PrivateNetwork.join(place);
  const ended = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ended.abort());
  onHangup({ end: () => ended.abort(), reload: () => undefined });
  outliveReaders();
  let end: () => void = () => undefined;
  try {
    end = await begin(network);
    const pause = (): Promise<boolean> => sleep(LOOK_MS, true, { signal: ended.signal }).catch(() => false);
    while (await pause()) await requireSame(context, place.namespace, pause);
  } finally {
    end();
    network.close();
  }
}

/** @param pause until it is looked again; false: nobody wants it any more */
async function requireSame(context: Context, entered: number, pause: () => Promise<boolean>): Promise<void> {
  const status = await context.withDaemon(requestStatus).catch(async (error: unknown) => {
    if (error instanceof OperatorError && error.exitCode === ExitCode.notRunning) throw error;
    // A daemon that is ending may close the connection before it answers: a moment later it says what has become of it.
    return (await pause()) ? context.withDaemon(requestStatus) : undefined;
  });
  const inside = status?.tunnel?.private;
  if (status === undefined || inside?.error !== undefined) return; // of the latter a helper is gone, the network is not
  if (inside?.namespace === entered) return;
  throw new OperatorError(
    ExitCode.failure,
    'network',
    'the daemon was started anew, and the private network this served is gone',
    'Type the command again',
  );
}
