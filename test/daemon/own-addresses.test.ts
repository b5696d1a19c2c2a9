import assert from 'node:assert/strict';
import type { NetworkInterfaceInfo } from 'node:os';
import { describe, test } from 'node:test';
import { ownAddresses } from '../../ts/host/own-addresses.js';
import { formatSocketAddress, parseSocketAddress } from '../../ts/wire/socket-address.js';

function info(address: string, internal = false): NetworkInterfaceInfo {
  const common = { address, netmask: '', mac: '', internal, cidr: null };
  return address.includes(':') ? { ...common, family: 'IPv6', scopeid: 0 } : { ...common, family: 'IPv4' };
}

const interfaces = {
  lo: [info('127.0.0.1', true), info('::1', true)],
  eth0: [info('fe80::1'), info('2001:db8::5'), info('192.0.2.5')],
  omerta0: [info('100.64.1.1')],
};
const tunnel = (name: string): boolean => name === 'omerta0';

function addresses(
  announce: string[],
  bind?: string,
  of: NodeJS.Dict<NetworkInterfaceInfo[]> = interfaces,
): string[] {
  const parsed = announce.map((text) => parseSocketAddress(text) ?? assert.fail(text));
  return ownAddresses({ announce: parsed, bind, port: 7 }, of, tunnel).map(formatSocketAddress);
}

describe('own addresses', () => {
  test('are those of the interfaces, IPv4 first, without loopback, link-local and tunnels', () => {
    assert.deepEqual(addresses([]), ['192.0.2.5:7', '[2001:db8::5]:7']);
  });
  test('are never those of the mesh itself, even where /sys does not show its interface', () => {
    const found = ownAddresses(
      { announce: [], bind: undefined, port: 7, ownTunnel: 'omerta0' },
      interfaces,
      () => false,
    );
    assert.deepEqual(found.map(formatSocketAddress), ['192.0.2.5:7', '[2001:db8::5]:7']);
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
  test('are at most eight', () => {
    const many = { eth0: Array.from({ length: 20 }, (_, i) => info(`192.0.2.${i}`)) };
    assert.equal(addresses([], undefined, many).length, 8);
  });
});
