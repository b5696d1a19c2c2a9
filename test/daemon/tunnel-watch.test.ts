import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import { TunnelWatch } from '../../ts/daemon/lifecycle/tunnel-watch.js';
import { FakeEngine } from './fake-engine.js';

const WANTED = ['100.64.1.2/10', 'fd00::2/48'];

/** An interface with its addresses, and a watch over it. */
function fixture(): {
  host: {
    exists: boolean;
    gone: boolean;
    up: boolean;
    addresses: string[];
    unrouted: string[];
    replaced: string[];
    ipv6: boolean;
    reopened: number;
  };
  watch: TunnelWatch;
  events: string[];
  check: (now: number) => void;
} {
  const host = {
    exists: true,
    gone: false,
    up: true,
    addresses: ['100.64.1.2', 'fd00:0::2'],
    unrouted: [] as string[],
    /** Those another route comes before, whatever is put there. */
    replaced: [] as string[],
    ipv6: true,
    reopened: 0,
  };
  const events: string[] = [];
  const log = pino({}, { write: (line) => void events.push((JSON.parse(line) as { msg: string }).msg) });
  const watch = new TunnelWatch('omerta0', log, () => host.reopened++, {
    exists: () => host.exists,
    addresses: () => (host.up ? host.addresses : []),
    unrouted: () => (host.up ? host.unrouted : WANTED),
  });
  const fake = new FakeEngine();
  const engine = {
    describe: () => ({ ...fake.describe(), tun: host.gone ? undefined : 'omerta0' }),
    putAddresses: () => {
      host.unrouted = host.replaced;
      host.addresses = host.ipv6 ? ['100.64.1.2', 'fd00::2'] : ['100.64.1.2'];
      return host.ipv6 ? [] : ['fd00::2/48'];
    },
  };
  return { host, watch, events, check: (now) => watch.check(engine, WANTED, now) };
}

describe('watch over the interface of a member', () => {
  test('one in order is left alone', () => {
    const { watch, events, check } = fixture();
    for (let now = 0; now < 10_000; now += 1000) check(now);
    assert.deepEqual([watch.status().state, events], ['up', []]);
  });

  test('addresses that were flushed are put back, and that is said', () => {
    const { host, watch, events, check } = fixture();
    host.addresses = [];
    check(0);
    assert.deepEqual(watch.status(), { name: 'omerta0', state: 'up', missing: [], unrouted: [] });
    assert.deepEqual(events, ['interface-addresses-restored']);
  });

  test('one that is down is said to be so once, and has its addresses again when it is up', () => {
    const { host, watch, events, check } = fixture();
    host.up = false;
    for (let now = 0; now < 5000; now += 1000) check(now);
    assert.equal(watch.status().state, 'down');
    assert.deepEqual(events, ['interface-not-in-order']);
    Object.assign(host, { up: true, addresses: ['100.64.1.2'] });
    for (let now = 5000; now < 80_000; now += 1000) check(now);
    assert.deepEqual(watch.status(), { name: 'omerta0', state: 'up', missing: [], unrouted: [] });
    assert.deepEqual(events.slice(1).sort(), ['interface-addresses-restored', 'interface-in-order'].sort());
  });

  test('routes that were flushed while the addresses stay are put back, and that is said', () => {
    const { host, watch, events, check } = fixture();
    check(0);
    host.unrouted = [...WANTED];
    check(1000);
    assert.deepEqual(watch.status(), { name: 'omerta0', state: 'up', missing: [], unrouted: [] });
    assert.deepEqual(events, ['interface-routes-restored']);
  });

  test('a route that another comes before is said to be so once; without any the interface is not in order', () => {
    const { host, watch, events, check } = fixture();
    const [ipv4 = ''] = WANTED;
    host.unrouted = host.replaced = [ipv4];
    for (let now = 0; now < 10_000; now += 1000) check(now);
    assert.deepEqual(watch.status(), { name: 'omerta0', state: 'up', missing: [], unrouted: [ipv4] });
    assert.deepEqual(events, ['interface-not-in-order']);
    host.unrouted = host.replaced = [...WANTED];
    for (let now = 10_000; now < 20_000; now += 1000) check(now);
    assert.deepEqual([watch.status().state, events.length], ['unrouted', 2]);
    host.replaced = [];
    for (let now = 20_000; now < 90_000; now += 1000) check(now);
    assert.deepEqual(watch.status(), { name: 'omerta0', state: 'up', missing: [], unrouted: [] });
    assert.deepEqual(events.slice(2), ['interface-routes-restored', 'interface-in-order']);
  });

  test('a deleted one is made anew, less and less often while it does not last', () => {
    const { host, watch, check } = fixture();
    host.gone = true;
    for (let now = 0; now < 60_000; now += 1000) check(now);
    assert.equal(watch.status().state, 'gone');
    assert.equal(host.reopened, 6);
    host.gone = false;
    check(60_000);
    assert.equal(watch.status().state, 'up');
  });

  test('one that was moved or renamed is its mover’s: it is told and not touched', () => {
    const { host, watch, events, check } = fixture();
    Object.assign(host, { exists: false, addresses: [] });
    check(0);
    check(1000);
    assert.deepEqual(
      [watch.status().state, host.reopened, events],
      ['elsewhere', 0, ['interface-not-in-order']],
    );
  });

  test('an address it cannot have is said once, and put there when it can have it', () => {
    const { host, watch, events, check } = fixture();
    Object.assign(host, { ipv6: false, addresses: ['100.64.1.2'] });
    for (let now = 0; now < 10_000; now += 1000) check(now);
    assert.deepEqual(watch.status(), { name: 'omerta0', state: 'up', missing: ['fd00::2/48'], unrouted: [] });
    assert.deepEqual(events, ['interface-not-in-order']);
    host.ipv6 = true;
    for (let now = 10_000; now < 21_000; now += 1000) check(now);
    assert.deepEqual(watch.status(), { name: 'omerta0', state: 'up', missing: [], unrouted: [] });
    assert.deepEqual(events.slice(1), ['interface-addresses-restored', 'interface-in-order']);
  });
});
