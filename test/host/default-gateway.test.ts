import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { defaultGateway6 } from '../../ts/host/default-gateway.js';
import { formatIp } from '../../ts/wire/socket-address.js';

const ZERO = '0'.repeat(32);
const LL1 = 'fe800000000000000000000000000001';
const LL2 = 'fe800000000000000000000000000002';
const route = (via: string, metric: string, flags: string, device: string, length = '00'): string =>
  `${ZERO} ${length} ${ZERO} 00 ${via} ${metric} 00000001 00000000 ${flags} ${device.padStart(8)}`;

const settings = (routes: readonly string[], addresses: readonly string[]) => ({
  read: (path: string): string | undefined =>
    path === '/proc/net/ipv6_route'
      ? `${routes.join('\n')}\n`
      : path === '/proc/net/if_inet6'
        ? `${addresses.join('\n')}\n`
        : undefined,
});

const ADDRESSES = [
  'fe800000000000000000000000000099 02 40 20 80     eth0',
  'fd000000000000000000000000000099 02 40 00 80     eth0',
  '20010db8000100000000000000000aaa 02 40 00 01     eth0',
  '20010db8000100000000000000000bbb 02 40 00 a0     eth0',
  '20010db8000100000000000000000002 02 40 00 80     eth0',
  '20010db8000200000000000000000002 03 40 00 80    wlan0',
];

describe('the gateway of IPv6', () => {
  it('is that of the default route of the lowest metric, with an address that stays and others can send to', () => {
    const found = defaultGateway6(
      undefined,
      'omerta0',
      settings(
        [
          route(LL2, '00000400', '00000003', 'wlan0'),
          route(LL1, '00000100', '00000003', 'eth0'),
          route(ZERO, 'ffffffff', '00200200', 'lo'),
          route(LL2, '00000001', '00000003', 'eth0', '40'),
        ],
        ADDRESSES,
      ),
    );
    assert.ok(found);
    assert.deepEqual(
      [formatIp(found.gateway), formatIp(found.local), found.device],
      ['fe80::1', '2001:db8:1::2', 'eth0'],
    );
  });

  it('is none without a gateway, without such an address, and where the node is bound to another', () => {
    const one = [route(LL1, '00000100', '00000003', 'eth0')];
    assert.equal(defaultGateway6(undefined, 'omerta0', settings([], ADDRESSES)), undefined);
    assert.equal(
      defaultGateway6(
        undefined,
        'omerta0',
        settings([route(ZERO, '00000100', '00000001', 'eth0')], ADDRESSES),
      ),
      undefined,
    );
    assert.equal(defaultGateway6(undefined, 'omerta0', settings(one, ADDRESSES.slice(0, 2))), undefined);
    assert.equal(defaultGateway6('2001:db8:7::7', 'omerta0', settings(one, ADDRESSES)), undefined);
    assert.equal(defaultGateway6('192.0.2.1', 'omerta0', settings(one, ADDRESSES)), undefined);
    assert.equal(defaultGateway6('::', 'omerta0', settings(one, ADDRESSES))?.device, 'eth0');
    assert.equal(defaultGateway6('::', 'eth0', settings(one, ADDRESSES)), undefined);
  });

  it('is none where nothing can be read', () => {
    assert.equal(defaultGateway6(undefined, 'omerta0', { read: () => undefined }), undefined);
    assert.equal(
      defaultGateway6(undefined, 'omerta0', settings(['x', '', route('zz', 'q', 'p', 'eth0')], ['', 'y'])),
      undefined,
    );
  });
});
