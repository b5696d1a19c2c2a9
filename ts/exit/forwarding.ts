// omerta forward: a port of the machine leads into the inner network, or a port in there to the machine.

import type { Socket as UdpSocket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { createServer, isIPv6, type AddressInfo, type Socket } from 'node:net';
import { forwardSpecs, type ForwardSide, type ForwardSpec } from '../daemon/config/port-forward.js';
import { processDescriptors } from '../host/descriptor-limit.js';
import { systemErrorCode } from '../host/operator-error.js';
import type { PrivatePortCounts } from '../status/model/daemon-status.js';
import { parseIp } from '../wire/socket-address.js';
import { ClientShares } from './client-shares.js';
import { machineNetwork, plainAddress, type InnerNetwork } from './inner-network.js';
import { connectToFirst, JOINED_DESCRIPTORS, relayStreams } from './relayed-stream.js';

const CONNECT_MS = 10_000;
const UDP_IDLE_MS = 5 * 60_000;
export const FORWARD_BOUNDS = { connections: 1024, connecting: 128, udpClients: 512 } as const;
/** Of one client that is not on this machine: a member, or who reaches the machine. */
export const CLIENT_BOUNDS = { connections: 256, connecting: 32, udpClients: 128 } as const;

export interface Forwarding {
  /** Where it is taken, and where it goes. */
  readonly from: InnerNetwork;
  readonly to: InnerNetwork;
  readonly spec: ForwardSpec;
  /** Addresses of a host in `to`. */
  readonly resolve: (host: string) => Promise<readonly string[]>;
}

/** A port that is forwarded, as it is typed. */
export interface PortForward {
  readonly side: ForwardSide;
  /** One that whyNoForward() has nothing against. */
  readonly text: string;
  readonly udp: boolean;
}

/** What forwards, until it is closed. */
export interface OpenPort {
  readonly counts: PrivatePortCounts;
  close(): void;
}

export interface ForwardedPort extends OpenPort {
  /** Where it is taken: as typed, or the one the kernel chose for port 0. */
  readonly port: number;
}

/**
 * Forwards between the machine and a private network.
 * @param hosts addresses of a host in that network
 * @throws Error of the system when a port cannot be taken; then none is
 */
export async function forwardPort(
  { side, text, udp }: PortForward,
  network: InnerNetwork,
  hosts: (host: string) => Promise<readonly string[]>,
): Promise<ForwardedPort> {
  const between =
    side === 'local'
      ? { from: machineNetwork, to: network, resolve: hosts }
      : { from: network, to: machineNetwork, resolve: hostsHere };
  const opened: ForwardedPort[] = [];
  const sum = (count: keyof PrivatePortCounts): number =>
    opened.reduce((total, { counts }) => total + counts[count], 0);
  const close = (): void => opened.splice(0).forEach((each) => each.close());
  const specs = forwardSpecs(side, text);
  try {
    for (const each of specs) {
      // One port for both families, also when the kernel chose it.
      const spec = { ...each, port: opened[0]?.port ?? each.port };
      const begun = udp ? forwardUdp({ ...between, spec }) : forwardTcp({ ...between, spec });
      const port = await begun.catch(unlessNoIpv6(spec, specs.length > 1));
      if (port !== undefined) opened.push(port);
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    close,
    port: opened[0]?.port ?? 0,
    get counts() {
      return { open: sum('open'), refused: sum('refused') };
    },
  };
}

/** Where the private network has no IPv6, members come by IPv4 alone. @throws what else it was */
function unlessNoIpv6({ bind }: ForwardSpec, hasOther: boolean): (error: unknown) => undefined {
  return (error) => {
    const code = systemErrorCode(error);
    if (hasOther && isIPv6(bind) && (code === 'EAFNOSUPPORT' || code === 'EADDRNOTAVAIL')) return undefined;
    throw error;
  };
}

async function hostsHere(host: string): Promise<readonly string[]> {
  if (parseIp(host) !== undefined) return [host];
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.map(({ address }) => address);
}

/** Connections. @throws Error when the port is taken */
export async function forwardTcp({ from, to, spec, resolve }: Forwarding): Promise<ForwardedPort> {
  const open = new Set<Socket>();
  const shares = new ClientShares(CLIENT_BOUNDS.connections);
  const connectingShares = new ClientShares(CLIENT_BOUNDS.connecting);
  let connecting = 0;
  let refused = 0;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    const address = plainAddress(client.remoteAddress ?? '');
    const isFree =
      open.size < FORWARD_BOUNDS.connections &&
      connecting < FORWARD_BOUNDS.connecting &&
      processDescriptors.take(JOINED_DESCRIPTORS);
    const share = isFree ? shares.take(address) : undefined;
    const connectingShare = share && connectingShares.take(address);
    if (share === undefined || connectingShare === undefined) {
      share?.();
      refused++;
      client.resetAndDestroy();
      return;
    }
    open.add(client);
    connecting++;
    client.on('error', () => undefined); // 'close' follows
    client.once('close', () => {
      open.delete(client);
      share();
    });
    void resolve(spec.host)
      .then((addresses) => connectToFirst(to, addresses, spec.hostPort, CONNECT_MS))
      .then(
        (remote) => {
          if (client.destroyed) remote.destroy();
          else relayStreams(client, remote);
        },
        () => client.resetAndDestroy(),
      )
      .finally(() => {
        connecting--;
        connectingShare();
      });
  });
  await from.listen(server, spec.bind, spec.port);
  server.on('error', () => undefined); // no descriptor for one more: the others go on
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      for (const client of open) client.destroy();
    },
    get counts() {
      return { open: open.size, refused };
    },
  };
}

interface UdpClient {
  socket: UdpSocket | undefined;
  usedAt: number;
  /** Gives its share back. */
  readonly left: () => void;
}

/** Datagrams: each client has a socket of its own on the other side, by which answers find back. */
export async function forwardUdp({ from, to, spec, resolve }: Forwarding): Promise<ForwardedPort> {
  const taken = await from.openUdp(spec.bind, spec.port);
  /** By client: its socket, once it is open. */
  const clients = new Map<string, UdpClient>();
  const shares = new ClientShares(CLIENT_BOUNDS.udpClients);
  let refused = 0;
  const forget = (key: string): void => {
    const client = clients.get(key);
    client?.socket?.close();
    client?.left();
    clients.delete(key);
  };
  const tidy = setInterval(() => {
    const now = performance.now();
    for (const [key, { usedAt }] of clients) if (now - usedAt > UDP_IDLE_MS) forget(key);
  }, UDP_IDLE_MS / 10);
  tidy.unref();
  const begin = async (key: string, address: string, port: number): Promise<UdpSocket | undefined> => {
    const [target] = await resolve(spec.host);
    if (target === undefined) return undefined;
    const socket = await to.openUdp(isIPv6(target) ? '::' : '0.0.0.0', 0);
    socket.on('error', () => forget(key));
    socket.on('message', (data, sender) => {
      const client = clients.get(key);
      if (sender.address !== target || sender.port !== spec.hostPort || client === undefined) return;
      client.usedAt = performance.now();
      taken.send(data, port, address, () => undefined);
    });
    // As events: a callback would be called where there is no route as well.
    const isConnected = new Promise<boolean>((resolved) => {
      socket.once('connect', () => resolved(true)).once('error', () => resolved(false));
    });
    socket.connect(spec.hostPort, target);
    if (await isConnected) return socket;
    socket.close();
    return undefined;
  };
  taken.on('error', () => undefined); // what the network says of an answer nobody waits for
  taken.on('message', (data, { address, port }) => {
    const key = `${address} ${port}`;
    const present = clients.get(key);
    if (present !== undefined) {
      present.usedAt = performance.now();
      present.socket?.send(data, () => undefined);
      return;
    }
    if (port === 0) return;
    const isFree = clients.size < FORWARD_BOUNDS.udpClients && processDescriptors.take(1);
    const left = isFree ? shares.take(address) : undefined;
    if (left === undefined) {
      refused++;
      return;
    }
    const client: UdpClient = { socket: undefined, usedAt: performance.now(), left };
    clients.set(key, client);
    void begin(key, address, port).then(
      (socket) => {
        if (socket === undefined || clients.get(key) !== client) {
          socket?.close();
          if (clients.get(key) === client) forget(key);
          return;
        }
        client.socket = socket;
        socket.send(data, () => undefined);
      },
      () => clients.get(key) === client && forget(key),
    );
  });
  return {
    port: taken.address().port,
    close: () => {
      clearInterval(tidy);
      taken.close();
      for (const key of [...clients.keys()]) forget(key);
    },
    get counts() {
      return { open: clients.size, refused };
    },
  };
}
