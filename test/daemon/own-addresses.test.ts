import assert from 'node:assert/strict';
import type { NetworkInterfaceInfo } from 'node:os';
import { describe, test } from 'node:test';
import {
  betterAddresses,
  isAnnounceable,
  ownAddresses,
  type HostInterfaces,
} from '../../ts/host/own-addresses.js';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';

function info(address: string, internal = false): NetworkInterfaceInfo {
  const common = { address, netmask: '', mac: '', internal, cidr: null };
  return address.includes(':') ? { ...common, family: 'IPv6', scopeid: 0 } : { ...common, family: 'IPv4' };
}

const interfaces = {
  lo: [info('127.0.0.1', true), info('::1', true)],
  eth0: [info('fe80::1'), info('2001:db8::5'), info('192.0.2.5')],
  omerta0: [info('100.64.1.1')],
};

function hostOf(
  of: NodeJS.Dict<NetworkInterfaceInfo[]>,
  defaultRoutes: readonly string[] = [],
): HostInterfaces {
  return {
    interfaces: of,
    defaultRoutes,
    kind: (name) => ({ tunnel: name === 'omerta0' || name === 'wg0', bridge: name.startsWith('br') }),
  };
}

function addresses(
  announce: string[],
  bind?: string,
  of: NodeJS.Dict<NetworkInterfaceInfo[]> = interfaces,
  defaultRoutes: readonly string[] = [],
): string[] {
  const parsed = announce.map((text) => parseSocketAddress(text) ?? assert.fail(text));
  return ownAddresses({ announce: parsed, bind, port: 7 }, hostOf(of, defaultRoutes)).map(
    formatSocketAddress,
  );
}

describe('own addresses', () => {
  test('are those of the interfaces, IPv4 first, without loopback, link-local and tunnels', () => {
    assert.deepEqual(addresses([]), ['192.0.2.5:7', '[2001:db8::5]:7']);
  });
  test('are never those of the mesh itself, even where /sys does not show its interface', () => {
    const found = ownAddresses(
      { announce: [], bind: undefined, port: 7, ownTunnel: 'omerta0' },
      { ...hostOf(interfaces), kind: () => ({ tunnel: false, bridge: false }) },
    );
    assert.deepEqual(found.map(formatSocketAddress), ['192.0.2.5:7', '[2001:db8::5]:7']);
  });
  test("are never those of another tunnel, the kernel's WireGuard included", () => {
    assert.deepEqual(addresses([], undefined, { wg0: [info('10.8.0.1')], eth0: [info('192.0.2.5')] }), [
      '192.0.2.5:7',
    ]);
  });
  test('are the announced ones when there are any', () => {
    assert.deepEqual(addresses(['203.0.113.1:443']), ['203.0.113.1:443']);
  });
  test('are the bound one when one is bound', () => {
    assert.deepEqual(addresses([], '127.0.0.1'), ['127.0.0.1:7']);
    assert.deepEqual(addresses([], '::'), addresses([]));
    assert.deepEqual(addresses([], '0.0.0.0'), ['192.0.2.5:7']);
  });
  test('are loopback ones when there are no others', () => {
    assert.deepEqual(addresses([], undefined, { lo: interfaces.lo }), ['127.0.0.1:7', '[::1]:7']);
  });
  test('are link-local IPv4 ones only when nothing reaches further', () => {
    const cable = { lo: interfaces.lo, eth0: [info('169.254.7.7'), info('fe80::7')] };
    assert.deepEqual(addresses([], undefined, cable), ['169.254.7.7:7']);
    assert.deepEqual(addresses([], undefined, { ...cable, eth1: [info('10.0.0.1')] }), ['10.0.0.1:7']);
  });
  test('begin with those of the interface the default route leads out by; bridges come last', () => {
    const bridges = Object.fromEntries(
      Array.from({ length: 8 }, (_, i) => [`br${i}`, [info(`172.${17 + i}.0.1`)]]),
    );
    const of = { ...bridges, eth1: [info('10.0.0.1')], eth0: [info('2001:db8:5::7')] };
    const found = addresses([], undefined, of, ['eth0']);
    assert.deepEqual(found.slice(0, 3), ['[2001:db8:5::7]:7', '10.0.0.1:7', '172.17.0.1:7']);
    assert.equal(found.length, 8);
  });
  test('are at most eight, with two of the family that has fewer', () => {
    const many = Array.from({ length: 20 }, (_, i) => info(`192.0.2.${i + 1}`));
    assert.equal(addresses([], undefined, { eth0: many }).length, 8);
    const both = addresses([], undefined, {
      eth0: [...many, info('fd00::1'), info('2001:db8::1'), info('2001:db8::2')],
    });
    assert.deepEqual(both.slice(6), ['[2001:db8::1]:7', '[2001:db8::2]:7']);
  });
  test('are not replaced by worse ones, as when a network is not up yet, but by others as good', () => {
    const list = (...texts: string[]): SocketAddress[] =>
      texts.map((text) => parseSocketAddress(text) ?? assert.fail(text));
    const better = (known: string[], found: string[]): string[] =>
      betterAddresses(list(...known), list(...found)).map(formatSocketAddress);
    assert.deepEqual(better(['192.0.2.5:7'], ['127.0.0.1:7']), ['192.0.2.5:7']);
    assert.deepEqual(better(['192.0.2.5:7'], ['169.254.1.1:7']), ['192.0.2.5:7']);
    assert.deepEqual(better(['192.0.2.5:7'], []), ['192.0.2.5:7']);
    assert.deepEqual(better(['127.0.0.1:7'], ['169.254.1.1:7']), ['169.254.1.1:7']);
    assert.deepEqual(better(['192.0.2.5:7'], ['10.0.0.1:7']), ['10.0.0.1:7']);
  });
  test('that nobody can send to cannot be announced', () => {
    for (const text of [
      '0.0.0.0:7',
      '[::]:7',
      '224.0.0.1:7',
      '255.255.255.255:7',
      '240.0.0.1:7',
      '0.1.2.3:7',
      '[ff02::1]:7',
      '[fe80::1]:7',
      '[febf::1]:7',
      '192.0.2.1:0',
      '192.0.2.1',
    ])
      assert.equal(isAnnounceable(text), false, text);
    for (const text of [
      '192.0.2.1:7',
      '127.0.0.1:7',
      '[::1]:7',
      '[2001:db8::1]:7',
      '[fd00::1]:7',
      '[fec0::1]:7',
    ])
      assert.equal(isAnnounceable(text), true, text);
  });
});
