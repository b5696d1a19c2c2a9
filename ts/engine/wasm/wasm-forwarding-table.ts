// The AssemblyScript forwarding table (wasm/assembly/) behind the interface of the
// model. Only the first 32 bytes of a datagram cross into the module: no verdict needs more.

import { readFileSync } from 'node:fs';
import { NO_ACCOUNTS, type ForwardingTable } from '../../wire/forwarding-table.js';
import { FRAME_HEADER_SIZE, FRAME_MIN_SIZE } from '../../wire/frame.js';
import {
  encodeLegEntry,
  LEG_ENTRY_ACCOUNTS,
  LEG_ENTRY_COUNTERS,
  type LegCounters,
  type LegEntry,
} from '../../wire/leg-entry.js';
import {
  ACCOUNT_SIZE,
  NO_RATE,
  RATE_SIZE,
  encodeLimits,
  encodeRate,
  prefixMasks,
  requireAccounts,
  requireIndex,
  requirePrefixRate,
  type AccountCapacity,
  type AccountCounters,
  type AccountKind,
  type FairShare,
  type HostCounters,
  type Limits,
  type PrefixRate,
  type Rate,
} from '../../wire/limits.js';
import type { SocketAddress } from '../../wire/socket-address.js';
import { DROP_REASONS, VERDICTS, type Decision } from '../../wire/verdict.js';

/** `npm run build` writes it; the path is relative to dist/ts/engine/. */
const MODULE = new URL('../../../wasm/forwarding.wasm', import.meta.url);

/** 2^20 legs take 384 MiB. */
const MAX_CAPACITY = 1 << 22;

// The exchange area, drawn in wasm/assembly/exports.ts.
const SOURCE_IP = 32;
const SOURCE_PORT = 48;
const LEG_ID = 50;
const NEXT_IP = 54;
const NEXT_PORT = 70;
const LEG = 72;

/** A leg with its window, drawn in wasm/assembly/leg-entry.ts. */
const ENTRY_SIZE = 192;

// Fields of a policy and an account, drawn in ts/wire/limits.ts.
const FAIR_FACTOR = 12;
const PREFIX_RATE = 16;
const FAIR_BURST = 28;
const PREFIX_MASK6 = 32;
const PREFIX_MASK4 = 40;
const PREFIX_KEY = 48;
const THEORETICAL_ARRIVAL = 16;
const DEMAND = 32;

// The part of the WebAssembly JavaScript interface used here; its types come with the DOM only.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

interface ForwardingModule {
  readonly memory: { readonly buffer: ArrayBuffer };
  exchange(): number;
  init(capacity: number, identities: number, networks: number, classes: number): number;
  limits(index: number): number;
  identity(index: number): number;
  network(index: number): number;
  host(): number;
  policy(): number;
  install(): number;
  remove(id: number): number;
  size(): number;
  entry(id: number): number;
  next(from: number): number;
  judge(length: number, now: bigint): number;
}

let compiled: object | undefined;

export class WasmForwardingTable implements ForwardingTable {
  readonly #module: ForwardingModule;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #exchange: number;
  readonly #accounts: AccountCapacity;

  /**
   * @throws RangeError when the capacity is not 1 to 4,194,304 legs or the memory cannot be had.
   * @throws Error when the module was not built (`npm run build`).
   */
  constructor(capacity: number, accounts: AccountCapacity = NO_ACCOUNTS) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_CAPACITY) {
      throw new RangeError(`capacity: ${capacity} given, must be an integer from 1 to ${MAX_CAPACITY}`);
    }
    compiled ??= new WebAssembly.Module(readFileSync(MODULE));
    this.#module = new WebAssembly.Instance(compiled, {}).exports as ForwardingModule;
    const { identities, networks, classes } = accounts;
    if (!this.#module.init(capacity, identities, networks, classes)) {
      throw new RangeError(`capacity: no memory for ${capacity} legs; ask for fewer`);
    }
    this.#accounts = accounts;
    // The memory never grows again, so these views stay valid.
    this.#view = new DataView(this.#module.memory.buffer);
    this.#bytes = new Uint8Array(this.#module.memory.buffer);
    this.#exchange = this.#module.exchange();
    this.setPrefixRate({ rate: NO_RATE, ipv4Bits: 32, ipv6Bits: 64 }, 1n);
  }

  get size(): number {
    return this.#module.size();
  }

  install(entry: LegEntry): boolean {
    requireAccounts(entry.charging, this.#accounts);
    this.#bytes.set(encodeLegEntry(entry), this.#exchange + LEG);
    return this.#module.install() !== 0;
  }

  remove(id: number): boolean {
    return this.#module.remove(id) !== 0;
  }

  judge(from: SocketAddress, datagram: Uint8Array, now: bigint): Decision {
    const at = this.#exchange;
    this.#bytes.set(datagram.length > FRAME_MIN_SIZE ? datagram.subarray(0, FRAME_MIN_SIZE) : datagram, at);
    this.#bytes.set(from.ip, at + SOURCE_IP);
    this.#view.setUint16(at + SOURCE_PORT, from.port);
    const result = this.#module.judge(datagram.length, now);
    const verdict = VERDICTS[result & 0xff] ?? 'drop';
    const reason = DROP_REASONS[result >>> 8] ?? 'none';
    if (verdict === 'drop' || verdict === 'wireguard' || verdict === 'stun') {
      return { verdict, reason, leg: undefined, next: undefined };
    }
    const leg = this.#view.getUint32(at + LEG_ID, true);
    if (verdict !== 'forward') return { verdict, reason, leg, next: undefined };
    datagram.set(this.#bytes.subarray(at, at + FRAME_HEADER_SIZE));
    const next = {
      ip: this.#bytes.slice(at + NEXT_IP, at + NEXT_IP + 16),
      port: this.#view.getUint16(at + NEXT_PORT),
    };
    return { verdict, reason, leg, next };
  }

  counters(id: number): LegCounters | undefined {
    const at = this.#module.entry(id);
    return at === 0 ? undefined : this.#countersAt(at);
  }

  legs(): LegCounters[] {
    const all: LegCounters[] = [];
    for (let at = this.#module.next(0); at !== 0; at = this.#module.next(at + ENTRY_SIZE)) {
      all.push(this.#countersAt(at));
    }
    return all;
  }

  setLimits(index: number, limits: Limits): void {
    const bytes = encodeLimits(limits);
    requireIndex('limits', index, this.#accounts.classes);
    this.#bytes.set(bytes, this.#module.limits(index));
  }

  setRate(kind: AccountKind, index: number, rate: Rate): void {
    const bytes = encodeRate(rate);
    this.#bytes.set(bytes, this.#accountAt(kind, index));
  }

  resetAccount(kind: AccountKind, index: number): void {
    const at = this.#accountAt(kind, index);
    this.#bytes.fill(0, at + RATE_SIZE, at + ACCOUNT_SIZE);
  }

  setHostRate(rate: Rate): void {
    this.#bytes.set(encodeRate(rate), this.#module.policy());
  }

  setPrefixRate(prefix: PrefixRate, key: bigint): void {
    requirePrefixRate(prefix);
    const at = this.#module.policy();
    const masks = prefixMasks(prefix);
    this.#bytes.set(encodeRate(prefix.rate), at + PREFIX_RATE);
    this.#bytes.set(masks.ipv6, at + PREFIX_MASK6);
    this.#bytes.set(masks.ipv4, at + PREFIX_MASK4);
    this.#view.setBigUint64(at + PREFIX_KEY, key, true);
  }

  setFairShare({ factor, burst }: FairShare): void {
    const at = this.#module.policy();
    this.#view.setUint32(at + FAIR_FACTOR, factor, true);
    this.#view.setUint32(at + FAIR_BURST, burst, true);
  }

  account(kind: AccountKind, index: number): AccountCounters {
    return this.#accountCountersAt(this.#accountAt(kind, index));
  }

  host(): HostCounters {
    const at = this.#module.host();
    const theoreticalArrival = this.#view.getBigUint64(at + THEORETICAL_ARRIVAL, true);
    return { theoreticalArrival, refused: this.#accountCountersAt(at).refused };
  }

  #accountAt(kind: AccountKind, index: number): number {
    const identity = kind === 'identity';
    requireIndex(kind, index, identity ? this.#accounts.identities : this.#accounts.networks);
    return identity ? this.#module.identity(index) : this.#module.network(index);
  }

  #accountCountersAt(at: number): AccountCounters {
    const [demand = 0n, refused = 0n, packets = 0n, bytes = 0n] = [0, 8, 16, 24].map((field) =>
      this.#view.getBigUint64(at + DEMAND + field, true),
    );
    return { demand, refused, packets, bytes };
  }

  #countersAt(at: number): LegCounters {
    const counters = at + LEG_ENTRY_COUNTERS;
    return {
      id: this.#view.getUint32(at, true),
      identity: this.#view.getUint32(at + LEG_ENTRY_ACCOUNTS, true),
      network: this.#view.getUint16(at + LEG_ENTRY_ACCOUNTS + 4, true),
      packets: this.#view.getBigUint64(counters + 8, true),
      bytes: this.#view.getBigUint64(counters + 16, true),
      lastUsed: this.#view.getBigUint64(counters + 24, true),
    };
  }
}
