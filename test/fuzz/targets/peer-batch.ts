// Peers as they cross into the native addon and back: what is packed is what native/addon/peer_calls.cc reads,
// field by field as it draws the layout, and what it writes is read the same.
//
// Input: a sequence of bytes that the fields of peers are taken from; what comes after its end is zero.

import assert from 'node:assert/strict';
import { EngineError, type PeerChange, type PeerEndpoint } from '../../../ts/contract/engine.js';
import { packPeerChanges, unpackPeerStates } from '../../../ts/engine/native/peer-batch.js';
import { concat, toHex } from '../../../ts/wire/bytes.js';
import { PrefixBatch } from '../../../ts/wire/prefix-batch.js';
import { formatPrefix, type Prefix } from '../../../ts/wire/prefix.js';
import type { FuzzTarget } from '../harness/target.js';

const MOST_PEERS = 20;
const V4_MAPPED = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const WRONG_KEYS = ['', 'ab', 'A'.repeat(64), `${'a'.repeat(63)}g`, `${'a'.repeat(64)}\n`];

/** The input as numbers. */
class Source {
  #at = 0;
  constructor(readonly input: Uint8Array) {}

  get ended(): boolean {
    return this.#at >= this.input.length;
  }
  byte(): number {
    return this.input[this.#at++] ?? 0;
  }
  bytes(size: number): Uint8Array {
    return Uint8Array.from({ length: size }, () => this.byte());
  }
  u32(): number {
    return new DataView(this.bytes(4).buffer).getUint32(0, true);
  }
  u64(): bigint {
    return new DataView(this.bytes(8).buffer).getBigUint64(0, true);
  }
}

/** The addon's cursor over a batch: every read is checked against its end. */
class Cursor {
  #at = 0;
  constructor(readonly batch: Uint8Array) {}

  get ended(): boolean {
    return this.#at === this.batch.length;
  }
  bytes(size: number): Uint8Array {
    assert.ok(this.#at + size <= this.batch.length, 'the batch ends within a field');
    this.#at += size;
    return this.batch.slice(this.#at - size, this.#at);
  }
  u16(): number {
    return new DataView(this.bytes(2).buffer).getUint16(0, true);
  }
  u32(): number {
    return new DataView(this.bytes(4).buffer).getUint32(0, true);
  }
}

function prefixOf(source: Source): Prefix {
  const family = source.byte() % 2 === 0 ? 4 : 6;
  const length = source.byte() % (family === 4 ? 33 : 129);
  const ip = family === 4 ? Uint8Array.from([...V4_MAPPED, ...source.bytes(4)]) : source.bytes(16);
  return { family, length, ip };
}

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);
const packedPrefix = ({ family, length, ip }: Prefix, remove: boolean): Uint8Array => {
  const address = new Uint8Array(16);
  address.set(family === 4 ? ip.subarray(12) : ip);
  return concat(Uint8Array.of(family, length, remove ? 1 : 0, 0), address);
};

interface Made {
  readonly change: PeerChange;
  readonly prefixes: readonly (readonly [Prefix, boolean])[];
}

function endpointOf(source: Source): PeerEndpoint | undefined {
  const kind = source.byte() % 3;
  if (kind === 0) return undefined;
  if (kind === 1) return { leg: source.u32() || 1 };
  return { address: { ip: source.bytes(16), port: source.byte() * 256 + source.byte() || 1 } };
}

function changeOf(source: Source): Made {
  const flags = source.byte();
  const prefixes: (readonly [Prefix, boolean])[] = [];
  const allowedIps = new PrefixBatch();
  for (let left = source.byte() % 5; left > 0; left--) {
    const prefix = prefixOf(source);
    const remove = source.byte() % 2 === 1;
    prefixes.push([prefix, remove]);
    allowedIps.add(prefix, remove);
  }
  const change: PeerChange = {
    sessionKey: toHex(source.bytes(32)),
    remove: (flags & 1) !== 0,
    updateOnly: (flags & 2) !== 0,
    presharedKey: (flags & 4) === 0 ? undefined : (flags & 8) === 0 ? null : source.bytes(32),
    endpoint: endpointOf(source),
    redirect: (flags & 64) !== 0,
    persistentKeepalive: (flags & 16) === 0 ? undefined : source.u32(),
    replaceAllowedIps: (flags & 32) !== 0,
    allowedIps,
  };
  return { change, prefixes };
}

/** Reads one change as the addon does, and compares it with what was meant. */
function compare(cursor: Cursor, { change, prefixes }: Made): void {
  const { endpoint, presharedKey } = change;
  assert.equal(toHex(cursor.bytes(32)), change.sessionKey);
  const flags = cursor.u32();
  const given = [
    change.remove,
    change.updateOnly,
    presharedKey !== undefined,
    endpoint !== undefined && 'address' in endpoint,
    endpoint !== undefined && 'leg' in endpoint,
    change.persistentKeepalive !== undefined,
    change.replaceAllowedIps,
    change.redirect,
  ];
  assert.equal(
    flags,
    given.reduce((sum, each, bit) => sum + (each ? 2 ** bit : 0), 0),
  );
  assert.deepEqual(cursor.bytes(32), presharedKey ?? new Uint8Array(32));
  const address =
    endpoint !== undefined && 'address' in endpoint ? endpoint.address : { ip: new Uint8Array(16), port: 0 };
  assert.deepEqual(cursor.bytes(16), address.ip);
  assert.equal(cursor.u16(), address.port);
  assert.equal(cursor.u16(), 0);
  assert.equal(cursor.u32(), endpoint !== undefined && 'leg' in endpoint ? endpoint.leg : 0);
  assert.equal(cursor.u32(), change.persistentKeepalive ?? 0);
  assert.equal(cursor.u32(), prefixes.length);
  for (const [prefix, remove] of prefixes) assert.deepEqual(cursor.bytes(20), packedPrefix(prefix, remove));
}

/** A peer as the addon exports it, and what has to be read of it. */
function stateOf(source: Source): readonly [bytes: Uint8Array, state: unknown] {
  const key = source.bytes(32);
  const presharedKey = source.byte() % 2 === 0 ? new Uint8Array(32) : source.bytes(32);
  const endpoint = endpointOf(source);
  const address = endpoint !== undefined && 'address' in endpoint ? endpoint.address : undefined;
  const lastHandshake = source.u64();
  const [rxBytes, txBytes, persistentKeepalive] = [source.u32(), source.u32(), source.u32()];
  const prefixes = Array.from({ length: source.byte() % 5 }, () => prefixOf(source));
  const bytes = concat(
    concat(key, presharedKey, address?.ip ?? new Uint8Array(16), u16(address?.port ?? 0), u16(0)),
    concat(u32(endpoint !== undefined && 'leg' in endpoint ? endpoint.leg : 0), u64(lastHandshake)),
    concat(u64(BigInt(rxBytes)), u64(BigInt(txBytes)), u32(persistentKeepalive), u32(prefixes.length)),
    ...prefixes.map((prefix) => packedPrefix(prefix, false)),
  );
  const state = {
    sessionKey: toHex(key),
    presharedKey: presharedKey.every((byte) => byte === 0) ? undefined : presharedKey,
    endpoint,
    lastHandshake,
    rxBytes,
    txBytes,
    persistentKeepalive,
    allowedIps: prefixes.map(formatPrefix),
  };
  return [bytes, state];
}

function refused(change: PeerChange): void {
  assert.throws(
    () => packPeerChanges([change]),
    (error) => error instanceof EngineError && error.code === 'BAD_ARGUMENT',
  );
}

const target: FuzzTarget = {
  seeds: () => [
    new Uint8Array(),
    Uint8Array.from({ length: 700 }, (_, index) => (index * 37) & 0xff),
    Uint8Array.from({ length: 300 }, (_, index) => 255 - (index & 0xff)),
    new Uint8Array(200).fill(0x1d),
  ],
  run(input) {
    const source = new Source(input);
    const made: Made[] = [];
    while (!source.ended && made.length < MOST_PEERS) made.push(changeOf(source));
    const cursor = new Cursor(packPeerChanges(made.map(({ change }) => change)));
    for (const each of made) compare(cursor, each);
    assert.ok(cursor.ended);

    const again = new Source(input);
    const states: (readonly [Uint8Array, unknown])[] = [];
    while (!again.ended && states.length < MOST_PEERS) states.push(stateOf(again));
    // Not at the beginning of its memory, as a buffer of Node's pool is not.
    const exported = concat(Uint8Array.of(1, 2, 3), ...states.map(([bytes]) => bytes)).subarray(3);
    assert.deepEqual(
      [...unpackPeerStates(exported)].map((state) => ({ ...state, allowedIps: [...state.allowedIps] })),
      states.map(([, state]) => state),
    );

    const [first] = made;
    if (first === undefined) return;
    for (const sessionKey of WRONG_KEYS) refused({ ...first.change, sessionKey });
    refused({ ...first.change, presharedKey: input.slice(0, 31) });
  },
};
export default target;
