import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  defaultRouteDevices,
  deviceTuning,
  pollDeferralUs,
  type HostSettings,
} from '../../ts/host/host-tuning.js';
import { describeInterface } from '../../ts/daemon/doctor/kernel-path-checks.js';

const ROUTES: Readonly<Record<string, string>> = {
  '/proc/net/route':
    'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n' +
    'eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n' +
    'eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n',
  '/proc/net/ipv6_route':
    `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 ${'f'.repeat(32)} 00000400 00000003 00000000 00000003     eth2\n` +
    `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 ${'0'.repeat(32)} ffffffff 00000001 00000000 00200200       lo\n` +
    `fd${'0'.repeat(30)} 40 ${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00000100 00000002 00000000 00000001     eth3\n`,
};

function host(files: Readonly<Record<string, string>>, features: string | undefined): HostSettings {
  return { read: (path) => files[path], features: () => features };
}

const tuned = {
  '/sys/class/net/eth0/gro_flush_timeout': '200000\n',
  '/sys/class/net/eth0/napi_defer_hard_irqs': '4\n',
};

describe('host tuning', () => {
  test('looks at the devices of the default routes of both families, not at loopback', () => {
    assert.deepEqual(defaultRouteDevices(host(ROUTES, '')), ['eth0', 'eth2']);
    assert.deepEqual(defaultRouteDevices(host({}, '')), []);
  });

  test('a tuned device needs nothing', () => {
    const features = 'Features for eth0:\ngeneric-receive-offload: on\nrx-udp-gro-forwarding: on\n';
    assert.deepEqual(deviceTuning('eth0', host(tuned, features)), {
      device: 'eth0',
      missing: [],
      remedy: undefined,
    });
  });

  test('what is missing is named, with the commands for just that', () => {
    const features = 'generic-receive-offload: on\nrx-udp-gro-forwarding: off\n';
    assert.deepEqual(deviceTuning('eth0', host(tuned, features)), {
      device: 'eth0',
      missing: ['rx-udp-gro-forwarding off'],
      remedy: 'sudo ethtool -K eth0 gro on rx-udp-gro-forwarding on',
    });
    const untouched = { ...tuned, '/sys/class/net/eth0/gro_flush_timeout': '0\n' };
    assert.deepEqual(deviceTuning('eth0', host(untouched, features.replace(': off', ': on [fixed]'))), {
      device: 'eth0',
      missing: ['gro_flush_timeout 0'],
      remedy: 'echo 200000 | sudo tee /sys/class/net/eth0/gro_flush_timeout',
    });
  });

  test('tells how long deferred polls make a packet wait', () => {
    assert.equal(pollDeferralUs('eth0', host(tuned, '')), 200);
    assert.equal(pollDeferralUs('eth1', host(tuned, '')), 0);
    const woken = { ...tuned, '/sys/class/net/eth0/napi_defer_hard_irqs': '0\n' };
    assert.equal(pollDeferralUs('eth0', host(woken, '')), 0, 'a timeout alone defers nothing');
    const facts = {
      ...{ name: 'eth0', mtu: 1500, up: true, ethernet: true, driver: 'veth', nativeXdp: true },
      ...{ receiveQueues: 1, transmitQueues: 1, receiveRing: 0, transmitRing: 0 },
      ...{ programId: 7, generic: false },
    };
    assert.match(describeInterface(facts, 200), /; polls deferred by up to 200 µs; program 7 attached/);
    assert.doesNotMatch(describeInterface(facts, 0), /deferred/);
  });

  test('without ethtool, or when it fails, it says that it cannot tell', () => {
    assert.deepEqual(deviceTuning('eth0', host(tuned, undefined)), {
      unknown: 'ethtool is not installed',
      remedy: 'sudo apt-get install ethtool',
    });
    const failing: HostSettings = {
      read: () => undefined,
      features: () => {
        throw new Error('no such device');
      },
    };
    assert.deepEqual(deviceTuning('eth0', failing), { unknown: 'no such device' });
  });
});
