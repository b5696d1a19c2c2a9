// The network between simulated hosts: latency, loss, NATs. A datagram is bytes from an address to an
// address; who hears it depends on what the NATs in between have seen.

import { formatIp, formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { EventQueue } from './event-queue.js';
import type { Nat } from './nat.js';
import type { Prng } from './prng.js';

export interface Host {
  readonly address: SocketAddress;
  readonly nat: Nat | undefined;
  /** Addresses beside `address`, of either family; no NAT is in front of them. */
  readonly moreAddresses: readonly SocketAddress[];
  /** One-way milliseconds from this host to the middle of the Internet. */
  readonly latencyMs: number;
  /** @param at which of its addresses the datagram came to */
  receive(from: SocketAddress, datagram: Uint8Array, at: SocketAddress): void;
}

export class Internet {
  readonly #queue: EventQueue;
  readonly #prng: Prng;
  readonly #hosts = new Map<string, Host>();
  readonly #nats = new Map<string, { readonly nat: Nat; readonly inside: Map<string, Host> }>();
  /** Probability that a datagram is lost. */
  loss: number;
  datagrams = 0;
  bytes = 0;
  lost = 0;
  /** FNV-1a over every datagram that arrived, with its time and addresses. */
  #trace = 0x811c9dc5;

  constructor(queue: EventQueue, prng: Prng, loss: number) {
    this.#queue = queue;
    this.#prng = prng;
    this.loss = loss;
  }

  /** Equal for equal runs. */
  get traceHash(): string {
    return (this.#trace >>> 0).toString(16).padStart(8, '0');
  }

  attach(host: Host): void {
    for (const address of host.moreAddresses) this.#hosts.set(formatSocketAddress(address), host);
    if (host.nat === undefined) {
      this.#hosts.set(formatSocketAddress(host.address), host);
      return;
    }
    const ip = formatIp(host.nat.ip);
    const known = this.#nats.get(ip) ?? { nat: host.nat, inside: new Map<string, Host>() };
    known.inside.set(formatSocketAddress(host.address), host);
    this.#nats.set(ip, known);
  }

  detach(host: Host): void {
    for (const other of host.moreAddresses) this.#hosts.delete(formatSocketAddress(other));
    const address = formatSocketAddress(host.address);
    if (host.nat === undefined) this.#hosts.delete(address);
    else this.#nats.get(formatIp(host.nat.ip))?.inside.delete(address);
  }

  /** @param local which of the sender's addresses it leaves by */
  send(sender: Host, local: SocketAddress, to: SocketAddress, datagram: Uint8Array): void {
    const nat = local === sender.address ? sender.nat : undefined;
    const from = nat?.outbound(local, to, this.#queue.now) ?? local;
    this.datagrams++;
    this.bytes += datagram.length;
    if (this.#prng.fraction() < this.loss) {
      this.lost++;
      return;
    }
    const copy = datagram.slice();
    const jitter = this.#prng.fraction();
    this.#queue.at(this.#queue.now + sender.latencyMs + jitter, () => this.#cross(from, to, copy));
  }

  /** At the far edge: filtered or passed on now, heard after the receiver's own latency. */
  #cross(from: SocketAddress, to: SocketAddress, datagram: Uint8Array): void {
    const behind = this.#nats.get(formatIp(to.ip));
    const inside = behind?.nat.inbound(from, to.port, this.#queue.now);
    const receiver =
      inside === undefined
        ? this.#hosts.get(formatSocketAddress(to))
        : behind?.inside.get(formatSocketAddress(inside));
    if (receiver === undefined) return;
    this.#queue.at(this.#queue.now + receiver.latencyMs, () => {
      this.#note(from, to, datagram);
      receiver.receive(from, datagram, inside ?? to);
    });
  }

  #note(from: SocketAddress, to: SocketAddress, datagram: Uint8Array): void {
    const time = new Uint8Array(new Float64Array([this.#queue.now]).buffer);
    let hash = this.#trace;
    for (const part of [time, from.ip, Uint8Array.of(from.port & 0xff, from.port >> 8), to.ip, datagram])
      for (const byte of part) hash = Math.imul(hash ^ byte, 0x01000193);
    this.#trace = hash;
  }
}
