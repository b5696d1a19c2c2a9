// Session tables joined by a network without loss or delay, under a clock that only tests move.

import { createHash } from 'node:crypto';
import type { Step } from '../../ts/contract/step.js';
import type { EngineEvent, PeerConfig, PeerStatus } from '../../ts/contract/engine.js';
import { Counters } from '../../ts/engine/wasm/counters.js';
import type { SessionOutput } from '../../ts/engine/wasm/session-output.js';
import { SessionTable } from '../../ts/engine/wasm/session-table.js';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';

export interface Sent {
  readonly at: number;
  readonly from: VirtualNode;
  readonly to: SocketAddress;
  readonly datagram: Uint8Array;
}

export class VirtualNetwork {
  now = 1_000_000;
  /** Everything sent, in order. */
  readonly log: Sent[] = [];
  /** What becomes of a datagram: itself, changed, or undefined when it is lost. */
  filter: (sent: Sent) => Uint8Array | undefined = (sent) => sent.datagram;
  readonly #nodes = new Map<string, VirtualNode>();
  readonly #inFlight: Sent[] = [];
  #randomCounter = 0;

  node(name: string, maxPeers = 100): VirtualNode {
    const address = socketAddress(`192.0.2.${this.#nodes.size + 1}:51820`);
    const node = new VirtualNode(this, name, address, maxPeers);
    this.#nodes.set(formatSocketAddress(address), node);
    return node;
  }

  step(): Step {
    return {
      now: this.now,
      wallClock: 1_800_000_000_000 + this.now,
      random: (length) => {
        const bytes = new Uint8Array(length);
        for (let at = 0; at < length; at += 32) {
          const block = createHash('sha256').update(`random ${this.#randomCounter++}`).digest();
          bytes.set(block.subarray(0, Math.min(32, length - at)), at);
        }
        return bytes;
      },
    };
  }

  transmit(sent: Sent): void {
    this.log.push(sent);
    this.#inFlight.push(sent);
  }

  /** Puts a datagram into a node as if it came from `from`. */
  inject(to: VirtualNode, datagram: Uint8Array, from: SocketAddress): void {
    to.take(to.table.handleMessage(datagram, { address: from }, this.step()));
  }

  /** Delivers what is in flight and works off what is due, until nothing moves. */
  settle(): void {
    for (;;) {
      const sent = this.#inFlight.shift();
      if (sent !== undefined) {
        const datagram = this.filter(sent);
        const node = this.#nodes.get(formatSocketAddress(sent.to));
        if (datagram !== undefined && node !== undefined) {
          this.inject(node, Uint8Array.from(datagram), sent.from.address);
        }
        continue;
      }
      const due = [...this.#nodes.values()].filter((node) => (node.table.deadline() ?? Infinity) <= this.now);
      if (due.length === 0) return;
      for (const node of due) node.take(node.table.handleTimeout(this.step()));
    }
  }

  /** Moves the clock `ms` on, stopping at every deadline on the way. */
  advance(ms: number): void {
    const end = this.now + ms;
    this.settle();
    for (;;) {
      const deadlines = [...this.#nodes.values()].map((node) => node.table.deadline() ?? Infinity);
      const next = Math.min(...deadlines);
      if (next > end) break;
      this.now = Math.max(this.now, next);
      this.settle();
    }
    this.now = end;
    this.settle();
  }

  /** Sent since `index` of the log, as `name:type`. */
  sentSince(index: number): string[] {
    return this.log.slice(index).map(({ from, datagram }) => `${from.name}:${datagram[0] ?? 0}`);
  }
}

export class VirtualNode {
  table: SessionTable;
  counters = new Counters();
  events: EngineEvent[] = [];
  readonly #privateKey: Uint8Array;
  readonly #maxPeers: number;

  constructor(
    readonly network: VirtualNetwork,
    readonly name: string,
    readonly address: SocketAddress,
    maxPeers: number,
  ) {
    this.#privateKey = createHash('sha256').update(`private key of ${name}`).digest();
    this.#maxPeers = maxPeers;
    this.table = new SessionTable(this.#privateKey, maxPeers, this.counters);
  }

  get key(): string {
    return this.table.sessionKey;
  }

  /** Everything in memory is lost. */
  restart(): void {
    this.counters = new Counters();
    this.table = new SessionTable(this.#privateKey, this.#maxPeers, this.counters);
    this.events = [];
  }

  take(outputs: readonly SessionOutput[]): void {
    for (const output of outputs) {
      if (output.type === 'event') {
        this.events.push(output.event);
      } else if (output.type === 'datagram' && 'address' in output.to) {
        const { network } = this;
        network.transmit({
          at: network.now,
          from: this,
          to: output.to.address,
          datagram: output.datagram,
        });
      }
    }
  }

  setPeer(peer: VirtualNode, config: Partial<PeerConfig> = {}): void {
    const full: PeerConfig = {
      sessionKey: peer.key,
      presharedKey: undefined,
      allowedIps: [],
      endpoint: { address: peer.address },
      persistentKeepalive: 0,
      ...config,
    };
    this.take(this.table.setPeers([full], this.network.step()));
  }

  send(peer: VirtualNode, payload: Uint8Array): void {
    this.take(this.table.sendControl(peer.key, payload, this.network.step()));
  }

  handshake(peer: VirtualNode): void {
    this.take(this.table.startHandshake(peer.key, this.network.step()));
  }

  status(peer: VirtualNode): PeerStatus {
    const status = this.table.peers(this.network.now).find(({ sessionKey }) => sessionKey === peer.key);
    if (status === undefined) throw new Error(`${this.name} does not know ${peer.name}`);
    return status;
  }

  count(name: string): number {
    return this.counters.snapshot().get(name) ?? NaN;
  }

  /** Takes the events so far, as their types. */
  eventTypes(): string[] {
    const types = this.events.map((event) => event.type);
    this.events = [];
    return types;
  }

  /** First two payload bytes of the control frames so far, in hex. */
  received(): string[] {
    return this.events.flatMap((event) =>
      event.type === 'control' ? [Buffer.from(event.payload.subarray(0, 2)).toString('hex')] : [],
    );
  }
}

export function socketAddress(text: string): SocketAddress {
  const address = parseSocketAddress(text);
  if (address === undefined) throw new Error(`not an address: ${text}`);
  return address;
}

/** A control frame whose second byte is `id`. */
export function control(id: number, size = 16): Uint8Array {
  const payload = new Uint8Array(size);
  payload[0] = 0xc0;
  payload[1] = id;
  return payload;
}
