// Names for guests: what they ask at the exit's inner addresses is asked of the exit's own resolvers, and answered as
// these answer. Who is no guest gets silence. Each question has a socket of its own, which takes answers from the
// resolver it went to alone: the port is the kernel's choice, and the number in the message is the guest's.

import type { Socket } from 'node:dgram';
import { createServer, isIPv6, type Server, type Socket as TcpSocket } from 'node:net';
import { TokenBucket } from '../engine/wasm/token-bucket.js';
import { hostSettings } from '../host/host-tuning.js';
import { messageOf } from '../host/operator-error.js';
import { formatIp, parseIp } from '../wire/socket-address.js';
import { machineNetwork, type InnerNetwork } from './inner-network.js';

const PORT = 53;
/** What a guest may ask, and at once (EXIT limits). */
const QUESTIONS_PER_SECOND = 100;
const QUESTIONS_AT_ONCE = 200;
/** Waiting for their answers, of all and of one guest. */
export const QUESTION_BOUNDS = { total: 1024, guest: 256 } as const;
export const CONNECTION_BOUNDS = { total: 128, guest: 16 } as const;
const IDLE_CONNECTION_MS = 10_000;
/** RFC 1035, section 4.1.1: the header; shorter is no question. */
const HEADER_BYTES = 12;
/** RFC 6891: nobody asks with more. */
const MAX_QUESTION_BYTES = 4096;

/** Where questions are taken and asked, and how long an answer is waited for; tests have others. */
export interface DnsPorts {
  readonly port: number;
  readonly resolverPort: number;
  readonly answerMs: number;
}
const PORTS: DnsPorts = { port: PORT, resolverPort: PORT, answerMs: 5000 };

/** Where guests ask, and where resolvers are asked. */
export interface DnsNetworks {
  readonly guests: InnerNetwork;
  readonly resolvers: InnerNetwork;
}
export const MACHINE_NAMES: DnsNetworks = { guests: machineNetwork, resolvers: machineNetwork };

/** RFC 1035, section 4.1.1: whoever asks is told at once that nobody can be asked (SERVFAIL). */
function serverFailure(question: Buffer): Buffer {
  const answer = Buffer.from(question);
  answer.writeUInt8(answer.readUInt8(2) | 0x80, 2);
  answer.writeUInt8(0x82, 3);
  return answer;
}

export interface DnsCounts {
  answered: number;
  unanswered: number;
  /** At a limit, or of who is no guest. */
  refused: number;
}

/** A query (RFC 1035, opcode 0), and no answer: resolvers that trust this host take updates from it as well. */
function isQuestion(message: Buffer): boolean {
  if (message.length < HEADER_BYTES || message.length > MAX_QUESTION_BYTES) return false;
  return (message.readUInt8(2) & 0xf8) === 0;
}

/** The resolvers of this host, of /etc/resolv.conf. */
export function hostResolvers(text = hostSettings.read('/etc/resolv.conf') ?? ''): string[] {
  return text.split('\n').flatMap((line) => {
    const [, address] = /^\s*nameserver\s+(\S+)/.exec(line) ?? [];
    const ip = address === undefined ? undefined : parseIp(address);
    return ip === undefined ? [] : [formatIp(ip)];
  });
}

export class DnsForwarder {
  readonly counts: DnsCounts = { answered: 0, unanswered: 0, refused: 0 };
  readonly #resolvers: () => readonly string[];
  readonly #now: () => number;
  readonly #ports: DnsPorts;
  readonly #networks: DnsNetworks;
  readonly #listeners: (Socket | Server)[] = [];
  /** Guests, with what they may ask. */
  #guests = new Map<string, TokenBucket>();
  readonly #waiting = new Map<string, number>();
  readonly #connected = new Map<string, number>();
  /** What ends each question and connection that is under way. */
  readonly #open = new Set<() => void>();

  /** @param now monotonic ms */
  constructor(
    resolvers: () => readonly string[],
    now: () => number,
    ports: DnsPorts = PORTS,
    networks: DnsNetworks = MACHINE_NAMES,
  ) {
    this.#networks = networks;
    this.#resolvers = resolvers;
    this.#now = now;
    this.#ports = ports;
  }

  get listening(): boolean {
    return this.#listeners.length > 0;
  }

  /** Listens at all of these inner addresses, or at none. @throws Error naming the address that is taken. */
  async listen(addresses: readonly string[]): Promise<void> {
    try {
      for (const address of addresses) {
        const socket = await this.#networks.guests.openUdp(address, this.#ports.port);
        this.#listeners.push(socket);
        socket.on('error', () => undefined); // what the network says of an answer nobody waits for
        socket.on('message', (question, from) => {
          if (from.port === 0)
            this.counts.refused++; // nothing can be sent there
          else this.#ask(question, from.address, (answer) => socket.send(answer, from.port, from.address));
        });
        const server = createServer((guest) => this.#relay(guest));
        this.#listeners.push(server);
        await this.#networks.guests.listen(server, address, this.#ports.port);
        server.on('error', () => undefined);
      }
    } catch (error) {
      this.close();
      throw new Error(`port 53 at the inner addresses: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Whom questions are taken from: inner addresses. */
  setGuests(addresses: readonly string[]): void {
    const now = this.#now();
    const { guests } = this.#networks;
    this.#guests = new Map(
      addresses
        .map((guest) => guests.seenAs?.(guest) ?? guest)
        .map((address) => [
          address,
          this.#guests.get(address) ?? new TokenBucket(QUESTIONS_PER_SECOND, QUESTIONS_AT_ONCE, now),
        ]),
    );
  }

  close(): void {
    for (const listener of this.#listeners.splice(0)) {
      try {
        listener.close();
      } catch {
        // It never listened.
      }
    }
    for (const end of [...this.#open]) end();
  }

  #ask(question: Buffer, guest: string, answer: (bytes: Buffer) => void): void {
    if (!isQuestion(question) || !this.#mayAsk(guest)) {
      this.counts.refused++;
      return;
    }
    const resolvers = this.#resolvers();
    if (resolvers.length === 0) {
      this.counts.unanswered++;
      answer(serverFailure(question));
      return;
    }
    const done = this.#enter(this.#waiting, guest, QUESTION_BOUNDS);
    if (done === undefined) {
      this.counts.refused++;
      return;
    }
    // The next resolver is asked when the first is silent for long: as a stub resolver would.
    let place = 0;
    const sockets: Socket[] = [];
    const end = (isAnswered = false): void => {
      if (!this.#open.delete(giveUp)) return;
      clearInterval(timer);
      for (const socket of sockets.splice(0)) socket.close();
      done();
      this.counts[isAnswered ? 'answered' : 'unanswered']++;
    };
    const giveUp = (): void => end();
    this.#open.add(giveUp);
    const tryNext = (): void => {
      const resolver = resolvers[place++];
      if (resolver === undefined) {
        end();
        return;
      }
      void this.#networks.resolvers.openUdp(isIPv6(resolver) ? '::' : '0.0.0.0', 0).then(
        (socket) => {
          if (this.#open.has(giveUp)) askBy(socket, resolver);
          else socket.close();
        },
        () => undefined, // no such family here, or no descriptor: the next is asked in its time
      );
    };
    const askBy = (socket: Socket, resolver: string): void => {
      sockets.push(socket);
      socket.on('error', () => undefined); // refused: the next is asked in its time
      socket.on('message', (bytes) => {
        const isAnswer = bytes.length >= HEADER_BYTES && bytes.readUInt16BE(0) === question.readUInt16BE(0);
        if (!isAnswer || !sockets.includes(socket)) return;
        end(true);
        answer(bytes);
      });
      // As an event: a callback would be called where there is no route as well.
      socket.once('connect', () => socket.send(question));
      socket.connect(this.#ports.resolverPort, resolver);
    };
    const timer = setInterval(tryNext, this.#ports.answerMs / Math.max(resolvers.length, 1));
    timer.unref();
    tryNext();
  }

  /** Questions by TCP, each after its length (RFC 1035, section 4.2.2): to the first resolver, answers as they come. */
  #relay(guest: TcpSocket): void {
    guest.on('error', () => guest.destroy());
    const address = guest.remoteAddress ?? '';
    const [resolver] = this.#resolvers();
    const done = this.#mayAsk(address) ? this.#enter(this.#connected, address, CONNECTION_BOUNDS) : undefined;
    if (done === undefined || resolver === undefined) {
      done?.();
      this.counts.refused++;
      guest.destroy();
      return;
    }
    const resolving = this.#networks.resolvers.connect(resolver, this.#ports.resolverPort);
    const end = (): void => {
      guest.destroy();
      resolving.destroy();
      if (this.#open.delete(end)) done();
    };
    this.#open.add(end);
    for (const socket of [guest, resolving]) {
      socket.setTimeout(IDLE_CONNECTION_MS, end);
      socket.on('error', end);
      socket.on('close', end);
    }
    let held = Buffer.alloc(0);
    guest.on('data', (bytes) => {
      held = Buffer.concat([held, bytes]);
      for (;;) {
        const size = held.length < 2 ? Infinity : 2 + held.readUInt16BE(0);
        if (held.length < size) break;
        if (!isQuestion(held.subarray(2, size)) || !this.#mayAsk(address)) {
          this.counts.refused++;
          end();
          return;
        }
        resolving.write(held.subarray(0, size));
        held = held.subarray(size);
      }
      if (resolving.writableNeedDrain) guest.pause();
    });
    resolving.on('drain', () => guest.resume());
    guest.on('end', () => resolving.end());
    resolving.on('end', () => resolving.end());
    resolving.pipe(guest);
  }

  #mayAsk(guest: string): boolean {
    return this.#guests.get(guest)?.take(this.#now()) === true;
  }

  /** Takes a place; undefined = there is none. @returns what gives it back */
  #enter(
    places: Map<string, number>,
    guest: string,
    bounds: { readonly total: number; readonly guest: number },
  ): (() => void) | undefined {
    const total = [...places.values()].reduce((sum, count) => sum + count, 0);
    const own = places.get(guest) ?? 0;
    if (total >= bounds.total || own >= bounds.guest) return undefined;
    places.set(guest, own + 1);
    return () => {
      const left = (places.get(guest) ?? 1) - 1;
      if (left <= 0) places.delete(guest);
      else places.set(guest, left);
    };
  }
}
