// What a SOCKS client may send, in whichever pieces, and what it is answered (RFC 1928, RFC 1929).

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NAME_TYPE, nameQuestion } from '../../ts/exit/name-message.js';
import {
  decodeSocksDatagram,
  encodeSocksDatagram,
  SocksHandshake,
  socksReply,
  type SocksStep,
} from '../../ts/exit/socks-protocol.js';

const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(' ', ''), 'hex');
const hex = (of: Uint8Array): string => Buffer.from(of).toString('hex');

/** The steps of a client that sends these bytes, `size` at a time. */
function steps(sent: Uint8Array, handshake = new SocksHandshake(undefined), size = sent.length): SocksStep[] {
  const all: SocksStep[] = [];
  for (let at = 0; at < sent.length; at += size) all.push(...handshake.take(sent.subarray(at, at + size)));
  return all;
}

/** What the request asks for, or what it was refused with. */
function outcome(request: string): unknown {
  const last = steps(bytes(`050100${request}`)).at(-1);
  if (last?.type === 'request') return { command: last.command, ...last.target };
  return last?.type === 'refused' ? hex(last.bytes).slice(0, 4) : last?.type;
}

describe('a SOCKS client', () => {
  it('asks for addresses and names', () => {
    assert.deepEqual(outcome('05010001 cb00710a 0050'), {
      command: 'connect',
      host: '203.0.113.10',
      isName: false,
      port: 80,
    });
    assert.deepEqual(outcome('05010004 20010db8000000000000000000000001 01bb'), {
      command: 'connect',
      host: '2001:db8::1',
      isName: false,
      port: 443,
    });
    const named = { command: 'udp-associate', host: 'shop.example', isName: true, port: 53 };
    assert.deepEqual(outcome('05030003 0c 73686f702e6578616d706c65 0035'), named);
    assert.deepEqual(outcome('05030003 0d 73686f702e6578616d706c652e 0035'), named, 'with a final dot');
    // An address in the place of a name is one: it is not resolved.
    assert.deepEqual(outcome('05010003 09 3132372e302e302e31 0050'), {
      command: 'connect',
      host: '127.0.0.1',
      isName: false,
      port: 80,
    });
  });

  it('is read alike in whichever pieces it comes, and keeps what it sends behind', () => {
    const sent = bytes('0502000205010003 0c 73686f702e6578616d706c65 0050 68656c6c6f');
    const whole = steps(sent);
    assert.deepEqual(
      whole.map(({ type }) => type),
      ['reply', 'request'],
    );
    const request = whole[1];
    assert.ok(request?.type === 'request');
    assert.equal(Buffer.from(request.rest).toString(), 'hello');
    for (const size of [1, 2, 3, 5, 7]) {
      const handshake = new SocksHandshake(undefined);
      const last = steps(sent.subarray(0, 23), handshake, size).at(-1);
      assert.ok(last?.type === 'request', `${size} bytes at a time`);
      assert.deepEqual(last.target, request.target);
      assert.deepEqual(handshake.take(bytes('ffff')), [], 'nothing more is read');
    }
  });

  it('may say all at once, as long as each of it can be', () => {
    const [user, password, name] = [
      Buffer.alloc(255, 'u'),
      Buffer.alloc(255, 'p'),
      `${'a'.repeat(63)}.`.repeat(3),
    ];
    const host = Buffer.from(name + 'b'.repeat(61));
    assert.equal(host.length, 253);
    const sent = Buffer.concat([
      Buffer.from([5, 255]),
      Buffer.alloc(255, 2),
      Buffer.from([1, 255]),
      user,
      Buffer.from([255]),
      password,
      Buffer.from([5, 1, 0, 3, host.length]),
      host,
      Buffer.from([0, 80]),
      Buffer.alloc(2000, 'x'),
    ]);
    const expected = { user: user.toString(), password: password.toString() };
    for (const size of [sent.length, 500, 7]) {
      const all = steps(
        sent.subarray(0, size === 7 ? 1030 : sent.length),
        new SocksHandshake(expected),
        size,
      );
      assert.deepEqual(
        all.map(({ type }) => type),
        ['reply', 'reply', 'request'],
        `${size} bytes at a time`,
      );
    }
  });

  it('keeps all of a long burst behind the request', () => {
    const burst = Buffer.alloc(5000, 'x');
    const [, request] = steps(Buffer.concat([bytes('05010005010001cb00710a0050'), burst]));
    assert.ok(request?.type === 'request');
    assert.equal(request.rest.length, burst.length);
  });

  it('is refused what is no SOCKS 5, no known command or address, and names that are none', () => {
    assert.deepEqual(steps(bytes('04010050cb00710a00')), [{ type: 'refused', bytes: new Uint8Array() }]);
    assert.deepEqual(steps(Buffer.from('GET / HTTP/1.1\r\n'))[0]?.type, 'refused');
    const [only] = steps(bytes('050101'));
    assert.ok(only?.type === 'refused');
    assert.equal(hex(only.bytes), '05ff', 'GSSAPI alone');
    assert.equal(outcome('05020001cb00710a0050'), '0507', 'BIND');
    assert.equal(outcome('05010002cb00710a0050'), '0508');
    assert.equal(outcome('04010001cb00710a0050'), '0501');
    for (const name of ['00', '02 2e2e', '03 610062', '04 2f657463', '03 2d6161', '02 0a61'])
      assert.equal(outcome(`05010003${name}0050`), '0508', name);
    const long = Buffer.from(`${'a'.repeat(64)}.example`);
    assert.equal(
      outcome(`05010003${hex(Buffer.from([long.length]))}${hex(long)}0050`),
      '0508',
      'a label of 64',
    );
  });

  it('gives the password, or is refused', () => {
    const handshake = (): SocksHandshake => new SocksHandshake({ user: 'me', password: 'secret' });
    const right = '050102 0102 6d65 06 736563726574 05010001cb00710a0050';
    assert.deepEqual(
      steps(bytes(right), handshake()).map(({ type }) => type),
      ['reply', 'reply', 'request'],
    );
    for (const wrong of ['0102 6d65 06 736563726575', '0102 6d66 06 736563726574', '0100 00', '0502 6d65 00'])
      assert.deepEqual(
        steps(bytes(`050102${wrong}`), handshake()).map((step) => 'bytes' in step && hex(step.bytes)),
        ['0502', '0101'],
        wrong,
      );
    assert.deepEqual(steps(bytes('050100'), handshake())[0]?.type, 'refused', 'without a password');
  });
});

describe('a question for a name', () => {
  it('is asked of what can be one, a final dot or not, and of nothing else', () => {
    const asked = (name: string): string | undefined => {
      const question = nameQuestion(7, name, NAME_TYPE.ipv4);
      return question && hex(question.subarray(12));
    };
    assert.equal(asked('ab.c'), '02616201630000010001');
    assert.equal(asked('ab.c.'), asked('ab.c'));
    assert.ok(asked(`${'a'.repeat(63)}.example`));
    for (const none of ['', 'a..b', `${'a'.repeat(64)}.example`, 'a.'.repeat(127) + 'aa'])
      assert.equal(asked(none), undefined, none);
  });
});

describe('a SOCKS datagram', () => {
  it('says whom it is for and of, and fragments are none', () => {
    const sent = decodeSocksDatagram(bytes('00000001cb00710a0035 6869'));
    assert.ok(sent);
    assert.deepEqual(sent.target, { host: '203.0.113.10', isName: false, port: 53 });
    assert.equal(Buffer.from(sent.data).toString(), 'hi');
    assert.equal(decodeSocksDatagram(bytes('00000101cb00710a00356869')), undefined);
    for (const short of ['', '000000', '00000001cb00710a00', '0000000309'])
      assert.equal(decodeSocksDatagram(bytes(short)), undefined);
    for (const address of ['203.0.113.10', '2001:db8::1']) {
      const decoded = decodeSocksDatagram(encodeSocksDatagram(address, 53, bytes('6869')));
      assert.deepEqual(decoded?.target, { host: address, isName: false, port: 53 });
    }
  });

  it('is answered from an address of either family', () => {
    assert.equal(hex(socksReply(0, '127.0.0.1', 1080)), '050000017f0000010438');
    assert.equal(hex(socksReply(5)), '05050001000000000000');
  });
});
