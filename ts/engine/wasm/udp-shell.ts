// The one UDP port of a node over node:dgram. Without `bind` it is a dual-stack IPv6 socket, on which
// IPv4 has v4-mapped addresses; where the kernel has no IPv6, an IPv4 socket. Node gives no access
// to the TOS byte and the local address of a packet: ECN, DSCP and sticky sources are the native
// engine's alone.

import { createSocket, type Socket } from 'node:dgram';
import { formatIp, isIPv4, parseIp, type SocketAddress } from '../../wire/socket-address.js';
import { EngineError } from '../../contract/engine.js';

/** Holds a burst while a handshake keeps the one thread busy; the kernel may grant less. */
const BUFFER_BYTES = 4 << 20;
/** Parsed and formatted addresses kept; more than that start over. */
const CACHED_ADDRESSES = 1024;

export interface UdpShellEvents {
  onDatagram(datagram: Uint8Array, from: SocketAddress): void;
  onSendError(): void;
}

export class UdpShell {
  readonly port: number;
  readonly #socket: Socket;
  readonly #dualStack: boolean;
  readonly #events: UdpShellEvents;
  readonly #ips = new Map<string, Uint8Array>();
  #closed: Promise<void> | undefined;

  private constructor(socket: Socket, dualStack: boolean, events: UdpShellEvents) {
    this.#socket = socket;
    this.#dualStack = dualStack;
    this.#events = events;
    this.port = socket.address().port;
    socket.on('message', (datagram, { address, port }) => {
      const ip = this.#parse(address);
      if (ip === undefined) return;
      events.onDatagram(new Uint8Array(datagram.buffer, datagram.byteOffset, datagram.length), { ip, port });
    });
    // ICMP errors of earlier sends may show here; UDP goes on.
    socket.on('error', () => events.onSendError());
  }

  /**
   * @param port 0 lets the kernel choose
   * @param bind the one address to bind; undefined = all of both families
   * @throws EngineError PORT_IN_USE, BIND_FAILED, BAD_ARGUMENT
   */
  static async open(port: number, bind: string | undefined, events: UdpShellEvents): Promise<UdpShell> {
    const ip = bind === undefined ? undefined : parseIp(bind);
    if (bind !== undefined && ip === undefined) {
      throw new EngineError(
        'BAD_ARGUMENT',
        `bind: '${bind}' is not an IP address; give one, or leave it out`,
      );
    }
    try {
      if (ip !== undefined) {
        return new UdpShell(
          await bindSocket(port, isIPv4(ip) ? 'udp4' : 'udp6', formatIp(ip)),
          false,
          events,
        );
      }
      try {
        return new UdpShell(await bindSocket(port, 'udp6', '::'), true, events);
      } catch (error) {
        if (!['EAFNOSUPPORT', 'EADDRNOTAVAIL'].includes(codeOf(error))) throw error;
        return new UdpShell(await bindSocket(port, 'udp4', '0.0.0.0'), false, events);
      }
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EADDRINUSE') {
        throw new EngineError(
          'PORT_IN_USE',
          `port: UDP port ${port} is in use by another process; choose another port, or 0 for any`,
        );
      }
      throw new EngineError(
        'BIND_FAILED',
        `bind: UDP ${bind ?? '[::]'} port ${port} cannot be bound (${code})`,
      );
    }
  }

  send(to: SocketAddress, datagram: Uint8Array): void {
    this.#socket.send(datagram, to.port, this.#format(to.ip), (error) => {
      if (error !== null) this.#events.onSendError();
    });
  }

  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => this.#socket.close(() => resolve()));
    return this.#closed;
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

  #format(ip: Uint8Array): string {
    return this.#dualStack && isIPv4(ip) ? `::ffff:${formatIp(ip)}` : formatIp(ip);
  }
}

async function bindSocket(port: number, type: 'udp4' | 'udp6', address: string): Promise<Socket> {
  const socket = createSocket({
    type,
    recvBufferSize: BUFFER_BYTES,
    sendBufferSize: BUFFER_BYTES,
    // Addresses are literals: answering at once keeps every send in one turn of the event loop.
    lookup: (host, _options, callback) => callback(null, host, type === 'udp4' ? 4 : 6),
  });
  return new Promise((resolve, reject) => {
    socket.once('error', (error) => {
      socket.close();
      reject(error);
    });
    socket.bind(port, address, () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
