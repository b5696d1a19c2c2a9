// Where an exit forwards to nobody: what the rules for the engine and the ranges for nftables say.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  DENIED_IPV4,
  DENIED_IPV6,
  embedded,
  exitRules,
  hostRanges,
  interfaceTowards,
  networkOf,
  ownRanges,
  type Interfaces,
} from '../../ts/exit/denied-ranges.js';
import { containsIp, formatPrefix, parsePrefix, type Prefix } from '../../ts/wire/prefix.js';
import { parseIp } from '../../ts/wire/socket-address.js';

function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  assert.ok(parsed, text);
  return parsed;
}

function ip(text: string): Uint8Array {
  const parsed = parseIp(text);
  assert.ok(parsed, text);
  return parsed;
}

const entry = (address: string, cidr: string, internal = false): NonNullable<Interfaces[string]>[number] => {
  const common = { address, cidr, internal, mac: '00:00:00:00:00:00', netmask: '' };
  return address.includes(':') ? { ...common, family: 'IPv6', scopeid: 0 } : { ...common, family: 'IPv4' };
};

const INTERFACES: Interfaces = {
  lo: [entry('127.0.0.1', '127.0.0.1/8', true), entry('198.51.100.7', '198.51.100.7/32', true)],
  eth0: [entry('203.0.113.7', '203.0.113.7/24'), entry('2001:db8:1::7', '2001:db8:1::7/64')],
  lan: [entry('192.168.7.1', '192.168.7.1/24')],
  omerta0: [entry('100.64.1.2', '100.64.1.2/10')],
};

/** As the engine decides: of the rules that hold it the longest prefix, of equal ones the last. */
function permits(own: readonly string[], lan: readonly string[], address: string): boolean {
  let decided = { length: -1, denied: false };
  for (const { prefix: text, denied } of exitRules(own, lan)) {
    const each = prefix(text);
    if (containsIp(each, ip(address)) && each.length >= decided.length)
      decided = { length: each.length, denied };
  }
  return !decided.denied;
}

describe('where an exit does not forward to', () => {
  it('is every address of the host, whatever its interface is like', () => {
    const hosts = hostRanges(['203.0.113.5', '2001:db8::5'].map(ip));
    assert.deepEqual(hosts, ['203.0.113.5/32', '2001:db8::5/128']);
    const rules = exitRules(hosts, ['203.0.113.0/24', '2001:db8::/64']);
    const last = (prefix: string): boolean | undefined =>
      rules.findLast((rule) => rule.prefix === prefix)?.denied;
    for (const host of hosts) assert.equal(last(host), true, 'also in a LAN that is permitted');
  });

  const own = ownRanges(INTERFACES, 'omerta0');

  it('is what is its own and on-link, but not of the tunnel', () => {
    assert.deepEqual(
      [...own].sort(),
      [
        '192.168.7.0/24',
        '192.168.7.1/32',
        '198.51.100.7/32',
        '2001:db8:1::/64',
        '2001:db8:1::7/128',
        '203.0.113.0/24',
        '203.0.113.7/32',
      ].sort(),
    );
    for (const address of [
      '203.0.113.7',
      '203.0.113.9',
      '198.51.100.7',
      '2001:db8:1::7',
      '2001:db8:1::9',
      '192.168.7.9',
    ])
      assert.equal(permits(own, [], address), false, address);
    assert.equal(permits(own, [], '203.0.114.1'), true);
    assert.equal(permits(own, [], '2001:db8:2::1'), true);
  });

  it('is each special range, first and last address, and not what is beside it', () => {
    for (const text of [...DENIED_IPV4, ...DENIED_IPV6]) {
      const { ip: first } = networkOf(prefix(text));
      assert.equal(
        permits([], [], formatPrefix({ ...prefix(text), ip: first }).replace(/\/.*/, '')),
        false,
        text,
      );
    }
    const beside = [
      '9.255.255.255',
      '11.0.0.0',
      '172.15.255.255',
      '172.32.0.0',
      '192.167.255.255',
      '223.255.255.255',
    ];
    for (const address of [...beside, '2600::1', '2001:1::1'])
      assert.equal(permits([], [], address), true, address);
  });

  it('leaves to the operator what it names, but never the exit\u2019s own addresses', () => {
    assert.equal(permits(own, ['192.168.7.0/24'], '192.168.7.9'), true);
    assert.equal(permits(own, ['192.168.7.0/24'], '192.168.7.1'), false);
    assert.equal(permits(own, ['192.168.7.0/24'], '192.168.8.9'), false);
  });

  it('is the same ranges inside NAT64 and 6to4 addresses', () => {
    const ranges = embedded(DENIED_IPV4).map(prefix);
    const holds = (address: string): boolean => ranges.some((range) => containsIp(range, ip(address)));
    const byte = fc.integer({ min: 0, max: 255 });
    fc.assert(
      fc.property(byte, byte, byte, byte, (a, b, c, d) => {
        const ipv4 = ip([a, b, c, d].join('.'));
        const denied = DENIED_IPV4.some((text) => containsIp(prefix(text), ipv4));
        const word = (high: number, low: number): string => (high * 256 + low).toString(16);
        assert.equal(holds(`64:ff9b::${word(a, b)}:${word(c, d)}`), denied);
        assert.equal(holds(`2002:${word(a, b)}:${word(c, d)}::1`), denied);
      }),
    );
  });

  it('finds the interface that leads to a LAN', () => {
    assert.equal(interfaceTowards(INTERFACES, prefix('192.168.7.128/25')), 'lan');
    assert.equal(interfaceTowards(INTERFACES, prefix('192.168.9.0/24')), undefined);
  });
});
