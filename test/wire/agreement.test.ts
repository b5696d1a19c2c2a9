// Random and mutated packets through every forwarding table: equal verdicts and equal bytes.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import type { ForwardingTable } from '../../ts/wire/forwarding-table.js';
import { encodeFrame, FrameKind } from '../../ts/wire/frame.js';
import { encodeLegEntry, type LegEntry } from '../../ts/wire/leg-entry.js';
import { formatSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';
import { NO_RATE, type AccountKind, type Rate } from '../../ts/wire/limits.js';
import { DROP_REASONS, VERDICTS } from '../../ts/wire/verdict.js';
import { applySetting, GOLDEN_ACCOUNTS, type GoldenSetting } from '../golden/golden.js';
import { IMPLEMENTATIONS } from './implementations.js';
import { nativeProgram } from './native-build.js';

const PACKETS = 120_000;
const SEED = Number(process.env['OMERTA_SEED'] ?? 20261122);

type Operation =
  | { readonly type: 'install'; readonly entry: LegEntry }
  | { readonly type: 'set'; readonly setting: GoldenSetting }
  | { readonly type: 'remove'; readonly id: number }
  | { readonly type: 'counters'; readonly id: number }
  | {
      readonly type: 'packet';
      readonly now: bigint;
      readonly from: SocketAddress;
      readonly datagram: Uint8Array;
    };

/** xorshift32 (Marsaglia 2003): reproducible from its seed. */
class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed | 1;
  }
  next(below: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % below;
  }
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.next(256));
  }
  pick<T>(items: readonly T[]): T {
    const item = items[this.next(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }
}

function randomAddress(random: Random): SocketAddress {
  const ip = random.bytes(16);
  if (random.next(2) === 0) ip.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255]);
  return { ip, port: 1 + random.next(65535) };
}

/** From no limit to one that nothing passes, and much in between that bites now and then. */
function randomRate(random: Random, dearest = 2 ** 32 - 1): Rate {
  if (random.next(3) > 0) return NO_RATE;
  return {
    byteInterval: random.next(3) === 0 ? 0 : 1 + random.next(random.pick([1 << 18, 1 << 21, dearest])),
    packetInterval: random.next(2) === 0 ? 0 : 1 + random.next(random.pick([10_000, 100_000])),
    burst: random.next(random.pick([1 << 15, 1 << 20, dearest])),
  };
}

function randomSetting(random: Random): GoldenSetting {
  const set = random.pick(['limits', 'identity', 'network', 'host', 'prefix', 'fair', 'reset'] as const);
  const index = random.next(8);
  // What all legs share must not shut the rest out for long.
  const shared = set === 'host' || set === 'prefix';
  const rate = randomRate(random, shared ? 1 << 21 : undefined);
  switch (set) {
    case 'limits': {
      const byteCap = random.next(4) === 0 ? random.next(100_000) : 0;
      return { set, index, ...rate, byteCap: String(byteCap) };
    }
    case 'prefix':
      return { set, ...rate, ipv4Bits: random.next(33), ipv6Bits: random.next(65) };
    case 'fair':
      return {
        set,
        factor: random.next(3) > 0 ? 0 : random.next(random.pick([1 << 18, 2 ** 32])),
        burst: random.next(1 << 20),
      };
    case 'reset':
      return { set, kind: random.pick(['identity', 'network']), index };
    case 'host':
      return { set, ...rate };
    default:
      return { set, index, ...rate };
  }
}

function randomEntry(random: Random, id: number, now: bigint): LegEntry {
  return {
    id,
    action: random.pick(['forward', 'forward', 'forward', 'deliver', 'control']),
    epoch: random.next(16),
    key: random.bytes(16),
    source: random.next(8) === 0 ? undefined : randomAddress(random),
    next: {
      address: randomAddress(random),
      id: random.next(2 ** 32),
      epoch: random.next(16),
      key: random.bytes(16),
    },
    expiresAt: random.next(3) === 0 ? now + BigInt(random.next(2_000_000)) : 0n,
    charging: { identity: random.next(8), network: random.next(8), limits: random.next(8) },
  };
}

const KINDS = Object.values(FrameKind);
const OTHERS: readonly (readonly number[])[] = [
  [1, 0, 0, 0],
  [2, 0, 0, 0],
  [3, 0, 0, 0],
  [4, 0, 0, 0],
  [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42],
  [0x6f],
];

/** Some of them messages of few sessions, whose counters wander on and come again; the rest any bytes. */
function randomPayload(random: Random): Uint8Array {
  const bytes = random.bytes(16 + random.next(random.pick([1, 2, 17, 120, 1400])));
  const what = random.next(4);
  if (what === 0) return bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (what === 1) {
    bytes.fill(random.next(6), 0, 16);
    view.setUint32(0, 1 + random.next(3), true);
  } else {
    const far = random.next(50) === 0 ? random.pick([65_536, 2 ** 31, 2 ** 32 - 64]) : 0;
    view.setUint32(0, 4, true);
    view.setUint32(4, random.next(5), true);
    view.setBigUint64(8, BigInt(far + random.next(random.pick([3, 64, 200, 70_000]))), true);
  }
  return bytes;
}

function randomDatagram(random: Random, leg: LegEntry): Uint8Array {
  if (random.next(10) === 0) {
    const size = random.pick([0, 1, 4, 7, 8, 19, 20, 31, 32, 64, 92, 148, random.next(300)]);
    const bytes = random.bytes(size);
    bytes.set(random.pick(OTHERS).slice(0, size));
    return bytes;
  }
  const suits = leg.action === 'control' ? random.pick(KINDS) : FrameKind.forward;
  const frame = encodeFrame({
    kind: random.next(10) === 0 ? random.pick(KINDS) : suits,
    hopLimit: random.next(4) === 0 ? random.next(3) : random.next(256),
    epoch: random.next(20) === 0 ? random.next(16) : leg.epoch,
    legId: leg.id,
    key: leg.key,
    payload: randomPayload(random),
  });
  // Damage: a bit anywhere in the part that is looked at, or the length.
  const damage = random.next(6);
  if (damage === 0) {
    const at = random.next(32);
    frame[at] = (frame[at] ?? 0) ^ (1 << random.next(8));
  } else if (damage === 1) {
    return frame.subarray(0, random.next(frame.length + 1));
  }
  return frame;
}

function operations(): Operation[] {
  const random = new Random(SEED);
  const live = new Map<number, LegEntry>();
  const all: Operation[] = [];
  let now = 1_000_000_000n;
  // A few ids, some of them neighbours in any hash, that come, change and go again and again.
  const ids = [
    0,
    0xffffffff,
    ...Array.from({ length: 90 }, (_, i) => (i % 3 === 0 ? i : random.next(2 ** 32))),
  ];
  for (let packets = 0; packets < PACKETS;) {
    const what = random.next(40);
    if (what < 2 || live.size === 0) {
      const drawn = randomEntry(random, random.pick(ids), now);
      // What a leg is for does not change while it lives: XDP and the socket engine each count their own.
      const entry = { ...drawn, action: live.get(drawn.id)?.action ?? drawn.action };
      all.push({ type: 'install', entry });
      if (live.size < 64 || live.has(entry.id)) live.set(entry.id, entry);
    } else if (what === 2) {
      const id = random.pick(ids);
      all.push({ type: 'remove', id });
      live.delete(id);
    } else if (what === 3) {
      all.push({ type: 'set', setting: randomSetting(random) });
    } else {
      packets++;
      now += BigInt(random.next(random.pick([2, 1000, 100_000])));
      const leg = random.pick([...live.values()]);
      const known = leg.source ?? randomAddress(random);
      const from =
        random.next(12) === 0 ? { ip: known.ip.with(random.next(16), 7), port: known.port } : known;
      all.push({ type: 'packet', now, from, datagram: randomDatagram(random, leg) });
    }
  }
  // What every leg has counted in the end.
  all.push(...ids.map((id): Operation => ({ type: 'counters', id })));
  return all;
}

const ALL = operations();
const NO_LEG = 0xffffffffffffffffn;
const countersLine = (packets: bigint, bytes: bigint, lastUsed: bigint): string =>
  packets === NO_LEG ? 'no leg' : `${packets} packets ${bytes} bytes at ${lastUsed}`;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What a table makes of every operation, one line each. */
function outcomes(table: ForwardingTable): string[] {
  const lines = ALL.map((operation) => {
    if (operation.type === 'set') {
      applySetting(table, operation.setting);
      return 'set';
    }
    if (operation.type === 'install') return String(table.install(operation.entry));
    if (operation.type === 'remove') return String(table.remove(operation.id));
    if (operation.type === 'counters') {
      const counted = table.counters(operation.id);
      return countersLine(counted?.packets ?? NO_LEG, counted?.bytes ?? 0n, counted?.lastUsed ?? 0n);
    }
    const datagram = operation.datagram.slice();
    const { verdict, reason, leg, next } = table.judge(operation.from, datagram, operation.now);
    return [
      verdict,
      reason,
      leg ?? 0,
      next === undefined ? '-' : formatSocketAddress(next),
      hex(datagram),
    ].join(' ');
  });
  for (const kind of ['identity', 'network'] as const)
    for (let index = 0; index < 8; index++)
      lines.push(accountLine(kind, index, Object.values(table.account(kind, index)) as bigint[]));
  return lines;
}

/** What an account was charged in the end: demand, refused, packets, bytes. */
function accountLine(kind: AccountKind, index: number, counters: readonly bigint[]): string {
  return [kind, index, ...counters.map(String)].join(' ');
}

const SETTINGS = ['limits', 'identity', 'network', 'host', 'prefix', 'fair', 'reset'] as const;

/** A setting as judge_batch reads it; drawn there. */
function encodeSetting(setting: GoldenSetting): Uint8Array {
  const bytes = Buffer.alloc(40);
  const rate = 'byteInterval' in setting ? setting : NO_RATE;
  bytes.write('S');
  bytes[1] = SETTINGS.indexOf(setting.set);
  bytes[2] = 'index' in setting ? setting.index : 0;
  bytes[3] = 'kind' in setting && setting.kind === 'network' ? 1 : 0;
  bytes.writeUInt32LE(rate.byteInterval, 4);
  bytes.writeUInt32LE(rate.packetInterval, 8);
  bytes.writeUInt32LE('burst' in setting ? setting.burst : 0, 12);
  bytes.writeBigUInt64LE('byteCap' in setting ? BigInt(setting.byteCap) : 0n, 16);
  bytes.writeUInt32LE('ipv4Bits' in setting ? setting.ipv4Bits : 0, 24);
  bytes.writeUInt32LE('ipv6Bits' in setting ? setting.ipv6Bits : 0, 28);
  bytes.writeUInt32LE('factor' in setting ? setting.factor : 0, 32);
  return bytes;
}

/** Exit code of a program that may not load BPF. */
const NO_PERMISSION = 77;

/** Undefined when the program may not do here what it does. */
function nativeOutcomes(program: string, workers: 'one' | 'several'): string[] | undefined {
  const parts: Uint8Array[] = [];
  for (const operation of ALL) {
    if (operation.type === 'set') {
      parts.push(encodeSetting(operation.setting));
    } else if (operation.type === 'install') {
      parts.push(Buffer.from('I'), encodeLegEntry(operation.entry));
    } else if (operation.type !== 'packet') {
      const bytes = Buffer.from(operation.type === 'remove' ? 'R....' : 'C....');
      bytes.writeUInt32LE(operation.id, 1);
      parts.push(bytes);
    } else {
      const head = Buffer.alloc(31, 'P');
      head.writeBigUInt64LE(operation.now, 1);
      head.set(operation.from.ip, 9);
      head.writeUInt16BE(operation.from.port, 25);
      head.writeUInt32LE(operation.datagram.length, 27);
      parts.push(head, operation.datagram);
    }
  }
  const run = spawnSync(program, [workers], { input: Buffer.concat(parts), maxBuffer: 1 << 28 });
  if (run.status === NO_PERMISSION) return undefined;
  assert.equal(run.status, 0, run.stderr.toString());
  const output = run.stdout;
  let at = 0;
  const lines = ALL.map((operation) => {
    if (operation.type === 'set') return 'set';
    if (operation.type === 'counters') {
      const [packets, bytes, lastUsed] = [0, 8, 16].map((offset) => output.readBigUInt64LE(at + offset));
      at += 24;
      return countersLine(packets ?? 0n, bytes ?? 0n, lastUsed ?? 0n);
    }
    if (operation.type !== 'packet') return String(output[at++] === 1);
    const verdict = VERDICTS[output.readUInt8(at)] ?? '?';
    const reason = DROP_REASONS[output.readUInt8(at + 1)] ?? '?';
    const leg = output.readUInt32LE(at + 2);
    const next = { ip: output.subarray(at + 6, at + 22), port: output.readUInt16BE(at + 22) };
    at += 24;
    const datagram = output.subarray(at, (at += operation.datagram.length));
    return [
      verdict,
      reason,
      leg,
      verdict === 'forward' ? formatSocketAddress(next) : '-',
      hex(datagram),
    ].join(' ');
  });
  for (const kind of ['identity', 'network'] as const)
    for (let index = 0; index < 8; index++) {
      const counters = [0, 8, 16, 24].map((field) => output.readBigUInt64LE(at + field));
      lines.push(accountLine(kind, index, counters));
      at += 32;
    }
  assert.equal(at, output.length);
  return lines;
}

describe(`${PACKETS} random packets, seed ${SEED} (OMERTA_SEED)`, () => {
  const [model, ...others] = IMPLEMENTATIONS.map(({ name, make }) => ({ name, make }));
  assert.ok(model);
  const expected = outcomes(model.make(64, GOLDEN_ACCOUNTS));

  test('the packets reach every verdict and nearly every drop reason', () => {
    const seen = new Set(expected.flatMap((line) => line.split(' ').slice(0, 2)));
    for (const verdict of VERDICTS) assert.ok(seen.has(verdict), verdict);
    for (const reason of DROP_REASONS) {
      if (reason !== 'frame_too_long') assert.ok(seen.has(reason), reason);
    }
    assert.ok(expected.filter((line) => line.startsWith('forward')).length > PACKETS / 10);
  });

  for (const { name, make } of others) {
    test(`${name} agrees with ${model.name}`, () => {
      const got = outcomes(make(64, GOLDEN_ACCOUNTS));
      expected.forEach((line, index) => assert.equal(got[index], line, `operation ${index}`));
    });
  }

  for (const [what, path, workers] of [
    ['C++ for one worker', 'native/test/judge_batch', 'one'],
    ['C++ for several workers', 'native/test/judge_batch', 'several'],
    ['XDP with C++ behind it', 'xdp/test/judge_bpf_batch', 'several'],
  ] as const)
    test(`${what} agrees with ${model.name}`, (t) => {
      const program = nativeProgram(path);
      if ('missing' in program) {
        t.skip(program.missing);
        return;
      }
      const got = nativeOutcomes(program.file, workers);
      if (got === undefined) t.skip('loading BPF programs needs root or CAP_BPF and CAP_NET_ADMIN');
      else expected.forEach((line, index) => assert.equal(got[index], line, `operation ${index}`));
    });
});
