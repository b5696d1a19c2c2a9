import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EventQueue } from '../../ts/sim/kernel/event-queue.js';
import { Firewall, STATEFUL, type FirewallRules } from '../../ts/sim/kernel/firewall.js';
import { Internet, type Attachment } from '../../ts/sim/kernel/internet.js';
import { Link, PERFECT_LINK, type LinkModel } from '../../ts/sim/kernel/link.js';
import {
  ADDRESS_RESTRICTED,
  FULL_CONE,
  Nat,
  PORT_RESTRICTED,
  SYMMETRIC,
  type NatBehaviourModel,
} from '../../ts/sim/kernel/nat.js';
import { Prng } from '../../ts/sim/kernel/prng.js';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';

const at = (text: string): SocketAddress => {
  const parsed = parseSocketAddress(text);
  assert.ok(parsed, text);
  return parsed;
};
const ip = (text: string): Uint8Array => at(`${text}:1`).ip;

class World {
  readonly queue = new EventQueue();
  readonly internet = new Internet(this.queue, new Prng(1), 0);

  host(address: string, options: Partial<Attachment> = {}) {
    const heard: string[] = [];
    const attachment: Attachment = {
      address: at(address),
      nat: undefined,
      firewall: undefined,
      latencyMs: 1,
      out: undefined,
      in: undefined,
      receive: (from) => heard.push(formatSocketAddress(from)),
      ...options,
    };
    this.internet.attach(attachment);
    const send = (to: string): void => {
      this.internet.send(attachment, at(to), new Uint8Array(10));
      while (this.queue.step(this.queue.now + 1000) && this.queue.size > 0);
    };
    return { attachment, heard, send };
  }

  pass(ms: number): void {
    this.queue.at(this.queue.now + ms, () => undefined);
    while (this.queue.step(this.queue.now + ms) && this.queue.size > 0);
  }
}

const nat = (behaviour: NatBehaviourModel, address = '198.18.0.1', outer?: Nat): Nat =>
  new Nat(ip(address), behaviour, new Prng(7), outer);

describe('a simulated NAT', () => {
  for (const [name, behaviour, sameMapping, answered] of [
    ['full cone', FULL_CONE, true, ['same', 'port', 'host']],
    ['address-restricted', ADDRESS_RESTRICTED, true, ['same', 'port']],
    ['port-restricted', PORT_RESTRICTED, true, ['same']],
    ['symmetric', SYMMETRIC, false, ['same']],
  ] as const)
    test(`${name}: who may answer, and whether two see one address`, () => {
      const world = new World();
      const inside = world.host('10.0.0.2:1', { nat: nat(behaviour) });
      const same = world.host('192.0.2.1:1');
      const port = world.host('192.0.2.1:2');
      const host = world.host('192.0.2.9:1');
      inside.send('192.0.2.1:1');
      const [outside = ''] = same.heard;
      for (const each of [same, port, host]) each.send(outside);
      const expected = { same: '192.0.2.1:1', port: '192.0.2.1:2', host: '192.0.2.9:1' };
      assert.deepEqual(
        inside.heard,
        answered.map((who) => expected[who]),
      );
      inside.send('192.0.2.9:1');
      assert.equal(host.heard[0] === outside, sameMapping);
    });

  test('gives ports as it was told: the inner one, the next one, any', () => {
    const ports = (behaviour: NatBehaviourModel['ports']): number[] => {
      const each = nat({ ...SYMMETRIC, ports: behaviour });
      return [1, 2, 3].map((port) => each.outbound(at('10.0.0.2:5000'), at(`192.0.2.1:${port}`), 0).port);
    };
    assert.deepEqual(ports('preserving'), [5000, 5001, 5002]);
    const [first = 0, ...next] = ports('sequential');
    assert.deepEqual(next, [first + 1, first + 2]);
    assert.equal(new Set(ports('random')).size, 3);
  });

  test('forgets a mapping that was not used for its lifetime, and all of them when it restarts', () => {
    const each = nat({ ...FULL_CONE, lifetimeMs: 30_000 });
    const { port } = each.outbound(at('10.0.0.2:1'), at('192.0.2.1:1'), 0);
    assert.ok(each.inbound(at('192.0.2.1:1'), port, 30_000));
    assert.equal(each.inbound(at('192.0.2.1:1'), port, 30_001), undefined);
    const again = each.outbound(at('10.0.0.2:1'), at('192.0.2.1:1'), 40_000).port;
    each.reboot();
    assert.equal(each.inbound(at('192.0.2.1:1'), again, 40_000), undefined);
  });

  test('lets two behind it meet at their outer addresses only if it hairpins; inside they meet anyway', () => {
    for (const hairpin of [false, true]) {
      const world = new World();
      const shared = nat({ ...FULL_CONE, hairpin });
      const one = world.host('10.0.0.2:1', { nat: shared });
      const two = world.host('10.0.0.3:1', { nat: shared });
      const observer = world.host('192.0.2.1:1');
      for (const each of [one, two]) each.send('192.0.2.1:1');
      const [outerOne, outerTwo = ''] = observer.heard;
      one.send(outerTwo);
      assert.deepEqual(two.heard, hairpin ? [outerOne] : []);
      one.send('10.0.0.3:1');
      assert.equal(two.heard.at(-1), '10.0.0.2:1');
    }
  });

  test('behind another: both translate, and what only the outer one knows does not come in', () => {
    const world = new World();
    const carrier = nat(PORT_RESTRICTED, '198.18.0.1');
    const home = nat(PORT_RESTRICTED, '100.64.0.2', carrier);
    const inside = world.host('10.0.0.2:1', { nat: home });
    const neighbour = world.host('100.64.0.3:1', { nat: carrier });
    const server = world.host('192.0.2.1:1');
    inside.send('192.0.2.1:1');
    assert.match(server.heard[0] ?? '', /^198\.18\.0\.1:/);
    server.send(server.heard[0] ?? '');
    assert.deepEqual(inside.heard, ['192.0.2.1:1']);
    inside.send('100.64.0.3:1');
    assert.match(neighbour.heard[0] ?? '', /^100\.64\.0\.2:/);
    neighbour.send('10.0.0.2:1');
    assert.equal(inside.heard.length, 1);
  });
});

describe('a simulated firewall', () => {
  const cases: readonly (readonly [string, Partial<FirewallRules>, boolean, boolean])[] = [
    ['stateful', {}, false, true],
    ['nothing inbound', { filtering: 'nobody' }, false, false],
    ['one port open', { openPorts: [1] }, true, true],
    ['only another port outward', { allowedPorts: [443] }, false, false],
  ];
  for (const [name, rules, unasked, asked] of cases)
    test(`${name}: what comes in unasked, and asked`, () => {
      const world = new World();
      const host = world.host('[2001:db8::1]:1', { firewall: new Firewall({ ...STATEFUL, ...rules }) });
      const other = world.host('[2001:db8::2]:9');
      other.send('[2001:db8::1]:1');
      assert.equal(host.heard.length > 0, unasked);
      host.heard.length = 0;
      host.send('[2001:db8::2]:9');
      other.send('[2001:db8::1]:1');
      assert.equal(host.heard.length > 0, asked);
    });
});

describe('a simulated link', () => {
  const arrivals = (model: Partial<LinkModel>, count: number, everyMs = 1): number[][] => {
    const link = new Link({ ...PERFECT_LINK, ...model }, new Prng(5));
    return Array.from({ length: count }, (_, n) => link.arrivals(1000, n * everyMs));
  };

  test('loses, doubles and reorders as often as it was told, and drops what is too large', () => {
    const count = (model: Partial<LinkModel>, is: (at: number[], n: number) => boolean): number =>
      arrivals(model, 4000).filter(is).length / 4000;
    assert.ok(Math.abs(count({ loss: 0.1 }, ({ length }) => length === 0) - 0.1) < 0.02);
    assert.ok(Math.abs(count({ duplicate: 0.25 }, ({ length }) => length === 2) - 0.25) < 0.03);
    assert.ok(Math.abs(count({ reorder: 0.05, reorderMs: 9 }, ([first = 0], n) => first > n) - 0.05) < 0.02);
    assert.equal(
      count({ mtu: 999 }, ({ length }) => length > 0),
      0,
    );
  });

  test('sends no faster than its rate, and drops what would wait too long', () => {
    const sent = arrivals({ bitsPerSecond: 8_000_000, queueMs: 10 }, 100, 0).flat();
    assert.deepEqual(
      sent,
      Array.from({ length: 11 }, (_, n) => n + 1),
    );
  });
});
