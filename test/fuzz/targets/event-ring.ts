// Events of the native engine: what is written into the ring as native/engine/event_ring.h draws it, in a
// ring so small that it wraps often, comes out the same and in order, however much is drained at a time.
//
// Input: steps of operation u8 · value u8 · payload of `value` bytes.

import assert from 'node:assert/strict';
import type { EngineEvent } from '../../../ts/contract/engine.js';
import { EventRingReader } from '../../../ts/engine/native/event-ring.js';
import { concat, toHex, utf8 } from '../../../ts/wire/bytes.js';
import type { FuzzTarget } from '../harness/target.js';

const HEADER = 64;
const CAPACITY = 1024;
/** So that the positions pass 2³² soon. */
const START = 2 ** 32 - 2 * CAPACITY;
const UNKNOWN = 20;
const DRAIN = 21;

/** The producer's side. */
class RingWriter {
  readonly memory = new ArrayBuffer(HEADER + CAPACITY);
  readonly #positions = new Uint32Array(this.memory, 0, 2);
  readonly #view = new DataView(this.memory, HEADER);

  constructor() {
    this.#positions.fill(START);
  }

  /** Whether everything written was read. */
  get empty(): boolean {
    return this.#positions[0] === this.#positions[1];
  }

  write(type: number, payload: Uint8Array): boolean {
    const [head = 0, tail = 0] = this.#positions;
    const size = (8 + payload.length + 7) & ~7;
    const toEnd = CAPACITY - (head % CAPACITY);
    const padding = toEnd < size ? toEnd : 0;
    if (((head - tail) >>> 0) + padding + size > CAPACITY) return false;
    if (padding > 0) this.#record(head % CAPACITY, padding, 0, new Uint8Array());
    this.#record((head + padding) % CAPACITY, size, type, payload);
    this.#positions[0] = head + padding + size;
    return true;
  }

  #record(at: number, size: number, type: number, payload: Uint8Array): void {
    this.#view.setUint32(at, size, true);
    this.#view.setUint16(at + 4, type, true);
    this.#view.setUint16(at + 6, 0, true);
    new Uint8Array(this.memory, HEADER + at + 8).set(payload);
  }
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
/** Exactly `size` bytes of these, with zeros behind. */
const cut = (bytes: Uint8Array, size: number): Uint8Array => {
  const out = new Uint8Array(size);
  out.set(bytes.subarray(0, size));
  return out;
};

/** An event of a type made of any bytes, and its record's payload; undefined: a type nobody knows. */
function eventOf(type: number, bytes: Uint8Array): readonly [EngineEvent | undefined, Uint8Array] {
  const peer = cut(bytes, 32);
  const rest = bytes.subarray(Math.min(32, bytes.length));
  const ip = cut(rest, 16);
  const port = (rest[0] ?? 0) << 8 || 7;
  const leg = rest.length % 2 === 0 ? 0 : rest.length + 2 ** 31;
  const address = concat(ip, u16(port), u16(0), u32(leg));
  const endpoint = leg === 0 ? { address: { ip, port } } : { leg };
  const session = toHex(peer);
  const blob = concat(u32(rest.length), rest);
  switch (type) {
    case 1:
      return [{ type: 'frame', from: { ip, port }, leg, frame: rest }, concat(address, blob)];
    case 2:
      return [{ type: 'control', peer: session, payload: rest }, concat(peer, blob)];
    case 3:
      return [{ type: 'session', peer: session, endpoint }, concat(peer, address)];
    case 4:
      return [{ type: 'endpoint', peer: session, endpoint }, concat(peer, address)];
    case 5:
      return [{ type: 'path-needed', peer: session }, peer];
    case 6:
      return [{ type: 'session-lost', peer: session }, peer];
    case 7:
      return [{ type: 'interface-gone' }, new Uint8Array()];
    case 8:
      return [{ type: 'interface-up' }, new Uint8Array()];
    case 9:
      return [{ type: 'interface-down' }, new Uint8Array()];
    case 10: {
      const text = Buffer.from(toHex(rest));
      const half = Math.floor(text.length / 2);
      const [name, reason] = [text.subarray(0, half), text.subarray(half)];
      const said = concat(name, Uint8Array.of(0x0a), reason);
      return [
        { type: 'accelerator-demoted', name: name.toString(), reason: reason.toString() },
        concat(u32(said.length), said),
      ];
    }
    case 11:
      return [{ type: 'routing-loop', to: { ip, port } }, address];
    case 12: {
      const name = utf8(toHex(rest));
      return [{ type: 'accelerator-restored', name: toHex(rest) }, concat(u32(name.length), name)];
    }
    case 13:
      return [{ type: 'addresses-changed' }, new Uint8Array()];
    default:
      return pathEventOf(type, bytes) ?? [undefined, bytes];
  }
}

/** The same for what is told of paths (native/engine/path_events.h). */
function pathEventOf(type: number, bytes: Uint8Array): readonly [EngineEvent, Uint8Array] | undefined {
  const peerKey = cut(bytes, 32);
  const peer = toHex(peerKey);
  const rest = bytes.subarray(Math.min(32, bytes.length));
  const [id = 0, port = 0, second = 0] = rest;
  const ip = cut(rest, 16);
  const leg = rest.length % 3 === 0 ? 1 + rest.length : 0;
  const local =
    rest.length % 2 === 0 || leg !== 0 ? undefined : { ip: cut(rest, 16).fill(1, 0, 1), interface: id };
  const ends = concat(
    ...(leg === 0 ? [ip, u16(port)] : [new Uint8Array(18)]),
    u16(0),
    u32(leg),
    ...(local === undefined ? [new Uint8Array(20)] : [local.ip, u32(local.interface)]),
    u32(0),
  );
  const at = { remote: leg === 0 ? { address: { ip, port } } : { leg }, local };
  const u64 = (value: number): Uint8Array => concat(u32(value), u32(0));
  switch (type) {
    case 14: {
      const observed = second === 0 ? undefined : { ip, port: second };
      const seen = observed === undefined ? new Uint8Array(18) : concat(ip, u16(second));
      const token = cut(rest, 8);
      return [
        { type: 'probe-answer', peer, token, at, rttMs: (id * 1e6) / 1e6, observed, size: port },
        concat(peerKey, ends, token, u64(id * 1e6), seen, u16(port)),
      ];
    }
    case 15:
      return [{ type: 'probe-from', peer, from: at }, concat(peerKey, ends)];
    case 16:
      return [
        { type: 'path-arrival', peer, path: id === 0 ? undefined : id, from: at },
        concat(peerKey, ends, u32(id)),
      ];
    case 17:
      return [{ type: 'path-silent', peer, path: id }, concat(peerKey, u32(id))];
    case 18:
      return [{ type: 'path-heard', peer, path: id }, concat(peerKey, u32(id))];
    case 19:
      return [
        { type: 'path-report', peer, path: id, sent: port, received: second },
        concat(peerKey, u32(id), u32(0), u64(port), u64(second)),
      ];
    default:
      return undefined;
  }
}

/** A copy that shares no memory with the ring, its bytes as text. */
const plain = (events: readonly EngineEvent[]): unknown =>
  JSON.parse(
    JSON.stringify(events, (_, value: unknown) => (value instanceof Uint8Array ? toHex(value) : value)),
  );

const step = (operation: number, payload: Uint8Array): Uint8Array =>
  concat(Uint8Array.of(operation, payload.length), payload);

const target: FuzzTarget = {
  seeds: () => [
    ...Array.from({ length: UNKNOWN }, (_, index) => step(index + 1, new Uint8Array(50 + index).fill(index))),
    concat(
      ...Array.from({ length: 40 }, (_, index) =>
        concat(
          step(1 + (index % UNKNOWN), new Uint8Array(20 + 5 * index).fill(index)),
          step(DRAIN, new Uint8Array()),
        ),
      ),
    ),
    concat(...Array.from({ length: 30 }, () => step(2, new Uint8Array(200).fill(9)))),
  ],
  run(input) {
    const ring = new RingWriter();
    const reader = new EventRingReader(ring.memory);
    let expected: EngineEvent[] = [];
    const drained: (readonly [EngineEvent[], EngineEvent[]])[] = [];
    const drain = (): void => {
      const events = reader.drain();
      assert.deepEqual(plain(events), plain(expected));
      assert.ok(ring.empty);
      drained.push([events, expected]);
      expected = [];
    };
    for (let at = 0; at + 1 < input.length;) {
      const operation = (input[at] ?? 0) % (DRAIN + 1);
      const size = input[at + 1] ?? 0;
      const bytes = input.slice(at + 2, at + 2 + size);
      at += 2 + size;
      if (operation === DRAIN) {
        drain();
        continue;
      }
      const [event, payload] = eventOf(operation === 0 ? UNKNOWN : operation, bytes);
      if (ring.write(operation === 0 ? UNKNOWN : operation, payload) && event !== undefined)
        expected.push(event);
    }
    drain();
    drain();
    // What was given out is a copy: the producer may write over its place in the ring.
    new Uint8Array(ring.memory).fill(0xaa);
    for (const [events, were] of drained) assert.deepEqual(plain(events), plain(were));
  },
};
export default target;
