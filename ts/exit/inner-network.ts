// Where connections are made from and taken at: a private network, or the machine's own.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { connect, isIPv6, type Server, type Socket } from 'node:net';

export interface InnerNetwork {
  /** A connection that is being made, half-open allowed: 'connect' or 'error' follows. */
  connect(address: string, port: number): Socket;
  /** A socket of the family of `address`, bound there. Port 0: the kernel chooses. */
  openUdp(address: string, port: number): Promise<UdpSocket>;
  /** Begins to listen there. @throws Error when the port is taken */
  listen(server: Server, address: string, port: number): Promise<void>;
  /** The address by which a guest comes to what listens here; undefined: by its own. */
  seenAs?(guest: string): string;
}

/** An address without what a socket of both families puts before those of IPv4. */
export const plainAddress = (address: string): string => address.replace(/^::ffff:(?=\d+\.)/, '');

/** The machine's own networks. */
export const machineNetwork: InnerNetwork = {
  connect: (address, port) => connect({ host: address, port, allowHalfOpen: true }),
  openUdp: (address, port) => {
    const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', ipv6Only: isIPv6(address) });
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(port, address, () => {
        socket.removeListener('error', reject);
        resolve(socket);
      });
    });
  },
  listen: (server, address, port) =>
    listening(server, () => server.listen({ host: address, port, ipv6Only: true })),
};

/** Resolves once it listens. */
export function listening(server: Server, begin: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.removeListener('error', reject);
      resolve();
    });
    begin();
  });
}
