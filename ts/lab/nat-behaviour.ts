// What kind of NAT a node is behind, found out by UDP probes (the tests of RFC 5780, sections 4.3
// and 4.4, with two public machines in place of a server with two addresses).

import { ProbeSocket } from './probe-socket.js';
import type { Node } from './world.js';

export type Dependence = 'endpoint-independent' | 'address-dependent' | 'address-and-port-dependent';

export interface NatBehaviour {
  readonly mapping: Dependence;
  readonly filtering: Dependence;
}

const ARRIVES_MS = 2000;
/** A probe that is let through arrives within a millisecond here; the rest is for a busy machine. */
const REFUSED_MS = 400;

/** Probes from `client`'s UDP port `port`. `first` and `second` are public nodes. */
export async function natBehaviour(
  client: Node,
  first: Node,
  second: Node,
  port: number,
): Promise<NatBehaviour> {
  const sockets = await Promise.all([
    ProbeSocket.open(client, port),
    ProbeSocket.open(first, 3478),
    ProbeSocket.open(first, 3479),
    ProbeSocket.open(second, 3478),
  ]);
  const [inside, contacted, otherPort, otherAddress] = sockets;
  try {
    const mappedTo = async (server: ProbeSocket, text: string): Promise<string> => {
      inside.send(server.address, server.port, text);
      const seen = await server.receive(text, ARRIVES_MS);
      if (seen === undefined)
        throw new Error(`${client.name}: nothing reached ${server.address}:${server.port}`);
      return `${seen.from}:${seen.port}`;
    };
    const mapped = await mappedTo(contacted, 'map-1');
    const [ip = '', mappedPort = ''] = mapped.split(':');
    const letIn = async (server: ProbeSocket, text: string, waitMs: number): Promise<boolean> => {
      server.send(ip, Number(mappedPort), text);
      return (await inside.receive(text, waitMs)) !== undefined;
    };
    if (!(await letIn(contacted, 'reply', ARRIVES_MS)))
      throw new Error(`${client.name}: no reply comes back`);
    // Filtering first: sending to the other sockets would open the NAT for them.
    const [fromOtherPort, fromOtherAddress] = await Promise.all([
      letIn(otherPort, 'other-port', REFUSED_MS),
      letIn(otherAddress, 'other-address', REFUSED_MS),
    ]);
    const mappedForPort = await mappedTo(otherPort, 'map-2');
    const mappedForAddress = await mappedTo(otherAddress, 'map-3');
    return {
      filtering: dependence(fromOtherAddress, fromOtherPort),
      mapping: dependence(mappedForAddress === mapped, mappedForPort === mapped),
    };
  } finally {
    await Promise.all(sockets.map((socket) => socket.close()));
  }
}

function dependence(ignoresAddress: boolean, ignoresPort: boolean): Dependence {
  if (ignoresAddress && ignoresPort) return 'endpoint-independent';
  return ignoresPort ? 'address-dependent' : 'address-and-port-dependent';
}
