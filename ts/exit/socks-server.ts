// A SOCKS 5 server whose connections are made in an inner network: names too are resolved there, and nowhere else.

import type { Socket as UdpSocket } from 'node:dgram';
import { createServer, isIPv6, type Server, type Socket } from 'node:net';
import { processDescriptors } from '../host/descriptor-limit.js';
import type { PrivatePortCounts } from '../status/model/daemon-status.js';
import { ClientShares, PasswordGuesses } from './client-shares.js';
import { listening, machineNetwork, plainAddress, type InnerNetwork } from './inner-network.js';
import { ConnectError, connectToFirst, JOINED_DESCRIPTORS, relayStreams } from './relayed-stream.js';
import {
  decodeSocksDatagram,
  encodeSocksDatagram,
  SOCKS_REPLY,
  SocksHandshake,
  socksReply,
  type SocksPassword,
  type SocksTarget,
} from './socks-protocol.js';

const HANDSHAKE_MS = 10_000;
const CONNECT_MS = 10_000;
/** Of a datagram's way without one either way. */
const UDP_IDLE_MS = 5 * 60_000;
export const SOCKS_BOUNDS = {
  /** Connections, of these still being negotiated or connected, and UDP associations. */
  connections: 1024,
  connecting: 128,
  associations: 64,
  /** Of one client that is not on this machine. */
  clientConnections: 256,
  clientConnecting: 32,
  /** Names an association sends to, and of these being asked for. */
  names: 256,
  resolving: 32,
} as const;

const REPLY_TO: Readonly<Record<string, (typeof SOCKS_REPLY)[keyof typeof SOCKS_REPLY]>> = {
  ECONNREFUSED: SOCKS_REPLY.refused,
  ENETUNREACH: SOCKS_REPLY.networkUnreachable,
  EHOSTUNREACH: SOCKS_REPLY.hostUnreachable,
  ETIMEDOUT: SOCKS_REPLY.hostUnreachable,
  EACCES: SOCKS_REPLY.notAllowed,
};

export interface SocksOptions {
  readonly network: InnerNetwork;
  /** Addresses of a name; empty = it has none. */
  readonly resolve: (name: string) => Promise<readonly string[]>;
  readonly password?: SocksPassword | undefined;
  readonly handshakeMs?: number;
}

export class SocksServer {
  readonly #options: SocksOptions;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  readonly #shares = new ClientShares(SOCKS_BOUNDS.clientConnections);
  readonly #connectingShares = new ClientShares(SOCKS_BOUNDS.clientConnecting);
  readonly #guesses = new PasswordGuesses(() => performance.now());
  #connecting = 0;
  #associations = 0;
  /** Connections turned away at a bound. */
  refused = 0;

  constructor(options: SocksOptions) {
    this.#options = options;
    this.#server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) =>
      this.#accept(client),
    );
    this.#server.on('error', () => undefined); // no descriptor for one more: the others go on
  }

  /** @returns the port it listens at. @throws Error when that is taken */
  async listen(address: string, port: number): Promise<number> {
    await listening(this.#server, () => this.#server.listen({ host: address, port }));
    const bound = this.#server.address();
    return typeof bound === 'object' && bound !== null ? bound.port : port;
  }

  get counts(): PrivatePortCounts {
    return { open: this.#clients.size, refused: this.refused };
  }

  close(): void {
    this.#server.close();
    for (const client of this.#clients) client.destroy();
  }

  #accept(client: Socket): void {
    const address = plainAddress(client.remoteAddress ?? '');
    const isFree =
      this.#clients.size < SOCKS_BOUNDS.connections &&
      this.#connecting < SOCKS_BOUNDS.connecting &&
      !this.#guesses.isBarred(address) &&
      processDescriptors.take(JOINED_DESCRIPTORS);
    const share = isFree ? this.#shares.take(address) : undefined;
    const connectingShare = share && this.#connectingShares.take(address);
    if (share === undefined || connectingShare === undefined) {
      share?.();
      this.refused++;
      client.resetAndDestroy();
      return;
    }
    this.#clients.add(client);
    this.#connecting++;
    let isConnecting = true;
    const done = (): void => {
      if (isConnecting) this.#connecting--;
      isConnecting = false;
      connectingShare();
    };
    client.on('error', () => undefined); // 'close' follows
    client.once('close', () => {
      this.#clients.delete(client);
      share();
      done();
    });
    const handshake = new SocksHandshake(this.#options.password);
    // In all, and not from byte to byte: who sends one at a time is not waited for.
    const late = setTimeout(() => client.destroy(), this.#options.handshakeMs ?? HANDSHAKE_MS);
    client.once('close', () => clearTimeout(late));
    client.once('end', () => isConnecting && client.destroy());
    const read = (bytes: Buffer): void => {
      for (const step of handshake.take(bytes)) {
        if (step.type === 'reply') client.write(step.bytes);
        else if (step.type === 'refused') client.end(step.bytes, () => client.destroySoon());
        if (step.type === 'reply') continue;
        client.removeListener('data', read);
        client.pause();
        if (step.type === 'refused') {
          if (step.isWrongPassword === true) this.#guesses.wrong(address);
          return;
        }
        this.#guesses.right(address);
        clearTimeout(late);
        if (step.rest.length > 0) client.unshift(step.rest);
        const served =
          step.command === 'connect'
            ? this.#connect(client, step.target)
            : this.#associate(client, step.target);
        void served.catch(() => client.destroy()).finally(done);
      }
    };
    client.on('data', read);
    client.resume();
  }

  async #connect(client: Socket, target: SocksTarget): Promise<void> {
    const { network } = this.#options;
    let remote: Socket;
    try {
      remote = await connectToFirst(network, await this.#addressesOf(target), target.port, CONNECT_MS);
    } catch (error) {
      const code = error instanceof ConnectError ? error.code : '';
      refuse(client, REPLY_TO[code] ?? SOCKS_REPLY.failure);
      return;
    }
    if (client.destroyed) {
      remote.destroy();
      return;
    }
    client.write(socksReply(SOCKS_REPLY.succeeded, remote.localAddress, remote.localPort));
    relayStreams(client, remote);
  }

  async #addressesOf({ host, isName }: SocksTarget): Promise<readonly string[]> {
    return isName ? this.#options.resolve(host) : [host];
  }

  /** Datagrams of this client, until its connection ends. */
  async #associate(client: Socket, target: SocksTarget): Promise<void> {
    if (this.#associations >= SOCKS_BOUNDS.associations) {
      this.refused++;
      refuse(client, SOCKS_REPLY.failure);
      return;
    }
    this.#associations++;
    const opened: UdpSocket[] = [];
    client.once('close', () => {
      this.#associations--;
      for (const socket of opened.splice(0)) socket.close();
    });
    const remoteAddress = plainAddress(client.remoteAddress ?? '127.0.0.1');
    const inside = await machineNetwork.openUdp(plainAddress(client.localAddress ?? '127.0.0.1'), 0);
    const outside = {
      4: await this.#options.network.openUdp('0.0.0.0', 0),
      6: await this.#options.network.openUdp('::', 0).catch(() => undefined), // no IPv6 there
    };
    const all = [inside, outside[4], ...(outside[6] === undefined ? [] : [outside[6]])];
    if (client.destroyed) {
      for (const socket of all) socket.close();
      return;
    }
    opened.push(...all);
    /** Of the client: by what it said, or by what it sends first. */
    let port = target.port;
    const names = new Map<string, Promise<string | undefined>>();
    let resolving = 0;
    const addressOf = (host: string): Promise<string | undefined> => {
      const present = names.get(host);
      if (present !== undefined) return present;
      if (resolving >= SOCKS_BOUNDS.resolving) return Promise.resolve(undefined);
      const [oldest] = names.keys();
      if (names.size >= SOCKS_BOUNDS.names && oldest !== undefined) names.delete(oldest);
      resolving++;
      const found = this.#options
        .resolve(host)
        .then(([address]) => address)
        .catch(() => undefined);
      names.set(host, found);
      void found.then((address) => {
        resolving--;
        if (address === undefined && names.get(host) === found) names.delete(host); // it is asked for again
      });
      return found;
    };
    // Whoever is silent for long has forgotten it.
    client.setTimeout(UDP_IDLE_MS, () => client.destroy());
    const used = (): void => {
      client.setTimeout(UDP_IDLE_MS);
    };
    inside.on('message', (bytes, from) => {
      if (from.address !== remoteAddress || (port !== 0 && from.port !== port)) return;
      const datagram = decodeSocksDatagram(bytes);
      if (datagram === undefined || datagram.target.port === 0) return;
      port = from.port;
      used();
      const { host, isName } = datagram.target;
      const send = (address: string | undefined): void => {
        if (address === undefined || opened.length === 0) return;
        outside[isIPv6(address) ? 6 : 4]?.send(datagram.data, datagram.target.port, address, () => undefined);
      };
      if (isName) void addressOf(host).then(send);
      else send(host);
    });
    for (const socket of [outside[4], outside[6]])
      socket?.on('message', (data, from) => {
        if (port === 0 || opened.length === 0) return;
        used();
        inside.send(encodeSocksDatagram(from.address, from.port, data), port, remoteAddress, () => undefined);
      });
    for (const socket of all) socket.on('error', () => undefined); // what the network says of one datagram
    const { address, port: own } = inside.address();
    client.write(socksReply(SOCKS_REPLY.succeeded, address, own));
    client.on('end', () => client.destroy());
    client.resume();
  }
}

function refuse(client: Socket, code: (typeof SOCKS_REPLY)[keyof typeof SOCKS_REPLY]): void {
  client.end(socksReply(code), () => client.destroySoon());
}
