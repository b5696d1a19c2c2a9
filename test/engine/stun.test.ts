// Vectors: RFC 5769 sections 2.1 (request, with its FINGERPRINT), 2.2 and 2.3 (what XOR-MAPPED-ADDRESS must
// be). The request is one of ICE, which has attributes a mere STUN server does not know.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { answerBindingRequest } from '../../ts/engine/wasm/stun.js';
import { parseIp, type SocketAddress } from '../../ts/wire/socket-address.js';
import { fromHex, toHex } from './vectors.js';

const REQUEST = fromHex(`
  00010058 2112a442 b7e7a701 bc34d686 fa87dfae 80220010 5354554e 20746573 7420636c 69656e74
  00240004 6e0001ff 80290008 932ff9b1 51263b36 00060009 6576746a 3a683676 59202020
  00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2 80280004 e57a3bcf`);

/** The same transaction without attributes. */
const BARE = Uint8Array.of(0, 1, 0, 0, ...REQUEST.subarray(4, 20));

function address(ip: string, port: number): SocketAddress {
  const bytes = parseIp(ip);
  assert.ok(bytes !== undefined);
  return { ip: bytes, port };
}

test('an IPv4 sender is told the XOR-MAPPED-ADDRESS of RFC 5769 section 2.2', () => {
  const response = answerBindingRequest(BARE, address('192.0.2.1', 32853));
  assert.ok(response !== undefined);
  assert.equal(toHex(response), '0101000c2112a442b7e7a701bc34d686fa87dfae' + '002000080001a147e112a643');
});

test('an IPv6 sender is told the XOR-MAPPED-ADDRESS of RFC 5769 section 2.3', () => {
  const response = answerBindingRequest(BARE, address('2001:db8:1234:5678:11:2233:4455:6677', 32853));
  assert.ok(response !== undefined);
  assert.equal(
    toHex(response),
    '010100182112a442b7e7a701bc34d686fa87dfae' + '002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9',
  );
});

test('the request of RFC 5769 section 2.1 is told that PRIORITY is not known, and nothing when its FINGERPRINT is wrong', () => {
  const from = address('192.0.2.1', 32853);
  const answer = answerBindingRequest(REQUEST, from);
  assert.equal(
    answer && toHex(answer),
    '011100102112a442b7e7a701bc34d686fa87dfae' + '0009000400000414' + '000a000200240000',
  );
  for (const at of [25, REQUEST.length - 1]) {
    const changed = Uint8Array.from(REQUEST);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.equal(answerBindingRequest(changed, from), undefined, `byte ${at} changed`);
  }
});

test('what is not a well-formed binding request is not answered', () => {
  const from = address('192.0.2.1', 1);
  const change = (offset: number, value: number): Uint8Array => {
    const request = Uint8Array.from(REQUEST);
    request[offset] = value;
    return request;
  };
  assert.equal(answerBindingRequest(change(1, 0x11), from), undefined, 'indication');
  assert.equal(answerBindingRequest(change(0, 0x01), from), undefined, 'response');
  assert.equal(answerBindingRequest(change(4, 0), from), undefined, 'magic cookie');
  assert.equal(answerBindingRequest(change(3, 0x57), from), undefined, 'length not a multiple of 4');
  assert.equal(answerBindingRequest(change(3, 0x5c), from), undefined, 'length beyond the datagram');
  assert.equal(answerBindingRequest(REQUEST.subarray(0, 104), from), undefined, 'cut short');
  for (let size = 0; size < 20; size++) {
    assert.equal(answerBindingRequest(REQUEST.subarray(0, size), from), undefined, `${size} bytes`);
  }
});
