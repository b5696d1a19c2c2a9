import assert from 'node:assert/strict';
import type { NetworkInterfaceInfo } from 'node:os';
import { describe, test } from 'node:test';
import {
  interfaceIndexes,
  localInterfaces,
  sameInterfaces,
  type LocalHost,
} from '../../ts/host/local-interfaces.js';
import { formatIp } from '../../ts/wire/socket-address.js';

const info = (address: string): NetworkInterfaceInfo => ({ address }) as NetworkInterfaceInfo;

const host: LocalHost = {
  interfaces: {
    lo: [info('127.0.0.1'), info('::1')],
    docker0: [info('172.17.0.1')],
    wlan0: [info('192.168.1.2'), info('fe80::1%wlan0'), info('2001:db8::2')],
    eth0: [info('10.0.0.2')],
    omerta0: [info('100.64.0.1')],
    vpn0: [info('10.8.0.2')],
  },
  defaultRoutes: ['eth0', 'wlan0'],
  kind: (name) => ({ tunnel: name === 'vpn0', bridge: name === 'docker0' }),
  index: (name) => name.length,
};
const found = (bind?: string): string[] =>
  localInterfaces({ bind, port: 51_820, ownTunnel: 'omerta0' }, host).map(
    ({ source, port }) => `${formatIp(source.ip)} ${source.interface} ${port}`,
  );

describe('what a node sends from', () => {
  test('is every address others can send to, those of default routes first; no tunnel, no bridge, no loopback', () => {
    assert.deepEqual(found(), ['10.0.0.2 4 51820', '192.168.1.2 5 51820', '2001:db8::2 5 51820']);
  });

  test('has the index its own network namespace knows it by', () => {
    const files: Record<string, string> = {
      '/proc/net/igmp':
        'Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n' +
        '\t\t\t\t010000E0     1 0:00000000\t\t0\n12\teth0      :     1      V3\n',
      '/proc/net/if_inet6': 'fe8000000000000000fc00fffe000001 1f 40 20 80     wlan0\n',
    };
    const indexes = interfaceIndexes({ read: (path) => files[path] });
    assert.deepEqual(
      [...indexes],
      [
        ['lo', 1],
        ['eth0', 12],
        ['wlan0', 31],
      ],
    );
    assert.deepEqual([...interfaceIndexes({ read: () => undefined })], []);
  });

  test('is what the socket is bound to, if it is bound', () => {
    assert.deepEqual(found('192.168.1.2'), ['192.168.1.2 5 51820']);
    assert.deepEqual(found('0.0.0.0'), ['10.0.0.2 4 51820', '192.168.1.2 5 51820']);
    assert.deepEqual(found('::'), found());
  });

  test('is another when an address or an interface is', () => {
    const list = localInterfaces({ bind: undefined, port: 1, ownTunnel: 'omerta0' }, host);
    assert.ok(sameInterfaces(list, [...list]));
    assert.ok(!sameInterfaces(list, list.slice(1)));
    assert.ok(
      !sameInterfaces(
        list,
        list.map((each) => ({ ...each, source: { ...each.source, interface: 9 } })),
      ),
    );
  });
});
