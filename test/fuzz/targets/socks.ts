// A SOCKS client, and the answers of a resolver. Input: which of them; of a client, how many bytes come at once, then what
// it sends; of a resolver, its answer. However a client's bytes are cut, it is understood alike; what it asks for is no
// more than it sent; and an answer has no address that is not in it.

import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { addressesIn, NAME_TYPE, nameQuestion } from '../../../ts/exit/name-message.js';
import {
  decodeSocksDatagram,
  encodeSocksDatagram,
  SocksHandshake,
  type SocksStep,
} from '../../../ts/exit/socks-protocol.js';
import { concat } from '../../../ts/wire/bytes.js';
import type { FuzzTarget } from '../harness/target.js';

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const PASSWORD = { user: 'me', password: 'secret' };
const QUESTION = nameQuestion(7, 'shop.example', NAME_TYPE.ipv4) ?? assert.fail();
const ANSWER = concat(
  hex('000781800001000200000000'),
  QUESTION.subarray(12),
  hex('c00c000500010000003c0004017ac011'),
  hex('c00c000100010000003c0004cb00710a'),
);
const CLIENTS = [
  '05010005010001cb00710a005068656c6c6f',
  '0501000501000420010db800000000000000000000000101bb',
  '050102010' + '26d6506736563726574' + '050300030c73686f702e6578616d706c650035',
];

/** All that is asked or refused, and what is left over, by a client whose bytes come so many at a time. */
function understood(sent: Uint8Array, size: number, password: typeof PASSWORD | undefined): unknown {
  const handshake = new SocksHandshake(password);
  const steps: SocksStep[] = [];
  let at = 0;
  for (; at < sent.length && !steps.some(({ type }) => type !== 'reply'); at += size)
    steps.push(...handshake.take(sent.subarray(at, at + size)));
  const last = steps.at(-1);
  if (last?.type !== 'request') return steps;
  const { host, isName, port } = last.target;
  assert.ok(host.length > 0 && host.length <= 253 && port >= 0 && port <= 65_535);
  assert.equal(isIP(host) === 0, isName);
  assert.ok(!isName || /^[\w.-]+$/.test(host));
  const left = concat(last.rest, sent.subarray(at));
  return [...steps.slice(0, -1), { ...last, rest: Buffer.from(left).toString('hex') }];
}

const target: FuzzTarget = {
  seeds: () => [
    ...CLIENTS.flatMap((sent) => [0, 1].map((kind) => concat(Uint8Array.of(kind, 3), hex(sent)))),
    concat(Uint8Array.of(2, 0), ANSWER),
    concat(Uint8Array.of(3, 0), encodeSocksDatagram('203.0.113.10', 53, QUESTION)),
  ],
  dictionary: [
    '\x05\x01\x00',
    '\x05\x01\x02',
    '\x05\x03\x00\x03',
    '\x00\x00\x00\x01',
    '\xc0\x0c',
    'localhost',
  ],
  run(input) {
    const [kind = 0, size = 0] = input;
    const bytes = input.subarray(2);
    switch (kind % 4) {
      case 2: {
        for (const address of addressesIn(bytes, QUESTION) ?? []) assert.equal(isIP(address), 4);
        return;
      }
      case 3: {
        const datagram = decodeSocksDatagram(bytes);
        if (datagram === undefined) return;
        const { target: to, data } = datagram;
        assert.ok(data.length < bytes.length);
        if (to.isName) return;
        const again = decodeSocksDatagram(encodeSocksDatagram(to.host, to.port, data));
        assert.deepEqual(again, { target: to, data: new Uint8Array(data) });
        return;
      }
      default: {
        const password = kind % 4 === 0 ? undefined : PASSWORD;
        assert.deepEqual(
          understood(bytes, 1 + (size % 32), password),
          understood(bytes, Math.max(bytes.length, 1), password),
        );
      }
    }
  },
};
export default target;
