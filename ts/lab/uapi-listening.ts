// Waits for a userspace WireGuard to listen on its configuration socket. Not by asking wg(8): that removes
// a socket which is there but does not listen yet, and the process never gets another.

import { setTimeout as sleep } from 'node:timers/promises';
import { answers, uapiSocketPath } from '../wg/uapi-socket.js';

/** @throws Error when nothing listens for this interface within 20 s, or once `ended` says that nothing will. */
export async function uapiListening(
  name: string,
  ended: () => string | undefined = () => undefined,
): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await answers(uapiSocketPath(name)))) {
    const why = ended() ?? (performance.now() > deadline ? 'nothing listens within 20 s' : undefined);
    if (why !== undefined) throw new Error(`the WireGuard interface ${name}: ${why}`);
    await sleep(20);
  }
}
