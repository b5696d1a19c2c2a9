// The wasm engine's sticky sources when routes move; the same of the native engine is in native/test/route_watch_test.cc,
// and of both in test/lab/route-moves.test.ts.

import assert from 'node:assert/strict';
import { beforeEach, describe, it } from 'node:test';
import type { NetworkInterfaceInfo } from 'node:os';
import { RouteWatch, keyOf, type Way } from '../../ts/engine/wasm/route-watch.js';
import type { LocalAddress } from '../../ts/engine/wasm/local-address.js';
import { parseSocketAddress } from '../../ts/wire/socket-address.js';

const REMOTE = '203.0.113.9:51820';
const FIRST = '192.0.2.2';
const SECOND = '198.51.100.2';

const at = (address: string): NetworkInterfaceInfo => ({
  address,
  netmask: '255.255.255.0',
  family: 'IPv4',
  mac: '00:00:00:00:00:00',
  internal: address.startsWith('127.'),
  cidr: `${address}/24`,
});

describe('what sticks to an address when routes move', () => {
  let routes: string;
  /** Where everything leads out by. */
  let way: string | undefined;
  let interfaces: Record<string, NetworkInterfaceInfo[]>;
  let asked: (readonly Way[])[];
  /** What each remote is sent to from. */
  let sticky: Map<string, LocalAddress>;
  let avoided: Set<LocalAddress>;
  let watch: RouteWatch;
  let fails: boolean;

  const moveTo = (name: string | undefined): void => {
    way = name;
    routes += `${name ?? 'nowhere'}\n`;
  };

  beforeEach(() => {
    routes = '';
    fails = false;
    way = 'eth0';
    interfaces = { lo: [at('127.0.0.1')], eth0: [at(FIRST)], eth1: [at(SECOND)] };
    asked = [];
    sticky = new Map([[REMOTE, FIRST]]);
    avoided = new Set();
    watch = new RouteWatch(
      {
        review: (isForgotten) => {
          for (const [remote, local] of sticky) {
            const address = parseSocketAddress(remote);
            assert.ok(address !== undefined);
            if (isForgotten(address, local)) sticky.delete(remote);
          }
        },
        avoid: (local, isAvoided) => (isAvoided ? avoided.add(local) : avoided.delete(local)),
      },
      {
        routes: () => routes,
        interfaces: () => interfaces,
        ask: (ways) => {
          if (fails) return Promise.reject(new Error('spawn EMFILE'));
          asked.push(ways);
          return Promise.resolve(
            new Map(way === undefined ? [] : ways.map((each) => [keyOf(each), way ?? ''])),
          );
        },
      },
    );
  });

  it('an address is forgotten when its way leads out elsewhere, and avoided until it is back', async () => {
    await watch.look();
    moveTo('eth1');
    await watch.look();
    assert.equal(sticky.size, 0);
    assert.deepEqual([...avoided], [FIRST]);
    moveTo('eth2');
    await watch.look();
    assert.deepEqual([...avoided], [FIRST]);
    moveTo('eth0');
    await watch.look();
    assert.equal(avoided.size, 0);
  });

  it('is compared with the last way there was', async () => {
    await watch.look();
    moveTo(undefined);
    await watch.look();
    assert.equal(sticky.size, 1);
    moveTo('eth0');
    await watch.look();
    assert.equal(sticky.size, 1);
    moveTo(undefined);
    await watch.look();
    moveTo('eth1');
    await watch.look();
    assert.equal(sticky.size, 0);
  });

  it('stays where it has always left by another interface than it is at', async () => {
    sticky.set(REMOTE, SECOND);
    await watch.look();
    routes += 'another\n';
    await watch.look();
    assert.equal(sticky.size, 1);
  });

  it('costs no question while routes stay, and none on a host with addresses at one interface', async () => {
    await watch.look();
    assert.equal(asked.length, 1);
    for (let second = 0; second < 10; second++) await watch.look();
    assert.equal(asked.length, 1);
    delete interfaces['eth1'];
    sticky.set('203.0.113.10:1', FIRST);
    await watch.look();
    assert.equal(asked.length, 1);
    interfaces['eth1'] = [at(SECOND)];
    moveTo('eth1');
    await watch.look();
    assert.equal(sticky.size, 0);
  });

  it('is forgotten by the next look where one fails', async () => {
    await watch.look();
    moveTo('eth1');
    fails = true;
    await assert.rejects(watch.look(), /EMFILE/);
    assert.equal(sticky.size, 1);
    fails = false;
    await watch.look();
    assert.equal(sticky.size, 0);
  });

  it('stays where nobody can tell', async () => {
    way = undefined;
    for (let second = 0; second < 10; second++) {
      routes += `${second}\n`;
      await watch.look();
    }
    assert.equal(sticky.size, 1);
  });
});
