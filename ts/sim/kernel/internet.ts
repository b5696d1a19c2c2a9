// The network between simulated hosts: networks within networks, with a NAT at the edge of each, and the
// public one around them all. A datagram is bytes from an address to an address; who hears it depends on
// what links lose and what NATs and firewalls have seen.

import { formatIp, formatSocketAddress, type SocketAddress } from '../../wire/socket-address.js';
import type { EventQueue } from './event-queue.js';
import type { Firewall } from './firewall.js';
import type { Link } from './link.js';
import type { Nat } from './nat.js';
import type { Prng } from './prng.js';

/** Headers of IP and UDP. */
const IPV4_OVERHEAD = 28;
/** One-way between two in one network. */
const NEARBY_MS = 0.5;

/** One of a host's addresses, and what is between it and the next network. */
export interface Attachment {
  readonly address: SocketAddress;
  /** Whose inside the address is in; undefined = it is public. */
  readonly nat: Nat | undefined;
  readonly firewall: Firewall | undefined;
  /** One-way milliseconds to the middle of the Internet; the links come on top. */
  readonly latencyMs: number;
  readonly out: Link | undefined;
  readonly in: Link | undefined;
  /** Something arrived at `address`. */
  receive(from: SocketAddress, datagram: Uint8Array): void;
}

/** What lies in one network: hosts, and the NATs of networks within. */
interface Area {
  readonly hosts: Map<string, Attachment>;
  readonly nats: Map<string, Nat>;
}

export class Internet {
  readonly #queue: EventQueue;
  readonly #prng: Prng;
  readonly #public: Area = { hosts: new Map(), nats: new Map() };
  readonly #inside = new Map<Nat, Area>();
  /** Probability that a datagram is lost. */
  loss: number;
  /** Whether none of so many bytes of UDP payload comes through from one public address to another. */
  blocked: (from: SocketAddress, to: SocketAddress, bytes: number) => boolean = () => false;
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

  attach(attachment: Attachment): void {
    this.#area(attachment.nat).hosts.set(formatSocketAddress(attachment.address), attachment);
  }

  detach({ address, nat }: Attachment): void {
    this.#area(nat).hosts.delete(formatSocketAddress(address));
  }

  send(sender: Attachment, to: SocketAddress, datagram: Uint8Array): void {
    this.datagrams++;
    this.bytes += datagram.length;
    const { now } = this.#queue;
    if (sender.firewall?.outbound(to, now) === false) return;
    const way = this.#wayOut(sender, to, now);
    if (this.#prng.fraction() < this.loss) {
      this.lost++;
      return;
    }
    const copy = datagram.slice();
    const jitter = this.#prng.fraction();
    if (way === undefined) return;
    const latency = way.nearby ? NEARBY_MS : sender.latencyMs + jitter;
    for (const at of this.#arrivals(sender.out, copy, now))
      this.#queue.at(at + latency, () => this.#cross(way.area, way.from, to, copy, way.nearby));
  }

  /**
   * The network the target is in, and the address the datagram has there: it leaves networks until it is where the
   * target is, and by the NATs at their edges. One that leaves for the NAT's own address comes back in (hairpin).
   */
  #wayOut(
    { address, nat }: Attachment,
    to: SocketAddress,
    now: number,
  ): { readonly area: Area; readonly from: SocketAddress; readonly nearby: boolean } | undefined {
    let from = address;
    let inside = nat;
    for (;;) {
      const area = this.#area(inside);
      const here = area.hosts.has(formatSocketAddress(to)) || area.nats.has(formatIp(to.ip));
      if (here || inside === undefined) return { area, from, nearby: inside !== undefined && inside === nat };
      if (formatIp(inside.ip) === formatIp(to.ip) && !inside.behaviour.hairpin) return undefined;
      from = inside.outbound(from, to, now);
      inside = inside.outer;
    }
  }

  /** In the target's network: filtered or passed on now, heard after the receiver's own latency. */
  #cross(area: Area, from: SocketAddress, to: SocketAddress, datagram: Uint8Array, nearby: boolean): void {
    if (area === this.#public && this.blocked(from, to, datagram.length)) return;
    const receiver = area.hosts.get(formatSocketAddress(to));
    if (receiver === undefined) {
      const nat = area.nats.get(formatIp(to.ip));
      const inside = nat?.inbound(from, to.port, this.#queue.now);
      if (nat !== undefined && inside !== undefined)
        this.#cross(this.#area(nat), from, inside, datagram, nearby);
      return;
    }
    if (receiver.firewall?.inbound(from, to.port, this.#queue.now) === false) return;
    const latency = nearby ? 0 : receiver.latencyMs;
    for (const at of this.#arrivals(receiver.in, datagram, this.#queue.now))
      this.#queue.at(at + latency, () => {
        if (area.hosts.get(formatSocketAddress(to)) !== receiver) return; // gone meanwhile
        this.#note(from, to, datagram);
        receiver.receive(from, datagram);
      });
  }

  #arrivals(link: Link | undefined, datagram: Uint8Array, now: number): number[] {
    if (link === undefined) return [now];
    const arrivals = link.arrivals(datagram.length + IPV4_OVERHEAD, now);
    if (arrivals.length === 0) this.lost++;
    return arrivals;
  }

  #area(nat: Nat | undefined): Area {
    if (nat === undefined) return this.#public;
    let area = this.#inside.get(nat);
    if (area === undefined) {
      area = { hosts: new Map(), nats: new Map() };
      this.#inside.set(nat, area);
      this.#area(nat.outer).nats.set(formatIp(nat.ip), nat);
    }
    return area;
  }

  #note(from: SocketAddress, to: SocketAddress, datagram: Uint8Array): void {
    const time = new Uint8Array(new Float64Array([this.#queue.now]).buffer);
    let hash = this.#trace;
    for (const part of [time, from.ip, Uint8Array.of(from.port & 0xff, from.port >> 8), to.ip, datagram])
      for (const byte of part) hash = Math.imul(hash ^ byte, 0x01000193);
    this.#trace = hash;
  }
}
