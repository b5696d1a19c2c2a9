// The one UDP port of a node over node:dgram. node:dgram neither says which of the host's addresses a
// datagram was sent to nor lets one be sent from an address (no IP_PKTINFO), so the port is bound once for each
// address and once for all:
//
//   a socket of an address    what was sent to that address; what is sent by it leaves from there
//   the socket of all         what was sent to an address that has none, because it is new or on no interface's
//                             list; what is sent by it leaves from where routing says
//
// The host's addresses are looked at every second, and when something comes in by the socket of all. Sockets
// that share a port have to agree to it (SO_REUSEPORT, for processes of one user; before Node 22.12 only
// SO_REUSEADDR, for any). Before they do, the port is bound for this process alone, so that one in use is seen.
//
// Node gives no access to the TOS byte of a packet: ECN and DSCP are the native engine's alone.

import { createSocket, type Socket, type SocketOptions } from 'node:dgram';
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import { formatIp, isIPv4, parseIp, type SocketAddress } from '../../wire/socket-address.js';
import { EngineError } from '../../contract/engine.js';
import type { LocalSource } from '../../contract/path-control.js';
import { localOf, type LocalAddress } from './local-address.js';
import { SendLanes } from './send-lanes.js';

/** Holds a burst while a handshake keeps the one thread busy; the kernel may grant less. */
const BUFFER_BYTES = 4 << 20;
/** Parsed and formatted addresses kept; more than that start over. */
const CACHED_ADDRESSES = 1024;
/** Addresses with a socket of their own; further ones share that of all. */
const MAX_ADDRESSES = 256;
/** Lanes of all sockets: each is a descriptor. */
const MAX_LANES = 128;
const LOOK_INTERVAL_MS = 1000;
/** Datagrams to an address that cannot be known (another loopback one) do not have it looked for each time. */
const LOOK_PAUSE_MS = 100;

/** The host's interfaces as node:os tells them. */
export type HostInterfaces = () => NodeJS.Dict<NetworkInterfaceInfo[]>;

export interface UdpShellEvents {
  /** @param local what it was sent to; undefined: that is not known */
  onDatagram(datagram: Uint8Array, from: SocketAddress, local: LocalAddress | undefined): void;
  /** The host has this address no more. */
  onAddressGone(local: LocalAddress): void;
  onSendError(): void;
  /** There was no room for a datagram. */
  onSendQueueFull(): void;
}

type Family = 'udp4' | 'udp6';

interface Bound {
  readonly socket: Socket;
  readonly family: Family;
  /** Whether others of this shell's sockets have, or may have, the same address and port. */
  readonly shared: boolean;
}

/** A socket that is listened to, and how it is sent by. */
interface Listening extends Bound {
  readonly lanes: SendLanes;
}

export class UdpShell {
  readonly port: number;
  /** The socket of all addresses, or of the one that was chosen. */
  readonly #main: Listening;
  /** The one address that was chosen. */
  readonly #only: LocalAddress | undefined;
  /** The addresses that have a socket; undefined while it is being bound. */
  readonly #sockets = new Map<LocalAddress, Listening | undefined>();
  /** Beside the one port, each at one of the host's addresses; undefined while it is being bound. */
  readonly #extra = new Map<LocalAddress, Listening | undefined>();
  readonly #families: readonly Family[];
  readonly #interfaces: HostInterfaces;
  readonly #events: UdpShellEvents;
  readonly #ips = new Map<string, Uint8Array>();
  #timer: NodeJS.Timeout | undefined;
  /** Open lanes, and those being opened. */
  #lanes = 0;
  #lookedAt = -Infinity;
  #closed: Promise<void> | undefined;

  private constructor(
    main: Bound,
    families: readonly Family[],
    interfaces: HostInterfaces,
    events: UdpShellEvents,
    only?: LocalAddress,
  ) {
    this.#only = only;
    this.#families = families;
    this.#interfaces = interfaces;
    this.#events = events;
    this.port = main.socket.address().port;
    this.#main = this.#listen(main, only);
  }

  /**
   * @param port 0 lets the kernel choose
   * @param bind the one address to bind; undefined = all of both families
   * @throws EngineError PORT_IN_USE, BIND_FAILED, BAD_ARGUMENT
   */
  static async open(
    port: number,
    bind: string | undefined,
    events: UdpShellEvents,
    interfaces: HostInterfaces = networkInterfaces,
  ): Promise<UdpShell> {
    const ip = bind === undefined ? undefined : parseIp(bind);
    if (bind !== undefined && ip === undefined) {
      throw new EngineError(
        'BAD_ARGUMENT',
        `bind: '${bind}' is not an IP address; give one, or leave it out`,
      );
    }
    const text = formatIp(ip ?? new Uint8Array(16));
    try {
      if (text !== '::' && text !== '0.0.0.0')
        return new UdpShell(await bindSocket(port, text, false), [], interfaces, events, text);
      const { main, families } = await bindAll(port, text, bind === undefined);
      const shell = new UdpShell(main, families, interfaces, events);
      await shell.#look();
      shell.#timer = setInterval(() => void shell.#look(), LOOK_INTERVAL_MS).unref();
      return shell;
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EADDRINUSE') {
        const at = await addressInUse(port, interfaces());
        throw new EngineError(
          'PORT_IN_USE',
          `port: UDP port ${port} is in use by another process${at === undefined ? '' : ` at ${at}`}; choose another port, or 0 for any`,
        );
      }
      throw new EngineError(
        'BIND_FAILED',
        `bind: UDP ${bind ?? '[::]'} port ${port} cannot be bound (${code})`,
      );
    }
  }

  /** @param local what to send from; routing chooses when it is undefined or not the host's any more */
  send(to: SocketAddress, datagram: Uint8Array, local?: LocalAddress): void {
    if (to.port === 0) {
      this.#events.onSendError(); // node:dgram would throw
      return;
    }
    const ipv4 = isIPv4(to.ip);
    const own = local === undefined ? undefined : this.#socketOf(local);
    const { lanes, family } = own !== undefined && (own.family === 'udp4') === ipv4 ? own : this.#main;
    const text = formatIp(to.ip);
    const socket = lanes.towards(text, performance.now());
    if (socket === undefined) {
      this.#events.onSendQueueFull();
      return;
    }
    socket.send(datagram, to.port, ipv4 && family === 'udp6' ? `::ffff:${text}` : text, (error) => {
      if (error !== null) this.#events.onSendError();
    });
  }

  /** Whether what is sent from this address leaves from there. */
  hasAddress(local: LocalAddress | undefined): boolean {
    return local !== undefined && (local === this.#only || this.#socketOf(local) !== undefined);
  }

  sendsFrom(source: LocalSource): boolean {
    return this.hasAddress(localOf(source));
  }

  /** The ports there are to be beside the one, each at an address of this host's; those that are not named are closed. */
  setPorts(ports: readonly SocketAddress[]): void {
    const wanted = new Map(ports.map((at) => [localOf({ ...at, interface: 0 }), at]));
    for (const [local, bound] of this.#extra) {
      if (wanted.has(local)) continue;
      this.#extra.delete(local);
      bound?.socket.close();
    }
    for (const [local, { ip, port }] of wanted)
      if (!this.#extra.has(local)) void this.#openExtra(local, formatIp(ip), port);
  }

  #socketOf(local: LocalAddress): Listening | undefined {
    return this.#sockets.get(local) ?? this.#extra.get(local);
  }

  /** One that somebody else has is not there. */
  async #openExtra(local: LocalAddress, address: string, port: number): Promise<void> {
    this.#extra.set(local, undefined);
    try {
      const bound = await bindSocket(port, address, false);
      if (this.#closed !== undefined || !this.#extra.has(local)) await closeSocket(bound.socket);
      else {
        this.#hear(bound.socket, local);
        this.#extra.set(local, { ...bound, lanes: new SendLanes(bound.socket, undefined) });
      }
    } catch {
      this.#extra.delete(local);
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    const own = [...this.#sockets.values(), ...this.#extra.values()].filter((bound) => bound !== undefined);
    this.#sockets.clear();
    this.#extra.clear();
    for (const { lanes } of [this.#main, ...own]) lanes.close();
    await Promise.all([this.#main, ...own].map(({ socket }) => closeSocket(socket)));
  }

  #listen(bound: Bound, local: LocalAddress | undefined): Listening {
    const { socket, family, shared } = bound;
    this.#hear(socket, local);
    const { address } = socket.address();
    const openLane = async (): Promise<Socket> => {
      if (this.#lanes >= MAX_LANES) throw new RangeError(`lanes: ${MAX_LANES} are open`);
      this.#lanes++;
      const lane = await bindSocket(this.port, local ?? address, true).catch((error: unknown) => {
        this.#lanes--;
        throw error;
      });
      lane.socket.once('close', () => this.#lanes--);
      this.#hear(lane.socket, local);
      return lane.socket;
    };
    return { socket, family, shared, lanes: new SendLanes(socket, shared ? openLane : undefined) };
  }

  #hear(socket: Socket, local: LocalAddress | undefined): void {
    socket.on('message', (datagram, { address, port }) => {
      const ip = this.#parse(address);
      // Nothing can be sent to port 0 (RFC 768: there is nobody to reply to).
      if (ip === undefined || port === 0) return;
      if (local === undefined && performance.now() - this.#lookedAt > LOOK_PAUSE_MS) void this.#look();
      this.#events.onDatagram(
        new Uint8Array(datagram.buffer, datagram.byteOffset, datagram.length),
        { ip, port },
        local,
      );
    });
    // ICMP errors of earlier sends may show here; UDP goes on.
    socket.on('error', () => this.#events.onSendError());
  }

  /** Gives each of the host's addresses its socket. */
  async #look(): Promise<void> {
    if (this.#families.length === 0) return;
    this.#lookedAt = performance.now();
    let interfaces;
    try {
      interfaces = this.#interfaces();
    } catch {
      return; // as without a descriptor left: what is there is kept until the next look
    }
    const present = localAddresses(interfaces).filter((local) => this.#families.includes(familyOf(local)));
    for (const [local, bound] of this.#sockets) {
      if (bound === undefined || present.includes(local)) continue;
      this.#sockets.delete(local);
      this.#events.onAddressGone(local);
      bound.lanes.close();
      bound.socket.close();
    }
    for (const bound of [this.#main, ...this.#sockets.values()]) bound?.lanes.closeUnused(this.#lookedAt);
    const missing = present.filter((local) => !this.#sockets.has(local));
    await Promise.all(missing.slice(0, MAX_ADDRESSES - this.#sockets.size).map((local) => this.#open(local)));
  }

  /** An address that cannot be bound (duplicates of an IPv6 one are still looked for) is tried again later. */
  async #open(local: LocalAddress): Promise<void> {
    this.#sockets.set(local, undefined);
    try {
      const bound = await bindSocket(this.port, local, true);
      if (this.#closed !== undefined) {
        await closeSocket(bound.socket);
        return;
      }
      this.#sockets.set(local, this.#listen(bound, local));
    } catch {
      this.#sockets.delete(local);
    }
  }

  #parse(text: string): Uint8Array | undefined {
    let ip = this.#ips.get(text);
    if (ip === undefined) {
      ip = parseIp(text.replace(/%.*$/, '')); // a link-local address comes with its zone
      if (ip === undefined) return undefined;
      if (this.#ips.size >= CACHED_ADDRESSES) this.#ips.clear();
      this.#ips.set(text, ip);
    }
    return ip;
  }
}

function familyOf(address: string): Family {
  return address.includes(':') ? 'udp6' : 'udp4';
}

function localAddresses(interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>): LocalAddress[] {
  const all = Object.entries(interfaces).flatMap(([name, infos]) =>
    (infos ?? []).map(({ address }) => {
      const plain = address.replace(/%.*$/, '');
      return /^fe[89ab]/i.test(plain) ? `${plain}%${name}` : plain;
    }),
  );
  return [...new Set(all)];
}

/** The socket of all addresses, IPv4's alone where the kernel has no IPv6 and nobody asked for it. */
async function bindAll(
  port: number,
  address: string,
  eitherFamily: boolean,
): Promise<{ main: Bound; families: readonly Family[] }> {
  try {
    const alone = await bindSocket(port, address, false);
    const chosen = alone.socket.address().port;
    await closeSocket(alone.socket);
    const main = await bindSocket(chosen, address, true);
    return { main, families: address === '::' ? ['udp4', 'udp6'] : ['udp4'] };
  } catch (error) {
    if (!eitherFamily || address !== '::' || !['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes(codeOf(error)))
      throw error;
    return bindAll(port, '0.0.0.0', false);
  }
}

/** Which address a port cannot be bound at, if it is not all of them. */
async function addressInUse(
  port: number,
  interfaces: NodeJS.Dict<NetworkInterfaceInfo[]>,
): Promise<string | undefined> {
  const all = localAddresses(interfaces);
  const inUse: string[] = [];
  for (const local of all) {
    try {
      await closeSocket((await bindSocket(port, local, false)).socket);
    } catch (error) {
      if (codeOf(error) === 'EADDRINUSE') inUse.push(local);
    }
  }
  return inUse.length < all.length ? inUse[0] : undefined;
}

/** Node 22.12 and 23.1 brought `reusePort`. */
function sharing(): SocketOptions & { reusePort?: boolean } {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const reusePort = major > 23 || (major === 23 && minor >= 1) || (major === 22 && minor >= 12);
  return reusePort ? { type: 'udp4', reusePort: true } : { type: 'udp4', reuseAddr: true };
}

/** @param shared whether others of this shell's sockets have the same port */
async function bindSocket(port: number, address: string, shared: boolean): Promise<Bound> {
  const family = familyOf(address);
  const socket = createSocket({
    ...(shared ? sharing() : {}),
    type: family,
    recvBufferSize: BUFFER_BYTES,
    sendBufferSize: BUFFER_BYTES,
    // Addresses are literals: answering at once keeps every send in one turn of the event loop.
    lookup: (host, _options, callback) => callback(null, host, family === 'udp4' ? 4 : 6),
  });
  return new Promise((resolve, reject) => {
    socket.once('error', (error) => {
      socket.close();
      reject(error);
    });
    socket.bind(port, address, () => {
      socket.removeAllListeners('error');
      resolve({ socket, family, shared });
    });
  });
}

function closeSocket(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.close(() => resolve());
  });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
