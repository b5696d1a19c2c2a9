// What comes from a gateway, or from who plays it: datagrams of PCP and NAT-PMP, answers to a search, device
// descriptions and answers to actions. Input: which of them, then its bytes. Whatever it is, the mapper asks for
// no page with anything but a path of the gateway's, maps no address nobody could send to, and comes to rest.

import assert from 'node:assert/strict';
import type { Step } from '../../../ts/contract/step.js';
import { externalAddressOf, igdErrorCode, igdServices } from '../../../ts/core/mapping/igd.js';
import { MAPPING_PROTOCOLS, type MapperEffect } from '../../../ts/core/mapping/mapping-client.js';
import { decodeNatPmpResponse } from '../../../ts/core/mapping/nat-pmp.js';
import { decodePcpResponse, encodePcpMapRequest } from '../../../ts/core/mapping/pcp.js';
import { PortMapper } from '../../../ts/core/mapping/port-mapper.js';
import { decodeSearchAnswer, encodeSearch, isPath, pageOf } from '../../../ts/core/mapping/ssdp.js';
import { concat, fromHex, utf8 } from '../../../ts/wire/bytes.js';
import { Reach, reachOf } from '../../../ts/wire/reach.js';
import { parseIp } from '../../../ts/wire/socket-address.js';
import type { FuzzTarget } from '../harness/target.js';

const ip = (text: string): Uint8Array => parseIp(text) ?? assert.fail(text);
const uplink = { gateway: ip('192.168.1.1'), local: ip('192.168.1.2'), port: 51_900 };
const NONCE = 7;

/** The random bytes of a step: always the same, so that an input can have the right nonce. */
const step = (now: number): Step => ({
  now,
  wallClock: 0,
  random: (length) => new Uint8Array(length).fill(NONCE),
});

const KINDS = ['datagram', 'announcement', 'search answer', 'page'] as const;
const tagged = (kind: number, bytes: Uint8Array): Uint8Array => concat(Uint8Array.of(kind), bytes);

function pcpAnswer(): Uint8Array {
  const answer = encodePcpMapRequest({
    client: new Uint8Array(16),
    nonce: new Uint8Array(12).fill(NONCE),
    internalPort: uplink.port,
    suggestedPort: 4000,
    suggestedIp: ip('203.0.113.7'),
    lifetimeSeconds: 3600,
  });
  answer[1] = 0x81;
  return answer;
}

const DESCRIPTION =
  '<root><URLBase>http://192.168.1.1:80/</URLBase><device><serviceList><service>' +
  '<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>' +
  '<controlURL>/ctl?a=1&amp;b=2</controlURL></service></serviceList></device></root>';

/** What a mapper asks for after it got this, however often it is given. */
function feed(mapper: PortMapper, effects: readonly MapperEffect[], kind: string, bytes: Uint8Array): void {
  const body = Buffer.from(bytes).toString('latin1');
  let pages = 0;
  const queue = [...effects];
  for (let effect = queue.shift(); effect !== undefined; effect = queue.shift()) {
    if (effect.type !== 'fetch') continue;
    const { page, action } = effect.request;
    assert.ok(isPath(page.path) && page.port > 0 && page.port < 65_536, JSON.stringify(page));
    assert.ok(action === undefined || !/[\r\n]/.test(action.name));
    assert.ok(++pages < 100, 'the mapper asks and asks');
    if (kind !== 'page') continue;
    const status = action !== undefined && body.includes('<errorCode>') ? 500 : 200;
    queue.push(...mapper.handleFetched(effect.fetch, { status, body }, step(1)));
  }
}

const target: FuzzTarget = {
  seeds: () => [
    tagged(0, pcpAnswer()),
    ...['0081000000000010cabc100000000e10', '0080000000000010cb007107', '0081000100000001'].map((hex) =>
      tagged(0, fromHex(hex) ?? assert.fail()),
    ),
    tagged(1, concat(Uint8Array.of(2, 0x80), new Uint8Array(22))),
    tagged(2, utf8('HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/rootDesc.xml\r\nST: x\r\n\r\n')),
    tagged(3, utf8(DESCRIPTION)),
    tagged(3, utf8('<NewExternalIPAddress>203.0.113.7</NewExternalIPAddress>')),
    ...[725, 718, 606, 501].map((code) =>
      tagged(
        3,
        utf8(
          `${DESCRIPTION}<NewExternalIPAddress>203.0.113.7</NewExternalIPAddress><errorCode>${code}</errorCode>`,
        ),
      ),
    ),
    tagged(3, utf8(`${DESCRIPTION}<NewExternalIPAddress>203.0.113.7</NewExternalIPAddress>`)),
  ],
  dictionary: [
    ...['<service>', '</service>', '<serviceType>', '</serviceType>', '<controlURL>', '</controlURL>'],
    ...['<URLBase>', '<errorCode>', '<NewExternalIPAddress>', 'http://', '192.168.1.1', ':5000', '@', '//'],
    ...[
      'urn:schemas-upnp-org:service:WANPPPConnection:2',
      'LOCATION:',
      '\r\n',
      'HTTP/1.1 200',
      '&amp;',
      '%0d',
    ],
  ],
  run(input) {
    const kind = KINDS[(input[0] ?? 0) % KINDS.length] ?? 'datagram';
    const bytes = input.subarray(1);
    const text = Buffer.from(bytes).toString('latin1');
    assert.ok(decodeSearchAnswer(encodeSearch(text), uplink.gateway) === undefined); // a question is no answer
    decodePcpResponse(bytes);
    decodeNatPmpResponse(bytes);
    for (const page of [
      pageOf(text, uplink.gateway),
      decodeSearchAnswer(bytes, uplink.gateway),
      ...igdServices(text, { port: 80, path: '/' }, uplink.gateway).map(({ control }) => control),
    ])
      assert.ok(page === undefined || (isPath(page.path) && page.port > 0 && page.port < 65_536));
    const code = igdErrorCode(text);
    assert.ok(code === undefined || (code >= 0 && code < 10_000));
    assert.equal(externalAddressOf(text)?.length ?? 16, 16);
    for (const protocol of MAPPING_PROTOCOLS) {
      const mapper = new PortMapper([protocol]);
      feed(mapper, mapper.setUplink(uplink, step(0)), kind, bytes);
      const from = { ip: uplink.gateway, port: 5351 };
      for (let n = 0; n < 3; n++) {
        if (kind === 'datagram') feed(mapper, mapper.handleDatagram(from, bytes, step(n)), kind, bytes);
        if (kind === 'announcement')
          feed(mapper, mapper.handleAnnouncement(from, bytes, step(n)), kind, bytes);
        feed(
          mapper,
          mapper.handleSearchAnswer(from, kind === 'page' ? SEARCHED : bytes, step(n)),
          kind,
          bytes,
        );
      }
      const { mapped } = mapper;
      assert.ok(mapped === undefined || (mapped.port > 0 && reachOf(mapped.ip) === Reach.network));
      assert.ok((mapper.deadline() ?? 1) >= 0);
      feed(mapper, mapper.handleTimeout(step(mapper.deadline() ?? 5)), kind, bytes);
      const stranger = { ip: ip('192.168.1.9'), port: 5351 };
      const before = JSON.stringify(mapper.status(5));
      assert.deepEqual(mapper.handleDatagram(stranger, bytes, step(5)), []);
      assert.deepEqual(mapper.handleSearchAnswer(stranger, bytes, step(5)), []);
      assert.equal(JSON.stringify(mapper.status(5)), before);
      feed(mapper, mapper.release(step(6)), kind, bytes);
    }
  },
};
const SEARCHED = utf8('HTTP/1.1 200 OK\r\nLOCATION: http://192.168.1.1:5000/d.xml\r\n\r\n');
export default target;
