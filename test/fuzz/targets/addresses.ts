// Addresses, prefixes, WireGuard keys and times as texts: what is read is written in one way, and read again
// the same.

import assert from 'node:assert/strict';
import { parseUntil } from '../../../ts/daemon/config/config-rules.js';
import { formatWireguardKey, parseWireguardKey } from '../../../ts/host/wireguard-key.js';
import { fromHex, toHex, utf8 } from '../../../ts/wire/bytes.js';
import { PrefixBatch, prefixTexts } from '../../../ts/wire/prefix-batch.js';
import { containsIp, formatPrefix, parsePrefix, type Prefix } from '../../../ts/wire/prefix.js';
import {
  formatIp,
  formatSocketAddress,
  isIPv4,
  parseIp,
  parseSocketAddress,
  sameSocketAddress,
} from '../../../ts/wire/socket-address.js';
import type { FuzzTarget } from '../harness/target.js';

/** A prefix holds the addresses of its family that differ from its own in no bit but those beyond its length. */
function holdsWhatItSays(prefix: Prefix): void {
  const own = (prefix.family === 4) === isIPv4(prefix.ip);
  assert.equal(containsIp(prefix, prefix.ip), own);
  const first = prefix.family === 4 ? 96 : 0;
  for (const bit of [first, first + prefix.length - 1, first + prefix.length, 127]) {
    if (bit < first || bit > 127) continue;
    const other = prefix.ip.slice();
    other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (0x80 >> (bit & 7));
    const isOwn = (prefix.family === 4) === isIPv4(other);
    assert.equal(containsIp(prefix, other), isOwn && bit >= first + prefix.length, `bit ${bit}`);
  }
}

const target: FuzzTarget = {
  seeds: () =>
    [
      ...[
        '203.0.113.7:51900',
        '[2001:db8::7]:1',
        '[::ffff:1.2.3.4]:5',
        '1.2.3.4',
        '::',
        '1:0:0:2::3',
        '::1%eth0',
      ],
      ...[
        '1:2:3:4:5:6:7:8',
        '1:2:3:4:5:6:1.2.3.4',
        '1::2::3',
        '01.2.3.4',
        '1.2.3.256',
        'fe80::1:2:3:4:5:6:7',
      ],
      ...['10.0.0.0/8', '::/0', 'fd00::1/128', '::ffff:1.2.3.4/128', '1.2.3.4/33', '2026-12-31', 'ab', 'AB0'],
      ...['2026-12-31T12:00:00.5Z', formatWireguardKey(new Uint8Array(32).fill(200)), ''],
    ].map(utf8),
  dictionary: ['::', ':', '.', '/128', '/32', '[', ']:', '0', '255', 'ffff', '::ffff:', '%', 'T', 'Z', '='],
  run(input) {
    const text = Buffer.from(input).toString('latin1');
    const ip = parseIp(text);
    if (ip !== undefined) {
      assert.equal(ip.length, 16);
      assert.deepEqual(parseIp(formatIp(ip)), ip);
      assert.ok(formatIp(ip).length <= 45);
    }
    const socket = parseSocketAddress(text);
    if (socket !== undefined) {
      const again = parseSocketAddress(formatSocketAddress(socket));
      assert.ok(again !== undefined && sameSocketAddress(again, socket) && again.port === socket.port);
    }
    const prefix = parsePrefix(text);
    if (prefix !== undefined) {
      assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix);
      holdsWhatItSays(prefix);
      const batch = new PrefixBatch();
      batch.add(prefix);
      batch.add(prefix, true);
      assert.equal(batch.count, 2);
      assert.deepEqual([...prefixTexts(batch.bytes)], [formatPrefix(prefix), formatPrefix(prefix)]);
      batch.clear();
      assert.equal(batch.count, 0);
    }
    const key = parseWireguardKey(text);
    if (key !== undefined) assert.equal(formatWireguardKey(key), text);
    const hex = fromHex(text);
    if (hex !== undefined) assert.equal(toHex(hex), text.toLowerCase());
    const until = parseUntil(text);
    if (until !== undefined) assert.ok(Number.isSafeInteger(until) && until >= 0);
  },
};
export default target;
