// Both engines answer the same STUN requests with the same bytes, through their sockets.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import type { Engine, EngineOptions } from '../../ts/contract/engine.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { openWasmEngine } from '../../ts/engine/wasm/wasm-engine.js';
import { addonMissing } from './addon.js';
import { sessionKeys } from './conformance.js';

type Attribute = readonly [type: number, value: Uint8Array];

const TRANSACTION = Uint8Array.from({ length: 12 }, (_, index) => 0xa0 + index);
const u16 = (value: number): Uint8Array => Uint8Array.of(value >> 8, value & 0xff);
const u32 = (value: number): Uint8Array => Uint8Array.of(...u16(value >>> 16), ...u16(value & 0xffff));
const attribute = ([type, value]: Attribute): Uint8Array =>
  Uint8Array.of(...u16(type), ...u16(value.length), ...value, ...new Uint8Array(-value.length & 3));

function message(type: number, attributes: Uint8Array): Uint8Array {
  return Uint8Array.of(
    ...u16(type),
    ...u16(attributes.length),
    0x21,
    0x12,
    0xa4,
    0x42,
    ...TRANSACTION,
    ...attributes,
  );
}
const request = (...attributes: readonly Attribute[]): Uint8Array =>
  message(0x0001, Uint8Array.from(attributes.flatMap((each) => [...attribute(each)])));

/** With a FINGERPRINT behind it (RFC 8489 section 14.7); `off`: what is added to the right value. */
function fingerprinted(bytes: Uint8Array, off = 0): Uint8Array {
  const whole = Uint8Array.of(...bytes, ...attribute([0x8028, new Uint8Array(4)]));
  whole.set(u16(whole.length - 20), 2);
  const sum = crc32(whole.subarray(0, bytes.length));
  whole.set(u32(((sum ^ 0x5354554e) + off) >>> 0), bytes.length + 4);
  return whole;
}

const changed = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  const copy = Uint8Array.from(bytes);
  copy[at] = value;
  return copy;
};
const some = (size: number): Uint8Array => new Uint8Array(size).fill(0x55);
const unknown = (...types: readonly number[]): Uint8Array => {
  const list = types.flatMap((type) => [...u16(type)]);
  return message(
    0x0111,
    Uint8Array.of(0, 9, 0, 4, 0, 0, 4, 20, ...attribute([0x000a, Uint8Array.from(list)])),
  );
};

/** `address`: the sender is told its address. */
const CASES: readonly (readonly [
  shows: string,
  sent: Uint8Array,
  answer: 'address' | 'silence' | Uint8Array,
])[] = [
  ['no attributes', request(), 'address'],
  ['a length that says more than there is', changed(request(), 3, 4), 'silence'],
  ['a length that says less than there is', changed(request([0x8022, some(8)]), 3, 8), 'silence'],
  ['a length that is no multiple of four', Uint8Array.of(...changed(request(), 3, 2), 0, 0), 'silence'],
  ['an attribute that is longer than the rest', changed(request([0x8022, some(4)]), 23, 5), 'silence'],
  ['an attribute that is padded', request([0x8022, some(3)]), 'address'],
  ['an unknown attribute that may be passed over', request([0x8fff, some(8)]), 'address'],
  [
    'attributes of authentication, which is not asked for',
    request([0x0006, some(4)], [0x0008, some(20)]),
    'address',
  ],
  ['CHANGE-REQUEST (RFC 5780), which has to be understood', request([0x0003, some(4)]), unknown(0x0003)],
  ['two that have to be understood', request([0x0003, some(4)], [0x0024, some(4)]), unknown(0x0003, 0x0024)],
  [
    'more of them than are named in an answer',
    request(...Array.from({ length: 40 }, (_, index): Attribute => [0x4000 + index, some(0)])),
    unknown(...Array.from({ length: 16 }, (_, index) => 0x4000 + index)),
  ],
  [
    'one behind MESSAGE-INTEGRITY, which does not count',
    request([0x0008, some(20)], [0x0003, some(4)]),
    'address',
  ],
  ['a right FINGERPRINT', fingerprinted(request([0x8022, some(5)])), 'address'],
  ['a wrong FINGERPRINT', fingerprinted(request([0x8022, some(5)]), 1), 'silence'],
  ['a FINGERPRINT of another length', request([0x8028, some(8)]), 'silence'],
  [
    'a FINGERPRINT that is not the last',
    Uint8Array.of(...changed(fingerprinted(request()), 3, 12), 0x80, 0x22, 0, 0),
    'silence',
  ],
  ['an unknown one under a right FINGERPRINT', fingerprinted(request([0x0024, some(4)])), unknown(0x0024)],
];

/** What comes back for each request, one after the other. */
async function answers(t: TestContext, engine: Engine): Promise<(Uint8Array | undefined)[]> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  t.after(() => socket.close());
  const heard: Uint8Array[] = [];
  socket.on('message', (datagram) => heard.push(Uint8Array.from(datagram)));
  const counted = (): number =>
    (engine.counters().get('stun_answered') ?? 0) + (engine.counters().get('drop_malformed_stun') ?? 0);
  const all: (Uint8Array | undefined)[] = [];
  for (const [shows, sent] of CASES) {
    const [before, heardBefore] = [counted(), heard.length];
    const malformed = engine.counters().get('drop_malformed_stun') ?? 0;
    socket.send(sent, engine.port, '127.0.0.1');
    for (let wait = 0; counted() === before; wait++) {
      assert.ok(wait < 1000, `${shows}: neither answered nor dropped`);
      await sleep(5);
    }
    const isDropped = (engine.counters().get('drop_malformed_stun') ?? 0) > malformed;
    while (!isDropped && heard.length === heardBefore) await sleep(5);
    all.push(isDropped ? undefined : heard.at(-1));
  }
  assert.equal(
    heard.length,
    all.filter((answer) => answer !== undefined).length,
    'no answer to what was dropped',
  );
  // As XOR-MAPPED-ADDRESS says it: 127.0.0.1 and the port, XORed with the magic cookie.
  const port = socket.address().port ^ 0x2112;
  const mapped = message(
    0x0101,
    attribute([0x0020, Uint8Array.of(0, 1, ...u16(port), 0x5e, 0x12, 0xa4, 0x43)]),
  );
  return all.map((answer) =>
    answer !== undefined && Buffer.from(answer).equals(mapped) ? Uint8Array.of() : answer,
  );
}

const ENGINES: readonly (readonly [
  string,
  string | undefined,
  (options: EngineOptions) => Promise<Engine> | Engine,
])[] = [
  ['native', addonMissing(), openNativeEngine],
  ['wasm', undefined, openWasmEngine],
];

describe('a STUN binding request is answered as RFC 8489 says', () => {
  for (const [name, skip, open] of ENGINES)
    it(`by the ${name} engine`, { skip: skip ?? false }, async (t) => {
      const { privateKey } = sessionKeys();
      const engine = await open({
        privateKey: Uint8Array.from(privateKey),
        port: 0,
        maxLegs: 8,
        maxPeers: 8,
        stunPerSecond: 1000,
        controlFramesPerSecond: 1000,
      });
      t.after(() => engine.close());
      const heard = await answers(t, engine);
      for (const [index, [shows, , answer]] of CASES.entries()) {
        const expected = answer === 'silence' ? undefined : answer === 'address' ? Uint8Array.of() : answer;
        assert.deepEqual(heard[index], expected, shows);
      }
    });
});
