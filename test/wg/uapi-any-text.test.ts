// Any text on the configuration socket, near what is right and far from it: it is answered with an errno the
// protocol knows, a refused request changes nothing, and what is shown can be set again.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { Errno, RequestReader, formatErrno } from '../../ts/wg/uapi.js';
import { WgDevice } from '../../ts/wg/wg-device.js';
import { addonMissing } from '../engine/addon.js';
import { ModelEngine, answer } from './model-engine.js';

const MAX_PEERS = 2;
/** As it was at first. */
const RESET = [
  'set=1',
  `private_key=${'00'.repeat(32)}`,
  'listen_port=40000',
  'fwmark=0',
  'replace_peers=true',
];

function newDevice(engine: ModelEngine): WgDevice {
  return new WgDevice({
    engine,
    maxPeers: MAX_PEERS,
    x25519PublicKey: (secret) => nodePrimitives.x25519PublicKey(secret),
  });
}

/** What was configured, the peers in the order of their keys: a line for the device, then one for each. */
function configured(device: WgDevice): string[] {
  const lines = answer(device, ['get=1'])
    .split('\n')
    .filter((text) => !/^$|^(errno|rx_bytes|tx_bytes|last_handshake_time)/.test(text));
  const [own = '', ...peers] = lines.join(' ').split(/ ?(?=public_key=)/);
  return lines[0]?.startsWith('public_key') === true ? ['', own, ...peers].sort() : [own, ...peers.sort()];
}

/** Mostly right, so that whole requests are. */
const mostly = (right: readonly string[], wrong: readonly string[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 12, arbitrary: fc.constantFrom(...right) },
    { weight: 1, arbitrary: fc.constantFrom(...wrong) },
  );
const key = fc.constantFrom('a1', 'b2', 'c3', 'd4', '00').map((byte) => byte.repeat(32));
const number = mostly(['0', '1', '25', '51820', '65535'], ['65536', '4294967296', '-1', '1e3', '']);
const flag = mostly(['true'], ['false', '']);
const prefix = mostly(
  ['10.0.0.0/8', '10.1.2.3/16', '-10.0.0.0/8', 'fd00::1/64', '::/0'],
  ['1.2.3.4', 'x/8', ''],
);
const endpoint = mostly(['192.0.2.1:51820', '[2001:db8::1]:1'], ['192.0.2.1', '[::1]:0', ':1']);
const keyOfLine = fc.constantFrom<readonly [string, fc.Arbitrary<string>]>(
  ['private_key', key],
  ['listen_port', number],
  ['fwmark', number],
  ['replace_peers', flag],
  ['public_key', key],
  ['public_key', key],
  ['remove', flag],
  ['update_only', flag],
  ['preshared_key', key],
  ['endpoint', endpoint],
  ['persistent_keepalive_interval', number],
  ['replace_allowed_ips', flag],
  ['allowed_ip', prefix],
  ['allowed_ip', prefix],
  ['protocol_version', fc.constantFrom('1', '1', '1', '2')],
);
const likely = keyOfLine.chain(([name, values]) => values.map((value) => `${name}=${value}`));
const line = fc.oneof(
  { weight: 40, arbitrary: likely },
  { weight: 1, arbitrary: fc.string({ unit: 'binary' }) },
);
const request = fc.oneof(
  { weight: 8, arbitrary: fc.array(line, { maxLength: 12 }).map((lines) => ['set=1', ...lines]) },
  { weight: 1, arbitrary: fc.constant(['get=1']) },
  { weight: 1, arbitrary: fc.array(line, { maxLength: 4 }) },
);

describe('any text on the configuration socket', { skip: addonMissing() ?? false }, () => {
  let engines: ModelEngine[] = [];
  before(() => {
    engines = [1, 2].map((seed) => new ModelEngine(new Uint8Array(32).fill(seed), MAX_PEERS));
  });
  after(async () => {
    for (const engine of engines) await engine.native.close();
  });

  it('a refused request changes nothing, and what is shown can be set again', () => {
    const [device, again] = engines.map(newDevice);
    assert.ok(device !== undefined && again !== undefined);
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(request, { minLength: 1, maxLength: 6 }), (requests) => {
        for (const one of [device, again]) assert.equal(answer(one, RESET), formatErrno(0));
        for (const lines of requests) {
          const before = configured(device);
          const said = answer(device, lines);
          const errno = -Number(/errno=(-?\d+)\n\n$/.exec(said)?.[1]);
          if (errno === 0) accepted += lines[0] === 'set=1' ? 1 : 0;
          else {
            assert.ok(Object.values<number>(Errno).includes(errno), said);
            assert.deepEqual(configured(device), before);
          }
        }
        const shown = configured(device);
        const settable = shown.flatMap((part) => part.split(' ')).filter((text) => text !== '');
        assert.equal(answer(again, ['set=1', ...settable]), formatErrno(0));
        assert.deepEqual(configured(again), shown);
      }),
      { numRuns: 1000 },
    );
    assert.ok(accepted > 100, `${accepted} requests were right`);
  });

  it('a stream is cut into the same requests, however it arrives', () => {
    const text = fc
      .array(request, { maxLength: 4 })
      .map((all) => all.map((lines) => `${lines.join('\n')}\n\n`).join(''));
    fc.assert(
      fc.property(text, fc.infiniteStream(fc.nat(40)), (whole, cuts) => {
        const reader = new RequestReader();
        const parts: unknown[] = [];
        for (let at = 0; at < whole.length;) {
          const length = 1 + Number(cuts.next().value);
          parts.push(...reader.push(whole.slice(at, at + length)));
          at += length;
        }
        assert.deepEqual(parts, new RequestReader().push(whole));
      }),
    );
  });
});
