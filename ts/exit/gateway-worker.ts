// The thread of a gateway: what guests send to the Internet arrives at sockets of the private network that take what is for
// any address, and leaves by ordinary sockets of the machine.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, isIPv6 } from 'node:net';
import { performance } from 'node:perf_hooks';
import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { loadNativeAddon } from '../engine/native/native-addon.js';
import { formatIp, parseIp } from '../wire/socket-address.js';
import { GatewayFlows } from './gateway-flows.js';
import type { GatewayCounts, GatewayStart, ToGateway } from './gateway-messages.js';
import { machineNetwork } from './inner-network.js';
import { Permitted } from './permitted.js';
import { connectToFirst, relayStreams } from './relayed-stream.js';

const CONNECT_MS = 10_000;
/** RFC 4787, REQ-5. */
const UDP_IDLE_MS = 5 * 60_000;
const COUNTS_MS = 1000;
/** Sockets answers are sent by, one for each address and port that answered. */
const MAX_ANSWERERS = 4096;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;

const start = workerData as GatewayStart;
const flows = new GatewayFlows(() => performance.now());
let permitted = new Permitted([
  { prefix: '0.0.0.0/0', denied: true },
  { prefix: '::/0', denied: true },
]);
let { channel } = start;

/** An address without what a socket of both families puts before those of IPv4. */
const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:(?=\d+\.)/, '');

for (const fd of start.tcp) {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    client.on('error', () => undefined); // 'close' follows
    const [guest, address, port] = [
      plain(client.remoteAddress),
      plain(client.localAddress),
      client.localPort,
    ];
    if (port === undefined || !flows.mayBegin(guest, 'tcp') || !isPermitted(address, port)) {
      client.resetAndDestroy();
      return;
    }
    const left = flows.enter(guest, 'tcp', () => client.resetAndDestroy());
    const connected = flows.enter(guest, 'connecting');
    client.once('close', left);
    void connectToFirst(machineNetwork, [address], port, CONNECT_MS)
      .then(
        (remote) => {
          if (client.destroyed) remote.destroy();
          else relayStreams(client, remote);
        },
        () => client.resetAndDestroy(),
      )
      .finally(connected);
  });
  server.on('error', () => undefined); // no descriptor for one more: the others go on
  server.listen({ fd });
}

/** What is sent there from an exit is mail nobody asked for. */
const SMTP_PORT = 25;

function isPermitted(address: string, port?: number): boolean {
  const isFree = permitted.permits(address) && port !== SMTP_PORT;
  if (!isFree) flows.refused++;
  return isFree;
}

/** What a guest sends from one port: a port of the machine for all it sends to (RFC 4787, REQ-1). */
interface Mapping {
  readonly socket: UdpSocket;
  usedAt: number;
  readonly end: () => void;
}
const mappings = new Map<string, Mapping>();
/** By `address port`: bound there in the private network, so that answers come from whom they are of. */
const answerers = new Map<string, UdpSocket>();

function answererOf(address: string, port: number): UdpSocket | undefined {
  const key = `${address} ${port}`;
  const present = answerers.get(key);
  if (present !== undefined) {
    answerers.delete(key); // the last used is the last to go
    answerers.set(key, present);
    return present;
  }
  const ip = parseIp(address);
  if (ip === undefined) return undefined;
  const v6 = isIPv6(address);
  const fd = loadNativeAddon().openSocket(
    channel,
    v6 ? AF_INET6 : AF_INET,
    SOCK_DGRAM,
    0,
    v6 ? ip : ip.subarray(12),
    port,
    true,
  );
  if (fd < 0) return undefined;
  const [oldest] = answerers;
  if (answerers.size >= MAX_ANSWERERS && oldest !== undefined) {
    oldest[1].close();
    answerers.delete(oldest[0]);
  }
  const socket = createSocket(v6 ? 'udp6' : 'udp4');
  socket.on('error', () => undefined); // what the network says of one datagram
  socket.bind({ fd });
  answerers.set(key, socket);
  return socket;
}

function mappingOf(guest: string, port: number): Mapping | undefined {
  const key = `${guest} ${port}`;
  const present = mappings.get(key);
  if (present !== undefined) return present;
  if (!flows.mayBegin(guest, 'udp')) return undefined;
  const socket = createSocket({ type: isIPv6(guest) ? 'udp6' : 'udp4', ipv6Only: isIPv6(guest) });
  const end = (): void => {
    if (mappings.delete(key)) socket.close();
    left();
  };
  const left = flows.enter(guest, 'udp', end);
  const mapping: Mapping = { socket, usedAt: performance.now(), end };
  mappings.set(key, mapping);
  socket.on('error', end);
  socket.on('message', (data, from) => {
    mapping.usedAt = performance.now();
    answererOf(from.address, from.port)?.send(data, port, guest, () => undefined);
  });
  return mapping;
}

function datagram(bytes: Uint8Array): void {
  const text = (at: number): readonly [string, number] => [
    formatIp(bytes.subarray(at, at + 16)),
    (bytes[at + 16] ?? 0) | ((bytes[at + 17] ?? 0) << 8),
  ];
  const [[guest, port], [address, toPort]] = [text(0), text(18)];
  if (port === 0 || toPort === 0 || !isPermitted(address)) return;
  const mapping = mappingOf(guest, port);
  if (mapping === undefined) return;
  mapping.usedAt = performance.now();
  mapping.socket.send(bytes.subarray(36), toPort, address, () => undefined);
}

setInterval(() => {
  const now = performance.now();
  for (const { usedAt, end } of mappings.values()) if (now - usedAt > UDP_IDLE_MS) end();
}, UDP_IDLE_MS / 10);

function take(message: ToGateway): void {
  switch (message.type) {
    case 'guests':
      permitted = new Permitted(message.rules);
      flows.setGuests(message.addresses);
      break;
    case 'channel':
      ({ channel } = message);
      break;
    case 'datagram':
      datagram(message.datagram);
      break;
  }
}
parentPort?.on('message', (message: ToGateway | { readonly type: 'reader'; readonly port: MessagePort }) => {
  if (message.type === 'reader') message.port.on('message', take);
  else take(message);
});
setInterval(() => {
  const counts: GatewayCounts = { tcp: flows.all.tcp, udp: flows.all.udp, refused: flows.refused };
  parentPort?.postMessage(counts);
}, COUNTS_MS);
