// The thread of a gateway: what guests send to the Internet arrives at sockets of the private network that take what is for
// any address, and leaves by ordinary sockets of the machine.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, isIPv6, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { loadNativeAddon } from '../engine/native/native-addon.js';
import { freeDescriptors, SPARE_DESCRIPTORS } from '../host/descriptor-limit.js';
import { formatIp, parseIp } from '../wire/socket-address.js';
import { GatewayAnswerers } from './gateway-answerers.js';
import { GatewayDatagrams, type GatewayFlow } from './gateway-datagrams.js';
import { GatewayFlows } from './gateway-flows.js';
import {
  NOWHERE,
  type FromGateway,
  type GatewayCounts,
  type GatewayStart,
  type ToGateway,
} from './gateway-messages.js';
import { machineNetwork, plainAddress } from './inner-network.js';
import { openMachineSocket, packedEnd, type Unreachable } from './machine-socket.js';
import { Permitted } from './permitted.js';
import { connectToFirst, relayStreams } from './relayed-stream.js';

const CONNECT_MS = 10_000;
/** RFC 4787, REQ-5; RFC 5508, REQ-1. */
const IDLE_MS = { udp: 5 * 60_000, ping: 60_000 } as const;
const TIDY_MS = 10_000;
const COUNTS_MS = 1000;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;

const start = workerData as GatewayStart;
const flows = new GatewayFlows(() => performance.now(), freeDescriptors() - SPARE_DESCRIPTORS);
const nobody = { addresses: new Set<string>(), permitted: new Permitted(NOWHERE) };
let exit = nobody;
let lan = nobody;
let { channel } = start;
const pending = new Int32Array(start.pending);

/** Connections of guests, with whose they are and where they go. */
const connections = new Map<Socket, readonly [guest: string, address: string, port: number]>();

for (const fd of start.tcp) {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    client.on('error', () => undefined); // 'close' follows
    const [guest, address, port] = [
      plainAddress(client.remoteAddress ?? ''),
      plainAddress(client.localAddress ?? ''),
      client.localPort,
    ];
    if (port === undefined || !flows.mayBegin(guest, 'tcp') || !isPermitted(guest, address, port)) {
      client.resetAndDestroy();
      return;
    }
    const left = flows.enter(guest, 'tcp', () => client.resetAndDestroy());
    const connected = flows.enter(guest, 'connecting');
    connections.set(client, [guest, address, port]);
    client.once('close', () => {
      connections.delete(client);
      left();
    });
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
parentPort?.postMessage({ type: 'ready' } satisfies FromGateway);

/** What is sent there from an exit is mail nobody asked for. */
const SMTP_PORT = 25;

function permits(guest: string, address: string, port?: number): boolean {
  if (lan.addresses.has(guest) && lan.permitted.permits(address)) return true;
  return exit.addresses.has(guest) && exit.permitted.permits(address) && port !== SMTP_PORT;
}

function isPermitted(guest: string, address: string, port?: number): boolean {
  const isFree = permits(guest, address, port);
  if (!isFree) flows.refused++;
  return isFree;
}

function openAnswerer(address: string, port: number): UdpSocket | undefined {
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
  return fd < 0 ? undefined : createSocket(v6 ? 'udp6' : 'udp4').bind({ fd });
}

/** As NativeAddon.receiveDatagram has it. */
const packed = ({ guest, port, address, toPort }: GatewayFlow): Uint8Array =>
  Buffer.concat([packedEnd(guest, port), packedEnd(address, toPort)]);

const icmp = (flow: GatewayFlow): number | undefined => (isIPv6(flow.guest) ? start.icmp6 : start.icmp4);

function refuse(flow: GatewayFlow, data: Uint8Array, why: Unreachable): void {
  const raw = icmp(flow);
  if (raw !== undefined) loadNativeAddon().sendUnreachable(raw, packed(flow), data, why);
}

function answerPing(flow: GatewayFlow, reply: Uint8Array): void {
  const raw = icmp(flow);
  if (raw !== undefined) loadNativeAddon().sendEchoReply(raw, packed(flow), reply);
}

const answerers = new GatewayAnswerers(flows, openAnswerer);
const shared = { flows, isPermitted, refuse, now: () => performance.now() };
const datagrams = new GatewayDatagrams({
  ...shared,
  open: (ipv6) => openMachineSocket('udp', ipv6),
  answer: (flow, data) => answerers.send(flow, data),
  idleMs: IDLE_MS.udp,
});
const pings = new GatewayDatagrams({
  ...shared,
  open: (ipv6) => openMachineSocket('ping', ipv6),
  answer: answerPing,
  idleMs: IDLE_MS.ping,
});
setInterval(() => [datagrams, pings].forEach((each) => each.tidy()), TIDY_MS);

const own = new Set(start.own);

function datagram(bytes: Uint8Array): void {
  const end = (at: number): readonly [string, number] => [
    formatIp(bytes.subarray(at, at + 16)),
    (bytes[at + 16] ?? 0) | ((bytes[at + 17] ?? 0) << 8),
  ];
  const [[guest, port], [address, toPort]] = [end(0), end(18)];
  const flow = { guest, port, address, toPort };
  const data = bytes.subarray(36);
  if (toPort !== 0) {
    if (port !== 0) datagrams.send(flow, data);
    // The socket has pings of everybody in that network, those of this member among them, which the kernel answers.
  } else if (flows.isGuest(guest) && !own.has(address)) pings.send(flow, data);
}

let told = '';

/** What goes to where nothing is forwarded any more ends. */
function setRules(guests: Extract<ToGateway, { type: 'guests' }>): void {
  const text = JSON.stringify(guests);
  if (text === told) return;
  told = text;
  [exit, lan] = [guests.exit, guests.lan].map(({ addresses, rules }) => ({
    addresses: new Set(addresses),
    permitted: new Permitted(rules),
  })) as [typeof nobody, typeof nobody];
  for (const [client, place] of connections) if (!permits(...place)) client.resetAndDestroy();
  flows.setGuests([...new Set([...guests.exit.addresses, ...guests.lan.addresses])]);
}

function take(message: ToGateway): void {
  switch (message.type) {
    case 'guests':
      setRules(message);
      break;
    case 'channel':
      ({ channel } = message);
      break;
    case 'datagram':
      Atomics.sub(pending, 0, 1);
      Atomics.notify(pending, 0);
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
  parentPort?.postMessage({ type: 'counts', counts } satisfies FromGateway);
}, COUNTS_MS);
