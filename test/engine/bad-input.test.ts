// Everything a relay's port must not act on, sent to it through a socket: each datagram is one drop with
// its reason, reaches nobody, and draws no answer. The kernel path is held to the same verdicts by
// test/golden and xdp/test.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Engine, EngineOptions } from '../../ts/contract/engine.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { openWasmEngine } from '../../ts/engine/wasm/wasm-engine.js';
import { sessionKeys, until } from './conformance.js';
import { INITIATION_SIZE, MACS_SIZE, TYPE_INITIATION } from '../../ts/engine/wasm/messages.js';
import { hash, mac } from '../../ts/engine/wasm/primitives.js';
import { encodeFrame, FRAME_HEADER_SIZE, FrameKind, writeFrameTag } from '../../ts/wire/frame.js';
import { UNCHARGED, type Leg, type LegCharging } from '../../ts/wire/leg.js';
import { parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';
import { DROP_REASONS } from '../../ts/wire/verdict.js';
import { addonMissing } from './addon.js';

const KEY = new Uint8Array(16).fill(7);
const SLOW = { packetsPerSecond: 1, burstMs: 1 };
/** Legs of the engine under test, by what is the matter with them. */
const LEG = {
  forward: 0x11,
  expired: 0x12,
  slow: 0x13,
  full: 0x14,
  slowIdentity: 0x15,
  slowNetwork: 0x16,
  elsewhere: 0x17,
  deliver: 0x18,
  control: 0x19,
  loop: 0x20,
  around: 0x21,
  back: 0x22,
} as const;

const address = (port: number, host = '127.0.0.1'): SocketAddress => {
  const parsed = parseSocketAddress(`${host}:${port}`);
  assert.ok(parsed);
  return parsed;
};

function frame(
  legId: number,
  change: (frame: Uint8Array) => void = () => undefined,
  hopLimit = 8,
): Uint8Array {
  const payload = new Uint8Array(64).fill(4);
  const made = encodeFrame({ kind: FrameKind.forward, hopLimit, epoch: 0, legId, key: KEY, payload });
  change(made);
  return made;
}

/** Changed, and tagged again: only the change is the matter with it. */
const tagged =
  (change: (frame: Uint8Array) => void) =>
  (made: Uint8Array): void => {
    change(made);
    writeFrameTag(KEY, made);
  };

/** Makes its payload a transport message's beginning, always the same. */
function asTransport(made: Uint8Array): void {
  made.set([4, 0, 0, 0], FRAME_HEADER_SIZE);
}

function message(type: number, size: number): Uint8Array {
  const made = new Uint8Array(randomBytes(size));
  made.set([type, 0, 0, 0]);
  return made;
}

/** An initiation whose mac1 is right, and nothing else. */
function initiation(sessionKey: Uint8Array): Uint8Array {
  const made = message(TYPE_INITIATION, INITIATION_SIZE);
  made.fill(0, INITIATION_SIZE - 16);
  const key = hash(Buffer.from('mac1----'), sessionKey);
  made.set(mac(key, made.subarray(0, INITIATION_SIZE - MACS_SIZE)), INITIATION_SIZE - MACS_SIZE);
  return made;
}

interface Case {
  readonly name: string;
  readonly datagram: (sessionKey: Uint8Array) => Uint8Array;
  /** The counter, without `drop_`. */
  readonly reason: string;
  /** Datagrams of the same kind that are fine come before it. */
  readonly first?: Uint8Array;
  readonly prepare?: (engine: Engine) => void;
  readonly undo?: (engine: Engine) => void;
  /** From an IPv6 address: IPv4 has no datagram so long. */
  readonly ipv6?: true;
}

const at = (index: number, value: number) => (made: Uint8Array) => void (made[index] = value);

const CASES: readonly Case[] = [
  { name: 'nothing', datagram: () => new Uint8Array(0), reason: 'empty' },
  { name: 'a byte of no protocol', datagram: () => Uint8Array.of(0x80), reason: 'unknown_protocol' },
  { name: 'text', datagram: () => Buffer.from('GET / HTTP/1.1\r\n\r\n'), reason: 'unknown_protocol' },
  { name: 'WireGuard type 5', datagram: () => message(5, 148), reason: 'unknown_protocol' },
  { name: 'an initiation of 147 bytes', datagram: () => message(1, 147), reason: 'malformed_wireguard' },
  { name: 'an initiation of 149 bytes', datagram: () => message(1, 149), reason: 'malformed_wireguard' },
  { name: 'a response of 91 bytes', datagram: () => message(2, 91), reason: 'malformed_wireguard' },
  { name: 'a cookie reply of 65 bytes', datagram: () => message(3, 65), reason: 'malformed_wireguard' },
  { name: 'a transport message of 31 bytes', datagram: () => message(4, 31), reason: 'malformed_wireguard' },
  {
    name: 'an initiation with a reserved byte set',
    datagram: () => Uint8Array.of(1, 0, 1, 0, ...randomBytes(144)),
    reason: 'malformed_wireguard',
  },
  { name: 'an initiation without its mac1', datagram: () => message(1, 148), reason: 'bad_mac1' },
  { name: 'a response without its mac1', datagram: () => message(2, 92), reason: 'bad_mac1' },
  { name: 'an initiation that does not open', datagram: initiation, reason: 'bad_handshake' },
  { name: 'a cookie reply nobody asked for', datagram: () => message(3, 64), reason: 'unknown_index' },
  { name: 'a transport message of no session', datagram: () => message(4, 80), reason: 'unknown_index' },
  { name: 'STUN cut short', datagram: () => Uint8Array.of(0, 1, 0, 0, 0x21, 0x12), reason: 'malformed_stun' },
  {
    name: 'STUN with another magic cookie',
    datagram: () => Uint8Array.of(0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x43, ...randomBytes(12)),
    reason: 'malformed_stun',
  },
  {
    name: 'a STUN response',
    datagram: () => Uint8Array.of(0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...randomBytes(12)),
    reason: 'malformed_stun',
  },
  { name: 'a frame of one byte', datagram: () => Uint8Array.of(0x6f), reason: 'frame_too_short' },
  {
    name: 'a frame of 31 bytes',
    datagram: () => frame(LEG.forward).subarray(0, 31),
    reason: 'frame_too_short',
  },
  {
    name: 'a frame of 65,508 bytes',
    datagram: () => new Uint8Array(65_508).fill(0x6f, 0, 1),
    reason: 'frame_too_long',
    ipv6: true,
  },
  {
    name: 'a frame of no known kind',
    datagram: () => frame(LEG.forward, tagged(at(1, 0x7f))),
    reason: 'unknown_kind',
  },
  {
    name: 'a frame with reserved flags',
    datagram: () => frame(LEG.forward, tagged(at(3, 0x10))),
    reason: 'reserved_flags',
  },
  { name: 'a frame on no leg', datagram: () => frame(0x99), reason: 'unknown_leg' },
  {
    name: 'a control frame on a forward leg',
    datagram: () => frame(LEG.forward, tagged(at(1, FrameKind.admissionRequest))),
    reason: 'wrong_kind',
  },
  { name: 'a forward frame on a control leg', datagram: () => frame(LEG.control), reason: 'wrong_kind' },
  {
    name: 'a frame under another key epoch',
    datagram: () => frame(LEG.forward, tagged(at(3, 1))),
    reason: 'wrong_key_epoch',
  },
  { name: 'a frame from another address', datagram: () => frame(LEG.elsewhere), reason: 'wrong_source' },
  {
    name: 'a frame with a tag of another key',
    datagram: () => frame(LEG.forward, at(8, 0)),
    reason: 'bad_tag',
  },
  {
    name: 'a frame whose payload was changed',
    datagram: () => frame(LEG.forward, at(20, 0)),
    reason: 'bad_tag',
  },
  {
    name: 'a frame cut short on the way',
    datagram: () => frame(LEG.forward).subarray(0, 60),
    reason: 'bad_tag',
  },
  { name: 'a frame on a leg that has run out', datagram: () => frame(LEG.expired), reason: 'expired' },
  {
    name: 'a frame at the end of its hops',
    datagram: () => frame(LEG.forward, undefined, 1),
    reason: 'hop_limit',
  },
  { name: 'a frame without hops', datagram: () => frame(LEG.forward, undefined, 0), reason: 'hop_limit' },
  {
    name: 'a frame above the rate of its leg',
    first: frame(LEG.slow),
    datagram: () => frame(LEG.slow),
    reason: 'rate_limited',
  },
  { name: 'a frame above the byte cap', datagram: () => frame(LEG.full), reason: 'byte_cap' },
  {
    name: 'a frame above the identity’s rate',
    datagram: () => frame(LEG.slowIdentity),
    reason: 'identity_rate',
  },
  {
    name: 'a frame above the network’s rate',
    datagram: () => frame(LEG.slowNetwork),
    reason: 'network_rate',
  },
  {
    name: 'a frame above the prefix’s rate',
    datagram: () => frame(LEG.forward),
    prepare: (engine) => engine.setPrefixLimit(SLOW),
    undo: (engine) => engine.setPrefixLimit(undefined),
    reason: 'prefix_rate',
  },
  {
    name: 'a frame above the host’s rate',
    datagram: () => frame(LEG.forward),
    prepare: (engine) => engine.setHostLimit(SLOW),
    undo: (engine) => engine.setHostLimit(undefined),
    reason: 'host_rate',
  },
  {
    name: 'a frame sent a second time',
    first: frame(LEG.forward, tagged(asTransport)),
    datagram: () => frame(LEG.forward, tagged(asTransport)),
    reason: 'repeated',
  },
  { name: 'a frame inside a frame', datagram: () => inside(frame(LEG.forward)), reason: 'wrong_kind' },
  {
    name: 'rubbish inside a frame',
    datagram: () => inside(new Uint8Array(64).fill(0x99)),
    reason: 'unknown_protocol',
  },
  {
    name: 'a session’s message of nobody inside a frame',
    datagram: () => inside(message(4, 64)),
    reason: 'unknown_index',
  },
  { name: 'a frame that goes round in a circle', datagram: () => frame(LEG.loop), reason: 'hop_limit' },
];

/** On the leg that ends at the engine. */
function inside(payload: Uint8Array): Uint8Array {
  return encodeFrame({
    kind: FrameKind.forward,
    hopLimit: 8,
    epoch: 0,
    legId: LEG.deliver,
    key: KEY,
    payload,
  });
}

const native = addonMissing();
const ENGINES: readonly (readonly [
  string,
  string | false,
  (options: EngineOptions) => Promise<Engine> | Engine,
])[] = [
  ['native', native ?? false, openNativeEngine],
  ['wasm', false, openWasmEngine],
];

for (const [name, skip, open] of ENGINES)
  describe(`the ${name} engine drops, counts and does not answer`, { skip }, () => {
    const { privateKey, sessionKey } = sessionKeys();
    let engine: Engine;
    let stranger: Socket;
    let stranger6: Socket;
    let sink: Socket;
    let heard = 0;

    const socket = async (type: 'udp4' | 'udp6'): Promise<Socket> => {
      const made = createSocket(type);
      made.bind(0, type === 'udp4' ? '127.0.0.1' : '::1');
      await once(made, 'listening');
      made.on('message', () => heard++);
      return made;
    };
    const drops = (): Map<string, number> =>
      new Map([...engine.counters()].filter(([counter]) => counter.startsWith('drop_')));
    const send = async (datagram: Uint8Array, ipv6?: true): Promise<void> => {
      const [from, to] = ipv6 === true ? [stranger6, '::1'] : [stranger, '127.0.0.1'];
      await new Promise<void>((resolve, reject) =>
        from.send(datagram, engine.port, to, (error) => {
          if (error === null) resolve();
          else reject(error);
        }),
      );
    };
    const changes = (before: ReadonlyMap<string, number>): Record<string, number> =>
      Object.fromEntries(
        [...drops()]
          .map(([counter, count]) => [counter, count - (before.get(counter) ?? 0)] as const)
          .filter(([, by]) => by !== 0),
      );

    before(async () => {
      engine = await open({
        privateKey: Uint8Array.from(privateKey),
        port: 0,
        maxLegs: 64,
        maxPeers: 16,
        accounts: { identities: 2, networks: 2, classes: 3 },
        controlFramesPerSecond: 1000,
      });
      [stranger, stranger6, sink] = await Promise.all([socket('udp4'), socket('udp6'), socket('udp4')]);
      const here = address(stranger.address().port);
      const own = address(engine.port);
      const leg = (id: number, given: Partial<Leg> = {}, charging: Partial<LegCharging> = {}): Leg => ({
        id,
        key: KEY,
        epoch: 0,
        action: 'forward',
        source: here,
        next: { id: 1, key: KEY, epoch: 0, address: address(sink.address().port) },
        lifetimeMs: undefined,
        charging: { ...UNCHARGED, ...charging },
        ...given,
      });
      const own1 = (id: number): Partial<Leg> => ({ next: { id, key: KEY, epoch: 0, address: own } });
      engine.setLimits(1, { rate: { packetsPerSecond: 1, burstMs: 1100 } });
      engine.setLimits(2, { byteCap: 1 });
      engine.setAccountLimit('identity', 1, SLOW);
      engine.setAccountLimit('network', 1, SLOW);
      engine.installLegs([
        leg(LEG.forward),
        leg(LEG.expired, { lifetimeMs: 1 }),
        leg(LEG.slow, {}, { limits: 1 }),
        leg(LEG.full, {}, { limits: 2 }),
        leg(LEG.slowIdentity, {}, { identity: 1 }),
        leg(LEG.slowNetwork, {}, { network: 1 }),
        leg(LEG.elsewhere, { source: address(9, '192.0.2.1') }),
        leg(LEG.deliver, { action: 'deliver' }),
        leg(LEG.control, { action: 'control', next: undefined }),
        leg(LEG.loop, own1(LEG.around)),
        leg(LEG.around, { source: own, ...own1(LEG.back) }),
        leg(LEG.back, { source: own, ...own1(LEG.around) }),
      ]);
      await sleep(20); // the short-lived leg has run out
    });
    after(async () => {
      for (const each of [stranger, stranger6, sink]) each.close();
      await engine.close();
    });

    for (const { name: what, datagram, reason, first, prepare, undo, ipv6 } of CASES)
      it(`${what}: ${reason}`, async () => {
        prepare?.(engine);
        if (first !== undefined) {
          const forwarded = engine.counters().get('forwarded_packets') ?? 0;
          await send(first);
          await until(() => (engine.counters().get('forwarded_packets') ?? 0) > forwarded, 'the first one');
          await until(() => heard === 1, 'the first one at its end');
          heard = 0;
        }
        const before = drops();
        try {
          await send(datagram(Buffer.from(sessionKey, 'hex')), ipv6);
          await until(() => Object.keys(changes(before)).length > 0, `drop_${reason}`);
          await sleep(10);
          const counted = changes(before);
          // Once shares of the host are dealt, an identity meets its own before the host's rate.
          if (reason === 'host_rate' && counted['drop_fair_share'] === 1) return;
          assert.deepEqual(counted, { [`drop_${reason}`]: 1 });
          assert.equal(heard, 0, 'nobody was sent anything');
        } finally {
          undo?.(engine);
        }
      });

    it('and every reason a frame can be dropped for was among them', () => {
      const seen = new Set(CASES.map(({ reason }) => reason));
      // Who takes more than his share is a matter of more than one frame: test/engine/fair-share.test.ts.
      const missing = DROP_REASONS.filter(
        (reason) => !seen.has(reason) && reason !== 'none' && reason !== 'fair_share',
      );
      assert.deepEqual(missing, []);
    });
  });
