// Writes test/golden/forwarding.json. Run `node dist/test/golden/generate.js` from the root.
//
// Every expected verdict below is written by hand from docs/protocol.md; no forwarding table is
// asked. The bytes of a frame, the expected output included, come from encodeFrame() with the
// fields the protocol says it has then: rewriting in place is what is under test, not used here.

import { writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { encodeFrame, FrameKind } from '../../ts/wire/frame.js';
import type { DropReason, Verdict } from '../../ts/wire/verdict.js';
import {
  bytesOf,
  GOLDEN_FILE,
  LEG_HOMES_FILE,
  hexOf,
  type GoldenLeg,
  type GoldenLegHome,
  type GoldenPacket,
  type GoldenSequence,
  type GoldenSetting,
} from './golden.js';

const A = '192.0.2.1:4000';
const B = '198.51.100.2:5000';
const A6 = '[2001:db8:1::1]:4001';
const B6 = '[2001:db8:2::2]:5001';
const NOW = 1_000_000_000n;

const key = (seed: number): string =>
  hexOf(Uint8Array.from({ length: 16 }, (_, i) => (seed * 29 + i * 7) & 0xff));
const pattern = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 11 + 4) & 0xff);

const FORWARD: GoldenLeg = {
  id: 0x11223344,
  action: 'forward',
  epoch: 3,
  key: key(1),
  source: A,
  next: { address: B, id: 0xaabbccdd, epoch: 9, key: key(2) },
  expiresAt: '0',
  identity: 0,
  network: 0,
  limits: 0,
};
const DELIVER: GoldenLeg = { ...FORWARD, id: 0x00000022, action: 'deliver', key: key(3), epoch: 0 };
const CONTROL: GoldenLeg = {
  ...FORWARD,
  id: 0xffffffff,
  action: 'control',
  key: key(4),
  epoch: 15,
  next: null,
};
const CONTACT: GoldenLeg = { ...CONTROL, id: 0, key: key(5), epoch: 0, source: null };

/** Most sequences are not about limits. */
type Sequence = Omit<GoldenSequence, 'settings' | 'accounts'> &
  Partial<Pick<GoldenSequence, 'settings' | 'accounts'>>;

interface FrameOptions {
  kind?: FrameKind;
  hopLimit?: number;
  epoch?: number;
  legId?: number;
  key?: string;
  payload?: Uint8Array;
}

/** A frame as the leg's sender would make it, but for the options. */
function frame(leg: GoldenLeg, options: FrameOptions = {}): Uint8Array {
  return encodeFrame({
    kind: options.kind ?? (leg.action === 'control' ? FrameKind.admissionRequest : FrameKind.forward),
    hopLimit: options.hopLimit ?? 8,
    epoch: options.epoch ?? leg.epoch,
    legId: options.legId ?? leg.id,
    key: bytesOf(options.key ?? leg.key),
    payload: options.payload ?? pattern(32),
  });
}

/** What a forward leg makes of frame(leg, options). */
function forwarded(leg: GoldenLeg, options: FrameOptions = {}): Uint8Array {
  const { next } = leg;
  if (next === null) throw new Error('only a forward leg forwards');
  const hopLimit = (options.hopLimit ?? 8) - 1;
  return frame(leg, { ...options, hopLimit, epoch: next.epoch, legId: next.id, key: next.key });
}

/** The bytes with the one at `at` XORed by `bits`. */
function flipped(bytes: Uint8Array, at: number, bits = 0x01): Uint8Array {
  const copy = bytes.slice();
  copy[at] = (copy[at] ?? 0) ^ bits;
  return copy;
}

interface PacketOptions {
  now?: bigint;
  from?: string;
  settings?: readonly GoldenSetting[];
  install?: readonly GoldenLeg[];
  remove?: readonly number[];
}

function packet(
  shows: string,
  bytes: Uint8Array,
  verdict: Verdict,
  rest: { reason?: DropReason; leg?: number; to?: string; out?: Uint8Array },
  { now = NOW, from = A, settings, install, remove }: PacketOptions,
): GoldenPacket {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end--;
  const zeros = bytes.length - end < 64 ? 0 : bytes.length - end;
  const text = (all: Uint8Array): string => hexOf(all.subarray(0, all.length - zeros));
  return {
    shows,
    ...(settings === undefined ? {} : { settings }),
    ...(remove === undefined ? {} : { remove }),
    ...(install === undefined ? {} : { install }),
    now: String(now),
    from,
    hex: text(bytes),
    ...(zeros === 0 ? {} : { zeros }),
    verdict,
    reason: rest.reason ?? 'none',
    ...(rest.leg === undefined ? {} : { leg: rest.leg }),
    ...(rest.to === undefined ? {} : { to: rest.to }),
    ...(rest.out === undefined ? {} : { out: text(rest.out) }),
  };
}

const drops = (
  shows: string,
  bytes: Uint8Array,
  reason: DropReason,
  options: PacketOptions = {},
): GoldenPacket => packet(shows, bytes, 'drop', { reason }, options);
const isFor = (shows: string, bytes: Uint8Array, verdict: 'wireguard' | 'stun'): GoldenPacket =>
  packet(shows, bytes, verdict, {}, {});
const accepts = (
  shows: string,
  leg: GoldenLeg,
  bytes: Uint8Array,
  options: PacketOptions = {},
): GoldenPacket => packet(shows, bytes, leg.action, { leg: leg.id }, options);
const forwards = (
  shows: string,
  leg: GoldenLeg,
  frameOptions: FrameOptions = {},
  options: PacketOptions = {},
): GoldenPacket =>
  packet(
    shows,
    frame(leg, frameOptions),
    'forward',
    { leg: leg.id, to: leg.next?.address ?? '', out: forwarded(leg, frameOptions) },
    options,
  );

const KINDS = Object.entries(FrameKind);
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
/** A datagram of `size` bytes that begins with these. */
const raw = (size: number, ...head: number[]): Uint8Array => {
  const bytes = new Uint8Array(size);
  bytes.set(head.slice(0, size));
  return bytes;
};

function addresses(): Sequence {
  const v4 = FORWARD;
  const v6 = { ...FORWARD, id: 2, source: A6, next: { address: B6, id: 20, epoch: 0, key: key(6) } };
  const v4to6 = { ...FORWARD, id: 3, next: { address: B6, id: 30, epoch: 15, key: key(7) } };
  const v6to4 = {
    ...FORWARD,
    id: 4,
    source: A6,
    next: { address: B, id: 0xffffffff, epoch: 1, key: key(8) },
  };
  const hairpin = { ...FORWARD, id: 5, next: { address: A, id: 50, epoch: 2, key: key(9) } };
  return {
    name: 'a forward leg writes hop limit, epoch, leg id and tag of the next leg, over either family',
    legs: [v4, v6, v4to6, v6to4, hairpin],
    packets: [
      forwards('IPv4 to IPv4', v4),
      forwards('IPv6 to IPv6', v6, {}, { from: A6 }),
      forwards('IPv4 to IPv6', v4to6),
      forwards('IPv6 to IPv4', v6to4, {}, { from: A6 }),
      forwards('back to where it came from', hairpin),
      forwards('an odd length', v4, { payload: pattern(33) }),
      forwards('a handshake initiation', v4, { payload: pattern(148) }),
      forwards('a full-sized packet', v4, { payload: pattern(1412) }),
      forwards('a frame inside a frame', v4, { payload: frame(DELIVER) }),
    ],
    counters: [
      { id: v4.id, packets: 5, bytes: 48 + 49 + 164 + 1428 + 64 },
      { id: 2, packets: 1, bytes: 48 },
      { id: 3, packets: 1, bytes: 48 },
      { id: 4, packets: 1, bytes: 48 },
      { id: 5, packets: 1, bytes: 48 },
    ],
  };
}

function sizes(): Sequence {
  const largest = new Uint8Array(65507 - 16);
  const tooLong = new Uint8Array(65508);
  tooLong.set(frame(FORWARD, { payload: largest }));
  return {
    name: 'a frame has 32 to 65507 bytes',
    legs: [FORWARD],
    packets: [
      drops('no byte at all', new Uint8Array(0), 'empty'),
      drops('the magic alone', raw(1, 0x6f), 'frame_too_short'),
      drops('magic and kind alone', raw(2, 0x6f, 0x01), 'frame_too_short'),
      drops('a header without payload', frame(FORWARD).subarray(0, 16), 'frame_too_short'),
      drops('31 bytes', frame(FORWARD).subarray(0, 31), 'frame_too_short'),
      forwards('32 bytes', FORWARD, { payload: pattern(16) }),
      forwards('65507 bytes', FORWARD, { payload: largest }),
      drops('65508 bytes', tooLong, 'frame_too_long'),
    ],
    counters: [{ id: FORWARD.id, packets: 2, bytes: 32 + 65507 }],
  };
}

function kinds(): Sequence {
  const packets: GoldenPacket[] = [];
  for (const kind of [0x00, 0x04, 0x0f, 0x14, 0x1f, 0x21, 0x31, 0x7f, 0x81, 0xff]) {
    packets.push(drops(`kind ${kind.toString(16)}`, flipped(frame(FORWARD), 1, 0x01 ^ kind), 'unknown_kind'));
  }
  for (const [name, kind] of KINDS) {
    if (kind === FrameKind.forward) {
      packets.push(forwards(`${name} on a forward leg`, FORWARD, { kind }));
      packets.push(accepts(`${name} on a deliver leg`, DELIVER, frame(DELIVER, { kind })));
      packets.push(drops(`${name} on a control leg`, frame(CONTROL, { kind }), 'wrong_kind'));
      packets.push(drops(`${name} on the contact leg`, frame(CONTACT, { kind }), 'wrong_kind'));
    } else {
      packets.push(drops(`${name} on a forward leg`, frame(FORWARD, { kind }), 'wrong_kind'));
      packets.push(drops(`${name} on a deliver leg`, frame(DELIVER, { kind }), 'wrong_kind'));
      packets.push(accepts(`${name} on a control leg`, CONTROL, frame(CONTROL, { kind })));
      packets.push(accepts(`${name} on the contact leg`, CONTACT, frame(CONTACT, { kind }), { from: B6 }));
    }
  }
  return {
    name: 'a kind in the table is accepted by the legs that take it, and no other kind by any',
    legs: [FORWARD, DELIVER, CONTROL, CONTACT],
    packets,
    counters: [
      { id: FORWARD.id, packets: 1, bytes: 48 },
      { id: DELIVER.id, packets: 1, bytes: 48 },
      { id: CONTROL.id, packets: 8, bytes: 8 * 48 },
      { id: CONTACT.id, packets: 8, bytes: 8 * 48 },
    ],
  };
}

function flagsAndEpochs(): Sequence {
  return {
    name: 'reserved flags are zero and the epoch is that of the leg',
    legs: [FORWARD],
    packets: [
      ...[0x10, 0x20, 0x40, 0x80, 0xf0].map((bits) =>
        drops(`reserved flag ${bits.toString(16)}`, flipped(frame(FORWARD), 3, bits), 'reserved_flags'),
      ),
      ...range(0, 16).map((epoch) =>
        epoch === FORWARD.epoch
          ? forwards(`epoch ${epoch}, the leg's`, FORWARD)
          : drops(`epoch ${epoch}, with a tag to match`, frame(FORWARD, { epoch }), 'wrong_key_epoch'),
      ),
    ],
    counters: [{ id: FORWARD.id, packets: 1, bytes: 48 }],
  };
}

function legIds(): Sequence {
  const ids = [0, 1, 0x44332211, 0x11223343, 0x11223345, 0x11220000, 0x00003344, 0xffffffff];
  return {
    name: 'a leg id that is not in the table is unknown, whatever the tag',
    legs: [FORWARD],
    packets: [
      ...ids.map((legId) => drops(`leg ${legId.toString(16)}`, frame(FORWARD, { legId }), 'unknown_leg')),
      drops('a contact frame to a node that admits no strangers', frame(CONTACT), 'unknown_leg'),
    ],
    counters: [{ id: FORWARD.id, packets: 0, bytes: 0 }],
  };
}

function sources(): Sequence {
  const six = { ...FORWARD, id: 6, source: '[0102:0304:0506:0708:090a:0b0c:0d0e:0f10]:4660' };
  const bytes = range(1, 17);
  const ipWith = (at: number): string => {
    const flippedBytes = bytes.map((byte, i) => (i === at ? byte ^ 0x80 : byte));
    const groups = range(0, 8).map((g) => ((flippedBytes[2 * g] ?? 0) << 8) | (flippedBytes[2 * g + 1] ?? 0));
    return groups.map((group) => group.toString(16)).join(':');
  };
  return {
    name: 'a frame comes from its leg’s proven address, all 16 bytes and the port',
    legs: [FORWARD, six, CONTACT],
    packets: [
      forwards('the address itself', six, {}, { from: six.source }),
      ...range(0, 16).map((at) =>
        drops(`byte ${at} of the address differs`, frame(six), 'wrong_source', {
          from: `[${ipWith(at)}]:4660`,
        }),
      ),
      drops('the port’s low byte differs', frame(six), 'wrong_source', { from: `[${ipWith(-1)}]:4661` }),
      drops('the port’s high byte differs', frame(six), 'wrong_source', { from: `[${ipWith(-1)}]:4916` }),
      drops('the port’s bytes are swapped', frame(six), 'wrong_source', { from: `[${ipWith(-1)}]:13330` }),
      forwards('the v4-mapped form is the same address', FORWARD, {}, { from: '[::ffff:192.0.2.1]:4000' }),
      drops('the v4-compatible form is another', frame(FORWARD), 'wrong_source', {
        from: '[::192.0.2.1]:4000',
      }),
      drops('the 6to4 form is another', frame(FORWARD), 'wrong_source', { from: '[2002:c000:201::]:4000' }),
      drops('the NAT64 form is another', frame(FORWARD), 'wrong_source', {
        from: '[64:ff9b::192.0.2.1]:4000',
      }),
      accepts('the contact leg takes any source', CONTACT, frame(CONTACT), { from: '[::1]:65535' }),
      accepts('the contact leg takes any IPv4 source', CONTACT, frame(CONTACT), { from: '203.0.113.9:1' }),
    ],
    counters: [
      { id: FORWARD.id, packets: 1, bytes: 48 },
      { id: six.id, packets: 1, bytes: 48 },
      { id: CONTACT.id, packets: 2, bytes: 96 },
    ],
  };
}

function tags(): Sequence {
  const good = frame(FORWARD);
  const uncovered = flipped(good, 32, 0xff);
  const longer = new Uint8Array(good.length + 1);
  longer.set(good);
  return {
    name: 'the tag covers header, length and 16 payload bytes under the leg’s key',
    legs: [FORWARD, CONTROL],
    packets: [
      ...range(8, 16).map((at) => drops(`byte ${at} of the tag differs`, flipped(good, at, 0x80), 'bad_tag')),
      ...range(16, 32).map((at) => drops(`payload byte ${at - 16} differs`, flipped(good, at), 'bad_tag')),
      packet(
        'payload byte 16 is the inner packet’s to protect',
        uncovered,
        'forward',
        { leg: FORWARD.id, to: B, out: flipped(forwarded(FORWARD), 32, 0xff) },
        {},
      ),
      drops('the hop limit differs', flipped(good, 2, 0x0f), 'bad_tag'),
      drops('the kind differs', flipped(frame(CONTROL, { kind: FrameKind.probe }), 1, 0x01), 'bad_tag'),
      drops('one byte less', good.subarray(0, good.length - 1), 'bad_tag'),
      drops('one byte more', longer, 'bad_tag'),
      drops('the key of the next leg', frame(FORWARD, { key: key(2) }), 'bad_tag'),
      drops('a tag of zeros', raw(48, ...good.subarray(0, 8)), 'bad_tag'),
    ],
    counters: [
      { id: FORWARD.id, packets: 1, bytes: 48 },
      { id: CONTROL.id, packets: 0, bytes: 0 },
    ],
  };
}

function expiry(): Sequence {
  const leg = (id: number, action: GoldenLeg['action']): GoldenLeg => ({
    ...FORWARD,
    id,
    action,
    expiresAt: '5000000000000',
  });
  const legs = [leg(1, 'forward'), leg(2, 'deliver'), leg(3, 'control')] as const;
  const eternal = { ...FORWARD, id: 4 };
  return {
    name: 'a leg is good until the nanosecond before it expires',
    legs: [...legs, eternal],
    packets: [
      forwards('forward, 1 ns before', legs[0], {}, { now: 4999999999999n }),
      accepts('deliver, 1 ns before', legs[1], frame(legs[1]), { now: 4999999999999n }),
      accepts('control, 1 ns before', legs[2], frame(legs[2]), { now: 4999999999999n }),
      ...legs.map((each) =>
        drops(`${each.action}, at expiry`, frame(each), 'expired', { now: 5000000000000n }),
      ),
      drops('1 ns after', frame(legs[0]), 'expired', { now: 5000000000001n }),
      drops('a million years after', frame(legs[0]), 'expired', { now: 2n ** 63n }),
      forwards('0 means never, after 115 days', eternal, {}, { now: 10_000_000_000_000_001n }),
      forwards('0 means never, after 500 years', eternal, {}, { now: 2n ** 64n - 1n }),
    ],
    counters: [
      { id: 1, packets: 1, bytes: 48 },
      { id: 2, packets: 1, bytes: 48 },
      { id: 3, packets: 1, bytes: 48 },
      { id: 4, packets: 2, bytes: 96 },
    ],
  };
}

function hopLimits(): Sequence {
  return {
    name: 'a forward leg needs a hop limit of at least 2, other legs take any',
    legs: [FORWARD, DELIVER, CONTROL],
    packets: [
      drops('0', frame(FORWARD, { hopLimit: 0 }), 'hop_limit'),
      drops('1', frame(FORWARD, { hopLimit: 1 }), 'hop_limit'),
      forwards('2', FORWARD, { hopLimit: 2 }),
      forwards('255', FORWARD, { hopLimit: 255 }),
      ...[0, 1, 255].flatMap((hopLimit) => [
        accepts(`${hopLimit} on a deliver leg`, DELIVER, frame(DELIVER, { hopLimit })),
        accepts(`${hopLimit} on a control leg`, CONTROL, frame(CONTROL, { hopLimit })),
      ]),
    ],
    counters: [
      { id: FORWARD.id, packets: 2, bytes: 96 },
      { id: DELIVER.id, packets: 3, bytes: 144 },
      { id: CONTROL.id, packets: 3, bytes: 144 },
    ],
  };
}

function loop(): Sequence {
  // Two legs that hand a frame to each other: what a circuit over two relays set up wrong does.
  const ping: GoldenLeg = {
    ...FORWARD,
    id: 1,
    key: key(1),
    epoch: 1,
    source: A,
    next: { address: B, id: 2, epoch: 2, key: key(2) },
  };
  const pong: GoldenLeg = {
    ...FORWARD,
    id: 2,
    key: key(2),
    epoch: 2,
    source: B,
    next: { address: A, id: 1, epoch: 1, key: key(1) },
  };
  return {
    name: 'a frame sent round in a loop ends when its hop limit does',
    legs: [ping, pong],
    packets: [8, 7, 6, 5, 4, 3, 2]
      .map((hopLimit, i) =>
        forwards(
          `hop limit ${hopLimit}`,
          i % 2 === 0 ? ping : pong,
          { hopLimit },
          { from: i % 2 === 0 ? A : B },
        ),
      )
      .concat(drops('hop limit 1', frame(pong, { hopLimit: 1 }), 'hop_limit', { from: B })),
    counters: [
      { id: 1, packets: 4, bytes: 192 },
      { id: 2, packets: 3, bytes: 144 },
    ],
  };
}

/** A rate of its own for legs of class `index`. */
const legRate = (index: number, byteInterval: number, burst: number): GoldenSetting => ({
  set: 'limits',
  index,
  byteInterval,
  packetInterval: 0,
  burst,
  byteCap: '0',
});
const FREE = { byteInterval: 0, packetInterval: 0, burst: 0 };
/** 1 ns a byte, so many ns at once. */
const bytesAtOnce = (burst: number): typeof FREE => ({ byteInterval: 65536, packetInterval: 0, burst });

function rateLimits(): Sequence {
  const settings = [
    // 1 ns a byte; 96 ns of burst: two frames of 48 bytes at once.
    legRate(1, 65536, 96),
    // 48 bytes cost ⌊48 · 65535 / 65536⌋ = 47 ns; 94 ns of burst hold two of them and no third.
    legRate(2, 65535, 94),
    // 48 bytes cost ⌊48 · 1000 / 65536⌋ = 0 ns.
    legRate(3, 1000, 0),
    // 48 bytes cost more than the whole burst.
    legRate(4, 65536, 47),
    // The slowest and longest a leg can be: 48 bytes cost ⌊48 · (2^32−1) / 65536⌋ = 3145727 ns.
    legRate(5, 0xffffffff, 3145727),
  ];
  const two = { ...FORWARD, id: 1, limits: 1 };
  const floored = { ...FORWARD, id: 2, limits: 2 };
  const free = { ...FORWARD, id: 3, limits: 3 };
  const never = { ...FORWARD, id: 4, limits: 4 };
  const slowest = { ...FORWARD, id: 5, limits: 5 };
  const delivered: GoldenLeg = { ...two, id: 6, action: 'deliver' };
  const controlled: GoldenLeg = { ...two, id: 7, action: 'control' };
  return {
    name: 'a leg’s rate limit holds to the nanosecond and only accepted frames use it up',
    settings,
    legs: [two, floored, free, never, slowest, delivered, controlled],
    packets: [
      forwards('first of the burst', two),
      drops('a wrong tag costs nothing', flipped(frame(two), 8), 'bad_tag'),
      drops('a wrong source costs nothing', frame(two), 'wrong_source', { from: B }),
      drops('a spent hop limit costs nothing', frame(two, { hopLimit: 1 }), 'hop_limit'),
      forwards('second of the burst', two),
      drops('third', frame(two), 'rate_limited'),
      drops('47 ns later', frame(two), 'rate_limited', { now: NOW + 47n }),
      forwards('48 ns later', two, {}, { now: NOW + 48n }),
      drops('49 ns later', frame(two), 'rate_limited', { now: NOW + 49n }),
      forwards('after a long silence no more than the burst: one', two, {}, { now: NOW * 2n }),
      drops('then not 49 bytes', frame(two, { payload: pattern(33) }), 'rate_limited', { now: NOW * 2n }),
      forwards('but two', two, {}, { now: NOW * 2n }),
      drops('and not three', frame(two, { payload: pattern(16) }), 'rate_limited', { now: NOW * 2n }),
      forwards('47 ns of 94', floored),
      forwards('94 ns of 94', floored),
      drops('141 ns of 94', frame(floored), 'rate_limited'),
      forwards('a cost rounded down to nothing', free),
      forwards('and again', free),
      drops('1 ns over the whole burst', frame(never), 'rate_limited'),
      forwards('exactly the burst of the slowest leg', slowest),
      drops('1 ns too early', frame(slowest), 'rate_limited', { now: NOW + 3145726n }),
      forwards('in time', slowest, {}, { now: NOW + 3145727n }),
      accepts('deliver legs have limits', delivered, frame(delivered)),
      accepts('of the same burst', delivered, frame(delivered)),
      drops('and of no more', frame(delivered), 'rate_limited'),
      accepts('control legs have limits', controlled, frame(controlled)),
      accepts('of the same burst', controlled, frame(controlled)),
      drops('and of no more', frame(controlled), 'rate_limited'),
    ],
    counters: [
      { id: 1, packets: 5, bytes: 240 },
      { id: 2, packets: 2, bytes: 96 },
      { id: 3, packets: 2, bytes: 96 },
      { id: 4, packets: 0, bytes: 0 },
      { id: 5, packets: 2, bytes: 96 },
      { id: 6, packets: 2, bytes: 96 },
      { id: 7, packets: 2, bytes: 96 },
    ],
  };
}

/** A second end: it shares a network with FORWARD's identity, or a /24, or the host. */
const C = '192.0.2.200:4002';
const OVER_IPV6 = { address: B6, id: 60, epoch: 6, key: key(60) };

function caps(): Sequence {
  const capped: GoldenLeg = { ...FORWARD, id: 1, limits: 1 };
  const other: GoldenLeg = { ...FORWARD, id: 2, limits: 1 };
  const delivered: GoldenLeg = { ...FORWARD, id: 3, limits: 1, action: 'deliver' };
  const cap = (byteCap: number): GoldenSetting => ({
    set: 'limits',
    index: 1,
    ...FREE,
    byteCap: String(byteCap),
  });
  return {
    name: 'a leg carries no byte more than its cap, and a class changed is changed for live legs',
    settings: [cap(97)],
    legs: [capped, other, delivered],
    packets: [
      forwards('48 of 97 bytes', capped),
      drops('a wrong tag counts for nothing', flipped(frame(capped), 8), 'bad_tag'),
      drops('50 more', frame(capped, { payload: pattern(34) }), 'byte_cap'),
      forwards('49 more: exactly the cap', capped, { payload: pattern(33) }),
      drops('one frame more', frame(capped, { payload: pattern(16) }), 'byte_cap'),
      forwards('another leg has a cap of its own', other),
      accepts('a deliver leg', delivered, frame(delivered, { payload: pattern(81) })),
      drops('no further', frame(delivered), 'byte_cap'),
      drops('lowered below what was carried', frame(other), 'byte_cap', { settings: [cap(48)] }),
      forwards('raised', capped, {}, { settings: [cap(145)] }),
      drops('to the new cap', frame(capped), 'byte_cap'),
      forwards('lifted', capped, {}, { settings: [cap(0)] }),
    ],
    counters: [
      { id: 1, packets: 4, bytes: 193 },
      { id: 2, packets: 1, bytes: 48 },
      { id: 3, packets: 1, bytes: 97 },
    ],
    accounts: [],
  };
}

function packetRates(): Sequence {
  const leg: GoldenLeg = { ...FORWARD, id: 1, limits: 1 };
  return {
    name: 'a datagram costs its bytes or its number, whichever is dearer',
    // 1 ns a byte, 100 ns a datagram, 300 ns at once.
    settings: [
      { set: 'limits', index: 1, byteInterval: 65536, packetInterval: 100, burst: 300, byteCap: '0' },
    ],
    legs: [leg],
    packets: [
      forwards('48 bytes cost 100 ns', leg),
      forwards('200 bytes cost 200 ns', leg, { payload: pattern(184) }),
      drops('the burst is spent', frame(leg), 'rate_limited'),
      drops('99 ns later', frame(leg), 'rate_limited', { now: NOW + 99n }),
      forwards('100 ns later', leg, {}, { now: NOW + 100n }),
      forwards(
        'datagrams alone: 1428 bytes cost 100 ns',
        leg,
        { payload: pattern(1412) },
        {
          now: NOW * 2n,
          settings: [
            { set: 'limits', index: 1, byteInterval: 0, packetInterval: 100, burst: 100, byteCap: '0' },
          ],
        },
      ),
      drops('and no second', frame(leg), 'rate_limited', { now: NOW * 2n + 99n }),
    ],
    counters: [{ id: 1, packets: 4, bytes: 48 + 200 + 48 + 1428 }],
    accounts: [],
  };
}

function accountRates(): Sequence {
  // Two legs of identity 1, one of identity 2, all of network 1; a leg of network 2.
  const leg = (id: number, identity: number, network: number, source = A): GoldenLeg => ({
    ...FORWARD,
    id,
    identity,
    network,
    source,
  });
  const one = leg(1, 1, 1);
  const two = leg(2, 1, 1);
  const other = leg(3, 2, 1);
  const apart = leg(4, 2, 2);
  const near = leg(5, 3, 3, C);
  const far = { ...leg(6, 3, 3, A6), next: OVER_IPV6 };
  const delivered: GoldenLeg = { ...one, id: 7, action: 'deliver' };
  const controlled: GoldenLeg = { ...one, id: 8, action: 'control' };
  const later = (n: bigint): { now: bigint } => ({ now: NOW * n });
  return {
    name: 'identity, network, source prefix and host are charged for all their legs together',
    settings: [{ set: 'identity', index: 1, ...bytesAtOnce(96) }],
    legs: [one, two, other, apart, near, far, delivered, controlled],
    packets: [
      forwards('an identity’s first', one),
      forwards('its second, by another leg', two),
      drops('its third', frame(one), 'identity_rate'),
      drops('by either leg', frame(two), 'identity_rate'),
      forwards('another identity’s', other),
      accepts('what ends here costs no account', delivered, frame(delivered)),
      accepts('neither does control', controlled, frame(controlled)),
      drops('47 ns later', frame(one), 'identity_rate', { now: NOW + 47n }),
      forwards('48 ns later', one, {}, { now: NOW + 48n }),

      forwards(
        'a network’s first',
        one,
        {},
        {
          ...later(2n),
          settings: [
            { set: 'identity', index: 1, ...FREE },
            { set: 'network', index: 1, ...bytesAtOnce(96) },
          ],
        },
      ),
      forwards('its second, by another identity', other, {}, later(2n)),
      drops('its third', frame(two), 'network_rate', later(2n)),
      forwards('another network’s', apart, {}, later(2n)),
      forwards(
        'its limit lifted',
        two,
        {},
        {
          ...later(2n),
          settings: [{ set: 'network', index: 1, ...FREE }],
        },
      ),

      forwards(
        'a /24’s first',
        one,
        {},
        {
          ...later(3n),
          settings: [{ set: 'prefix', ...bytesAtOnce(96), ipv4Bits: 24, ipv6Bits: 64 }],
        },
      ),
      forwards('its second, from another address', near, {}, { ...later(3n), from: C }),
      drops('its third', frame(one), 'prefix_rate', later(3n)),
      forwards('another prefix’s', far, {}, { ...later(3n), from: A6 }),
      forwards(
        'addresses alone',
        one,
        {},
        {
          ...later(4n),
          settings: [{ set: 'prefix', ...bytesAtOnce(48), ipv4Bits: 32, ipv6Bits: 64 }],
        },
      ),
      forwards('each has its own', near, {}, { ...later(4n), from: C }),
      drops('and no more', frame(near), 'prefix_rate', { ...later(4n), from: C }),

      forwards(
        'the host’s first',
        one,
        {},
        {
          ...later(5n),
          settings: [
            { set: 'prefix', ...FREE, ipv4Bits: 32, ipv6Bits: 64 },
            { set: 'host', ...bytesAtOnce(96) },
          ],
        },
      ),
      forwards('its second, of another network and prefix', far, {}, { ...later(5n), from: A6 }),
      drops('its third', frame(apart), 'host_rate', later(5n)),
      accepts('what ends here costs the host nothing', delivered, frame(delivered), later(5n)),
      drops('47 ns later', frame(apart), 'host_rate', { now: NOW * 5n + 47n }),
      forwards('48 ns later', apart, {}, { now: NOW * 5n + 48n }),
    ],
    counters: [
      { id: 1, packets: 6, bytes: 288 },
      { id: 2, packets: 2, bytes: 96 },
      { id: 3, packets: 2, bytes: 96 },
      { id: 4, packets: 2, bytes: 96 },
      { id: 5, packets: 2, bytes: 96 },
      { id: 6, packets: 2, bytes: 96 },
      { id: 7, packets: 2, bytes: 96 },
      { id: 8, packets: 1, bytes: 48 },
    ],
    accounts: [
      { kind: 'identity', index: 1, demand: 48, refused: 3, packets: 0, bytes: 0 },
      { kind: 'identity', index: 2, demand: 3 * 48, refused: 0, packets: 0, bytes: 0 },
      { kind: 'identity', index: 3, demand: 48, refused: 0, packets: 0, bytes: 0 },
      { kind: 'network', index: 1, demand: 0, refused: 1, packets: 0, bytes: 0 },
    ],
  };
}

function chargedToNone(): Sequence {
  const full: GoldenLeg = { ...FORWARD, id: 1, identity: 1, network: 1, limits: 1 };
  const beside: GoldenLeg = { ...FORWARD, id: 2, identity: 1, network: 1, limits: 1 };
  const elsewhere: GoldenLeg = { ...FORWARD, id: 3, identity: 2, network: 2, source: A6, next: OVER_IPV6 };
  return {
    name: 'a frame that one limit refuses is charged to none',
    settings: [
      { set: 'limits', index: 1, ...bytesAtOnce(48), byteCap: '0' },
      { set: 'identity', index: 1, ...bytesAtOnce(96) },
      { set: 'network', index: 1, ...bytesAtOnce(96) },
      { set: 'prefix', ...bytesAtOnce(96), ipv4Bits: 32, ipv6Bits: 64 },
      { set: 'host', ...bytesAtOnce(144) },
    ],
    legs: [full, beside, elsewhere],
    packets: [
      forwards('all five are charged', full),
      drops('the leg’s is spent', frame(full), 'rate_limited'),
      drops('whoever asks again', frame(full), 'rate_limited'),
      forwards('so another leg has what was left of the others’', beside),
      drops('which is spent now', frame(beside), 'rate_limited'),
      forwards('but for the host’s', elsewhere, {}, { from: A6 }),
      drops('then that is', frame(elsewhere), 'host_rate', { from: A6 }),
      drops('47 ns later none has earned another', frame(full), 'rate_limited', { now: NOW + 47n }),
      forwards('48 ns later all have earned a frame', full, {}, { now: NOW + 48n }),
    ],
    counters: [
      { id: 1, packets: 2, bytes: 96 },
      { id: 2, packets: 1, bytes: 48 },
      { id: 3, packets: 1, bytes: 48 },
    ],
    accounts: [
      { kind: 'identity', index: 1, demand: 3 * 48, refused: 0, packets: 0, bytes: 0 },
      { kind: 'identity', index: 2, demand: 2 * 48, refused: 0, packets: 0, bytes: 0 },
    ],
  };
}

function fairShares(): Sequence {
  const one: GoldenLeg = { ...FORWARD, id: 1, identity: 1 };
  const two: GoldenLeg = { ...FORWARD, id: 2, identity: 2 };
  const delivered: GoldenLeg = { ...one, id: 3, action: 'deliver' };
  return {
    name: 'while shares are dealt an identity has its part of the host and no more',
    settings: [
      { set: 'host', ...bytesAtOnce(960) },
      // A fourth of the host: 48 bytes cost 192 ns of it; 384 at once.
      { set: 'fair', factor: 4 * 65536, burst: 384 },
    ],
    legs: [one, two, delivered],
    packets: [
      forwards('an identity’s first', one),
      forwards('its second', one),
      drops('its third', frame(one), 'fair_share'),
      forwards('another’s first', two),
      accepts('what ends here is not shared', delivered, frame(delivered)),
      drops('191 ns later', frame(one), 'fair_share', { now: NOW + 191n }),
      forwards('192 ns later', one, {}, { now: NOW + 192n }),
      forwards(
        'an uneven part, 1.5 of the cost',
        two,
        {},
        {
          now: NOW * 2n,
          settings: [{ set: 'fair', factor: 98304, burst: 72 }],
        },
      ),
      drops('which is spent', frame(two), 'fair_share', { now: NOW * 2n + 71n }),
      forwards('and earned in 72 ns', two, {}, { now: NOW * 2n + 72n }),
      forwards('lifted', two, {}, { now: NOW * 2n + 72n, settings: [{ set: 'fair', factor: 0, burst: 0 }] }),
      forwards(
        'the smallest part there is: nothing, but after a long time',
        one,
        {},
        {
          now: NOW * 3n,
          // 48 ns · (2^32 − 1) / 65536
          settings: [{ set: 'fair', factor: 0xffffffff, burst: 3145727 }],
        },
      ),
      drops('1 ns too early', frame(one), 'fair_share', { now: NOW * 3n + 3145726n }),
    ],
    counters: [
      { id: 1, packets: 4, bytes: 192 },
      { id: 2, packets: 4, bytes: 192 },
      { id: 3, packets: 1, bytes: 48 },
    ],
    accounts: [
      { kind: 'identity', index: 1, demand: 7 * 48, refused: 3, packets: 0, bytes: 0 },
      { kind: 'identity', index: 2, demand: 5 * 48, refused: 1, packets: 0, bytes: 0 },
    ],
  };
}

function settledCounts(): Sequence {
  const leg: GoldenLeg = { ...FORWARD, id: 1, identity: 1, network: 1 };
  const moved: GoldenLeg = { ...leg, identity: 2 };
  const other: GoldenLeg = { ...FORWARD, id: 2, identity: 1, network: 1 };
  return {
    name: 'what a leg carried stays with its accounts when it goes, and with the former ones when it moves',
    settings: [{ set: 'identity', index: 1, ...bytesAtOnce(96) }],
    legs: [leg, other],
    packets: [
      forwards('carried for identity 1', leg),
      forwards('carried for identity 2', moved, {}, { install: [moved] }),
      forwards('carried for identity 1 by another leg', other),
      drops('its rate is spent', frame(other), 'identity_rate'),
      forwards(
        'but not the next holder’s of the account',
        other,
        {},
        {
          settings: [{ set: 'reset', kind: 'identity', index: 1 }],
        },
      ),
      drops('gone', frame(moved), 'unknown_leg', { remove: [1] }),
    ],
    counters: [{ id: 2, packets: 2, bytes: 96 }],
    accounts: [
      // The move left it one frame; the reset forgot it.
      { kind: 'identity', index: 1, demand: 0, refused: 0, packets: 0, bytes: 0 },
      { kind: 'identity', index: 2, demand: 0, refused: 0, packets: 1, bytes: 48 },
      { kind: 'network', index: 1, demand: 0, refused: 0, packets: 2, bytes: 96 },
    ],
  };
}

function order(): Sequence {
  // Everything is wrong with this leg's frames that can be at once; each packet mends one thing more.
  const leg: GoldenLeg = { ...FORWARD, expiresAt: '2000', identity: 1, network: 2, limits: 3 };
  const rate = bytesAtOnce(0);
  const settings: readonly GoldenSetting[] = [
    { set: 'limits', index: 3, ...rate, byteCap: '47' },
    { set: 'identity', index: 1, ...rate },
    { set: 'network', index: 2, ...rate },
    { set: 'prefix', ...rate, ipv4Bits: 32, ipv6Bits: 64 },
    { set: 'fair', factor: 65536, burst: 0 },
    { set: 'host', ...rate },
  ];
  const mended = (shows: string, reason: DropReason, setting: GoldenSetting): GoldenPacket =>
    drops(shows, frame(leg), reason, { now: 1999n, settings: [setting] });
  const late = { now: 2000n, from: B };
  return {
    name: 'the first check that fails decides',
    settings,
    legs: [leg],
    packets: [
      drops('short, unknown kind, flags, leg', raw(31, 0x6f, 0xff, 0, 0xff), 'frame_too_short', late),
      drops('long, unknown kind, flags, leg', raw(65508, 0x6f, 0xff, 0, 0xff), 'frame_too_long', late),
      drops('unknown kind, flags, leg', raw(32, 0x6f, 0xff, 0, 0xff), 'unknown_kind', late),
      drops('flags, leg', raw(32, 0x6f, 0x01, 0, 0xf0), 'reserved_flags', late),
      drops('leg, tag', raw(32, 0x6f, 0x01, 0, 0x00), 'unknown_leg', late),
      drops(
        'kind, epoch, source, tag, expiry, hop limit',
        frame(leg, { kind: FrameKind.notice, epoch: 4, key: key(99), hopLimit: 0 }),
        'wrong_kind',
        late,
      ),
      drops(
        'epoch, source, tag, expiry, hop limit',
        frame(leg, { epoch: 4, key: key(99), hopLimit: 0 }),
        'wrong_key_epoch',
        late,
      ),
      drops(
        'source, tag, expiry, hop limit',
        frame(leg, { key: key(99), hopLimit: 0 }),
        'wrong_source',
        late,
      ),
      drops('tag, expiry, hop limit', frame(leg, { key: key(99), hopLimit: 0 }), 'bad_tag', { now: 2000n }),
      drops('expiry, hop limit, limits', frame(leg, { hopLimit: 0 }), 'expired', { now: 2000n }),
      drops('hop limit, limits', frame(leg, { hopLimit: 0 }), 'hop_limit', { now: 1999n }),
      drops('byte cap, rates', frame(leg), 'byte_cap', { now: 1999n }),
      mended('rates of leg, identity, network, prefix, host; fair share', 'rate_limited', {
        set: 'limits',
        index: 3,
        ...rate,
        byteCap: '48',
      }),
      mended('rates of identity, network, prefix, host; fair share', 'identity_rate', {
        set: 'limits',
        index: 3,
        ...FREE,
        byteCap: '48',
      }),
      mended('rates of network, prefix, host; fair share', 'network_rate', {
        set: 'identity',
        index: 1,
        ...FREE,
      }),
      mended('rates of prefix, host; fair share', 'prefix_rate', { set: 'network', index: 2, ...FREE }),
      mended('fair share, rate of the host', 'fair_share', {
        set: 'prefix',
        ...FREE,
        ipv4Bits: 32,
        ipv6Bits: 64,
      }),
      mended('rate of the host', 'host_rate', { set: 'fair', factor: 0, burst: 0 }),
      forwards('nothing', leg, {}, { now: 1999n, settings: [{ set: 'host', ...FREE }] }),
    ],
    counters: [{ id: leg.id, packets: 1, bytes: 48 }],
    accounts: [
      { kind: 'identity', index: 1, demand: 96, refused: 2, packets: 0, bytes: 0 },
      { kind: 'network', index: 2, demand: 0, refused: 1, packets: 0, bytes: 0 },
    ],
  };
}

function replacement(): Sequence {
  const limited = { ...FORWARD, limits: 1 };
  const rekeyed = {
    ...limited,
    key: key(40),
    epoch: 4,
    next: { address: B6, id: 41, epoch: 5, key: key(42) },
  };
  const moved = { ...rekeyed, source: A6 };
  const asDeliver: GoldenLeg = { ...moved, action: 'deliver', limits: 0 };
  return {
    name: 'a replaced leg judges by its new entry and keeps its counts; a removed one forgets them',
    settings: [legRate(1, 65536, 96)],
    legs: [limited],
    packets: [
      forwards('before', limited),
      drops('the old epoch after a new key', frame(limited), 'wrong_key_epoch', { install: [rekeyed] }),
      drops('the old key in the new epoch', frame(rekeyed, { key: limited.key }), 'bad_tag'),
      forwards('the new key', rekeyed),
      drops('the rate used up before is still used up', frame(rekeyed), 'rate_limited'),
      drops('the old address after a move', frame(moved), 'wrong_source', {
        now: NOW + 96n,
        install: [moved],
      }),
      forwards('the new address', moved, {}, { now: NOW + 96n, from: A6 }),
      accepts('another action', asDeliver, frame(asDeliver), { from: A6, install: [asDeliver] }),
      drops('removed', frame(asDeliver), 'unknown_leg', { from: A6, remove: [FORWARD.id] }),
      forwards('installed anew, with a whole burst: one', limited, {}, { install: [limited] }),
      forwards('and two', limited),
    ],
    counters: [{ id: FORWARD.id, packets: 2, bytes: 96 }],
  };
}

/** The beginning of a transport message, as long as the other payloads. */
function transport(index: number, counter: number): Uint8Array {
  const bytes = pattern(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 4, true);
  view.setUint32(4, index, true);
  view.setBigUint64(8, BigInt(counter), true);
  return bytes;
}

/** Handshake messages differ in their indices and keys, whatever their type. */
function handshake(type: 1 | 2 | 3, seed: number): Uint8Array {
  const bytes = Uint8Array.from(
    { length: { 1: 148, 2: 92, 3: 64 }[type] },
    (_, i) => (seed * 37 + i * 5) & 0xff,
  );
  bytes.set([type, 0, 0, 0]);
  return bytes;
}

function repetitions(): Sequence {
  const rated: GoldenLeg = { ...FORWARD, id: 1, identity: 1 };
  const delivered: GoldenLeg = { ...FORWARD, id: 2, action: 'deliver' };
  const controlled: GoldenLeg = { ...CONTROL, id: 3 };
  const reordered: GoldenLeg = { ...FORWARD, id: 4 };
  const rekeyed: GoldenLeg = { ...FORWARD, id: 5 };
  const shaking: GoldenLeg = { ...FORWARD, id: 6 };
  const begun: GoldenLeg = { ...FORWARD, id: 7 };
  const wrapping: GoldenLeg = { ...FORWARD, id: 8 };
  const sends = (leg: GoldenLeg, shows: string, index: number, counter: number, options = {}): GoldenPacket =>
    forwards(`${shows}: ${counter}`, leg, { payload: transport(index, counter) }, options);
  const again = (leg: GoldenLeg, shows: string, index: number, counter: number, options = {}): GoldenPacket =>
    drops(`${shows}: ${counter}`, frame(leg, { payload: transport(index, counter) }), 'repeated', options);
  const payload = transport(7, 0);
  const total = (packets: number, size = 48): { packets: number; bytes: number } => ({
    packets,
    bytes: packets * size,
  });
  return {
    name: 'a message that a leg let through is not let through, counted and charged again',
    settings: [{ set: 'identity', index: 1, ...bytesAtOnce(96) }],
    legs: [rated, delivered, controlled, reordered, rekeyed, shaking, begun, wrapping],
    packets: [
      sends(rated, 'the owner’s first', 7, 0),
      again(rated, 'sent again', 7, 0),
      again(rated, 'a long time later', 7, 0, { now: NOW + 48n }),
      drops('with another end', flipped(frame(rated, { payload }), 40, 0xff), 'repeated', { now: NOW + 48n }),
      drops('a wrong tag is no repetition', flipped(frame(rated, { payload }), 8), 'bad_tag'),
      drops('from elsewhere', frame(rated, { payload }), 'wrong_source', { from: B }),
      sends(rated, 'the owner’s second has what it is due', 7, 1),
      drops('the rate is spent', frame(rated, { payload: transport(7, 2) }), 'identity_rate'),
      again(rated, 'what the rate refused came by', 7, 2, { now: NOW * 2n }),
      sends(rated, 'the next one did not', 7, 3, { now: NOW * 2n }),

      accepts('what ends here', delivered, frame(delivered, { payload })),
      drops('is counted once as well', frame(delivered, { payload }), 'repeated'),
      accepts('control has no sessions', controlled, frame(controlled, { payload })),
      accepts('and repeats what it likes', controlled, frame(controlled, { payload })),
      forwards('what is no WireGuard message', shaking, { payload: pattern(32) }),
      forwards('is not known again', shaking, { payload: pattern(32) }),

      ...[40, 39, 41, 9, 10].map((counter) => sends(reordered, 'in any order', 8, counter)),
      ...[40, 39, 41, 9, 10].map((counter) => again(reordered, 'but once', 8, counter)),
      ...range(11, 39).map((counter) => sends(reordered, 'what was late', 8, counter)),
      again(reordered, 'none is missing any more of those that were told apart', 8, 11),
      sends(reordered, '100 further', 8, 141),
      ...range(42, 110).map((counter) =>
        sends(reordered, 'and those between, later than seen reaches', 8, counter),
      ),
      again(reordered, 'as many as there are', 8, 42),
      ...range(110, 141).map((counter) => sends(reordered, 'and the last ones', 8, counter)),
      again(reordered, 'each once', 8, 140),
      sends(reordered, 'far ahead', 8, 141 + 65536),
      again(reordered, 'as far behind is too old', 8, 141),
      sends(reordered, 'one less is not', 8, 142),

      sends(rekeyed, 'a session', 1, 5),
      sends(rekeyed, 'its successor', 2, 0),
      sends(rekeyed, 'what the first still sends', 1, 6),
      again(rekeyed, 'not twice', 1, 5),
      again(rekeyed, 'nor the second', 2, 0),
      sends(rekeyed, 'a third', 3, 0),
      again(rekeyed, 'the first is still known', 1, 6),
      sends(rekeyed, 'a fourth', 4, 0),
      again(rekeyed, 'the second is', 2, 0),
      again(rekeyed, 'and the third', 3, 0),

      sends(begun, 'taken over from another path', 9, 1000),
      sends(begun, 'what was sent just before', 9, 969),
      again(begun, 'but not what was long before', 9, 968),
      sends(begun, 'a counter’s upper half is not looked at', 9, 2 ** 32 + 1001),
      again(begun, 'in either', 9, 1001),
      sends(wrapping, 'at its end', 9, 2 ** 32 - 1),
      sends(wrapping, 'it goes on', 9, 2 ** 32),
      again(wrapping, 'and is known', 9, 2 ** 32 - 1),

      ...([1, 2, 3] as const).flatMap((type) => [
        forwards(`a handshake message of type ${type}`, shaking, { payload: handshake(type, type) }),
        drops('sent again', frame(shaking, { payload: handshake(type, type) }), 'repeated'),
      ]),
      forwards('a new one', shaking, { payload: handshake(1, 9) }),
      drops('the last three are known', frame(shaking, { payload: handshake(2, 2) }), 'repeated'),
      forwards('the one before them is not', shaking, { payload: handshake(1, 1) }),

      again(rated, 'a new key of the leg changes nothing', 7, 3, {
        now: NOW * 3n,
        install: [{ ...rated, expiresAt: '9000000000' }],
      }),
      sends(rated, 'a leg installed anew knows nothing', 7, 3, {
        now: NOW * 3n,
        remove: [1],
        install: [rated],
      }),
    ],
    counters: [
      { id: 1, ...total(1) },
      { id: 2, ...total(1) },
      { id: 3, ...total(2) },
      { id: 4, ...total(5 + 28 + 1 + 68 + 31 + 2) },
      { id: 5, ...total(5) },
      { id: 6, packets: 7, bytes: 2 * 48 + 164 + 108 + 80 + 2 * 164 },
      { id: 7, ...total(3) },
      { id: 8, ...total(2) },
    ],
    accounts: [{ kind: 'identity', index: 1, demand: 0, refused: 1, packets: 3, bytes: 144 }],
  };
}

function otherProtocols(): Sequence {
  const stun = [0x00, 0x01, 0x00, 0x00, 0x21, 0x12, 0xa4, 0x42];
  const exact: readonly (readonly [number, number])[] = [
    [1, 148],
    [2, 92],
    [3, 64],
  ];
  return {
    name: 'WireGuard messages and STUN binding requests are told apart by their first bytes',
    legs: [FORWARD],
    packets: [
      ...exact.flatMap(([type, size]) => [
        isFor(`type ${type} of ${size} bytes`, raw(size, type), 'wireguard'),
        drops(`type ${type} of ${size - 1} bytes`, raw(size - 1, type), 'malformed_wireguard'),
        drops(`type ${type} of ${size + 1} bytes`, raw(size + 1, type), 'malformed_wireguard'),
        drops(`type ${type} alone`, raw(1, type), 'malformed_wireguard'),
        ...[1, 2, 3].map((at) =>
          drops(`type ${type}, byte ${at} set`, flipped(raw(size, type), at), 'malformed_wireguard'),
        ),
      ]),
      drops('transport of 31 bytes', raw(31, 4), 'malformed_wireguard'),
      isFor('a keepalive, 32 bytes', raw(32, 4), 'wireguard'),
      isFor('transport of 1452 bytes', raw(1452, 4), 'wireguard'),
      isFor('transport of 65507 bytes', raw(65507, 4), 'wireguard'),
      drops('transport, reserved byte set', raw(32, 4, 0, 0, 1), 'malformed_wireguard'),
      drops('transport type alone', raw(4, 4), 'malformed_wireguard'),
      isFor('a STUN binding request', raw(20, ...stun), 'stun'),
      isFor('a STUN binding request with attributes', raw(28, ...stun), 'stun'),
      drops('STUN of 19 bytes', raw(19, ...stun), 'malformed_stun'),
      drops('one zero byte', raw(1), 'malformed_stun'),
      drops('STUN of another method', flipped(raw(20, ...stun), 1, 0x03), 'malformed_stun'),
      ...[4, 5, 6, 7].map((at) =>
        drops(`STUN, magic cookie byte ${at} wrong`, flipped(raw(20, ...stun), at, 0x80), 'malformed_stun'),
      ),
      ...[0x05, 0x16, 0x45, 0x60, 0x6e, 0x70, 0x80, 0xef, 0xff].map((first) =>
        drops(`first byte ${first.toString(16)}`, raw(64, first), 'unknown_protocol'),
      ),
      drops('one unknown byte', raw(1, 0x41), 'unknown_protocol'),
    ],
    counters: [{ id: FORWARD.id, packets: 0, bytes: 0 }],
  };
}

export function goldenSequences(): GoldenSequence[] {
  const sequences: Sequence[] = [
    addresses(),
    sizes(),
    kinds(),
    flagsAndEpochs(),
    legIds(),
    sources(),
    tags(),
    expiry(),
    hopLimits(),
    loop(),
    rateLimits(),
    caps(),
    packetRates(),
    accountRates(),
    chargedToNone(),
    fairShares(),
    settledCounts(),
    order(),
    replacement(),
    repetitions(),
    otherProtocols(),
  ];
  return sequences.map((sequence) => ({ settings: [], accounts: [], ...sequence }));
}

/** One line a packet, so that a change shows as the packets it changes. */
export function goldenText(): string {
  const sequences = goldenSequences().map((sequence) => {
    const lines = (items: readonly object[]): string =>
      items.map((item) => `   ${JSON.stringify(item)}`).join(',\n');
    return [
      ` {"name": ${JSON.stringify(sequence.name)},`,
      `  "settings": [${sequence.settings.length === 0 ? '' : `\n${lines(sequence.settings)}`}],`,
      `  "legs": [\n${lines(sequence.legs)}],`,
      `  "packets": [\n${lines(sequence.packets)}],`,
      `  "counters": ${JSON.stringify(sequence.counters)},`,
      `  "accounts": ${JSON.stringify(sequence.accounts)}}`,
    ].join('\n');
  });
  return `[\n${sequences.join(',\n')}\n]\n`;
}

/** The homes of ids, those on both sides of a home's edge above all, by arithmetic without rounding. */
export function legHomesText(): string {
  const lines = [1, 2, 3, 1000, 8192, 40_960, 1_000_000, 1_008_192, 2 ** 28 - 1, 2 ** 28].flatMap((slots) => {
    const ids = [0, 1, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff];
    for (const slot of [1, 2, Math.floor(slots / 3), slots - 1].filter((each) => each > 0 && each < slots)) {
      const first = Number(((BigInt(slot) << 32n) + BigInt(slots) - 1n) / BigInt(slots));
      ids.push(first - 1, first);
    }
    return [...new Set(ids)].map((id) => {
      const home = Number((BigInt(id) * BigInt(slots)) >> 32n);
      return ` ${JSON.stringify({ id, slots, home } satisfies GoldenLegHome)}`;
    });
  });
  return `[\n${lines.join(',\n')}\n]\n`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(GOLDEN_FILE, goldenText());
  writeFileSync(LEG_HOMES_FILE, legHomesText());
}
