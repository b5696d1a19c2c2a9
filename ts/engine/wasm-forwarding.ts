// The AssemblyScript forwarding table (wasm/assembly/forwarding.ts) behind the interface of the
// model. Only the first 32 bytes of a datagram cross into the module: no verdict needs more.

import { readFileSync } from 'node:fs';
import type { ForwardingTable } from '../wire/forwarding-table.js';
import { FRAME_HEADER_SIZE, FRAME_MIN_SIZE } from '../wire/frame.js';
import { encodeLegEntry, LEG_ENTRY_COUNTERS, type LegCounters, type LegEntry } from '../wire/leg-entry.js';
import type { SocketAddress } from '../wire/socket-address.js';
import { DROP_REASONS, VERDICTS, type Decision } from '../wire/verdict.js';

/** `npm run build` writes it; the path is relative to dist/ts/engine/. */
const MODULE = new URL('../../wasm/forwarding.wasm', import.meta.url);

/** 2^20 legs take 256 MiB. */
const MAX_CAPACITY = 1 << 22;

// The exchange area, drawn in wasm/assembly/forwarding.ts.
const SOURCE_IP = 32;
const SOURCE_PORT = 48;
const LEG_ID = 50;
const NEXT_IP = 54;
const NEXT_PORT = 70;
const LEG = 72;

// The part of the WebAssembly JavaScript interface used here; its types come with the DOM only.
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
};

interface ForwardingModule {
  readonly memory: { readonly buffer: ArrayBuffer };
  exchange(): number;
  init(capacity: number): number;
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

  /**
   * @throws RangeError when the capacity is not 1 to 4,194,304 legs or the memory cannot be had.
   * @throws Error when the module was not built (`npm run build`).
   */
  constructor(capacity: number) {
    if (!Number.isInteger(capacity) || capacity < 1 || capacity > MAX_CAPACITY) {
      throw new RangeError(`capacity: ${capacity} given, must be an integer from 1 to ${MAX_CAPACITY}`);
    }
    compiled ??= new WebAssembly.Module(readFileSync(MODULE));
    this.#module = new WebAssembly.Instance(compiled, {}).exports as ForwardingModule;
    if (!this.#module.init(capacity)) {
      throw new RangeError(`capacity: no memory for ${capacity} legs; ask for fewer`);
    }
    // The memory never grows again, so these views stay valid.
    this.#view = new DataView(this.#module.memory.buffer);
    this.#bytes = new Uint8Array(this.#module.memory.buffer);
    this.#exchange = this.#module.exchange();
  }

  get size(): number {
    return this.#module.size();
  }

  install(entry: LegEntry): boolean {
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
    for (let at = this.#module.next(0); at !== 0; at = this.#module.next(at + 128)) {
      all.push(this.#countersAt(at));
    }
    return all;
  }

  #countersAt(at: number): LegCounters {
    const counters = at + LEG_ENTRY_COUNTERS;
    return {
      id: this.#view.getUint32(at, true),
      packets: this.#view.getBigUint64(counters + 8, true),
      bytes: this.#view.getBigUint64(counters + 16, true),
      lastUsed: this.#view.getBigUint64(counters + 24, true),
    };
  }
}
