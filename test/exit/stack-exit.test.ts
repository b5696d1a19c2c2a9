// The exit by the engine's own stack: whom the engine is told of, and where they ask for names.

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import type { Engine } from '../../ts/contract/engine.js';
import type { StackControl, StackCounts, StackGuest, StackNames } from '../../ts/contract/exit-control.js';
import { DnsForwarder } from '../../ts/exit/dns-forwarder.js';
import { StackExit } from '../../ts/exit/stack-exit.js';
import { OperatorError } from '../../ts/host/operator-error.js';

const GUEST = { sessionKey: 'ab'.repeat(32), identity: new Uint8Array(32) };
const ADDRESSES = ['100.64.0.2', 'fd00::2'];
const WISH = { tunnel: 'omerta0', port: 1, using: undefined };
const SERVING = {
  allow: [],
  networks: [],
  lan: [],
  ipv4: true,
  ipv6: true,
  chain: false,
  dns: true,
  resolvers: [],
};

/** A stack that remembers what it was told. */
class Stack implements StackControl {
  guests: readonly StackGuest[] = [];
  names: readonly StackNames[] = [];
  told = 0;
  isClosed = false;
  setGuests(guests: readonly StackGuest[]): void {
    if (this.isClosed) throw new Error('the engine is closed');
    this.guests = guests;
    this.told++;
  }
  setNames(names: readonly StackNames[]): void {
    this.names = names;
  }
  counts(): StackCounts {
    return { tcp: 1, udp: 2, refused: 3, flowsTooFast: 4, datagramsTooFast: 5 };
  }
}

function place() {
  const world = { now: 0, stack: new Stack() };
  const exit = new StackExit({
    now: () => world.now,
    engine: () => ({ exit: { stack: world.stack } }) as unknown as Engine,
  });
  return { world, exit };
}

describe('an exit by a stack', () => {
  it('has the guests of the families that are served, until their rights end', async () => {
    const { world, exit } = place();
    await exit.setGuests('exit', [{ ...GUEST, addresses: ADDRESSES, lifetimeMs: 1000 }]);
    assert.deepEqual(world.stack.guests, [], 'nothing is served yet');
    assert.equal(exit.gateway, undefined);
    await exit.set({ ...WISH, serving: SERVING });
    assert.deepEqual(exit.gateway, { tcp: 1, udp: 2, refused: 3 });
    assert.deepEqual(
      world.stack.guests.map(({ address, exit: toExit, lan }) => [address, toExit, lan]),
      ADDRESSES.map((address) => [address, true, false]),
    );
    const from = world.stack.guests.map(({ asksFrom }) => asksFrom);
    assert.equal(new Set(from).size, 2, 'each is told from the others');
    for (const each of from) assert.match(each, /^127\.64\.0\.\d+$/);
    await exit.set({ ...WISH, serving: { ...SERVING, ipv6: false } });
    assert.deepEqual(
      world.stack.guests.map(({ address }) => address),
      ADDRESSES.slice(0, 1),
    );
    const { told } = world.stack;
    await exit.check();
    assert.equal(world.stack.told, told, 'what has not changed is not told again');
    world.now = 1000;
    await exit.check();
    assert.deepEqual(world.stack.guests, []);
  });

  it('tells the engine that comes after another one, and says when one takes nothing', async () => {
    const { world, exit } = place();
    await exit.set({ ...WISH, serving: undefined, routing: { advertised: ['10.1.0.0/16'], accepted: [] } });
    await exit.setGuests('lan', [{ ...GUEST, addresses: ADDRESSES, lifetimeMs: 1e6 }]);
    assert.deepEqual(
      world.stack.guests.map(({ exit: toExit, lan }) => [toExit, lan]),
      ADDRESSES.map(() => [false, true]),
    );
    world.stack = new Stack();
    world.stack.isClosed = true;
    await exit.check();
    assert.match(exit.error ?? '', /not told.*closed/);
    world.stack.isClosed = false;
    await exit.check();
    assert.equal(exit.error, undefined);
    assert.equal(world.stack.guests.length, 2);
    await exit.clear();
    assert.deepEqual(world.stack.guests, []);
  });

  it('refuses what nothing could come of', async () => {
    const { exit } = place();
    const using = { exits: [], hops: 1, allowLan: false, include: [], exclude: [], paranoid: false };
    for (const wish of [
      { ...WISH, serving: undefined, using },
      { ...WISH, serving: { ...SERVING, chain: true } },
      { ...WISH, serving: undefined, routing: { advertised: [], accepted: ['10.1.0.0/16'] } },
    ])
      await assert.rejects(exit.set(wish), OperatorError);
  });

  it('takes questions for names at ports of the loopback interface, of guests alone', async () => {
    const { world, exit } = place();
    await exit.set({ ...WISH, serving: SERVING });
    await exit.setGuests('exit', [{ ...GUEST, addresses: ADDRESSES, lifetimeMs: 1e6 }]);
    const dns = new DnsForwarder(
      () => [],
      () => 0,
      undefined,
      exit.names,
    );
    await dns.listen(['100.64.0.1', 'fd00::1']);
    dns.setGuests(ADDRESSES);
    assert.deepEqual(
      world.stack.names.map(({ address }) => address),
      ['100.64.0.1', 'fd00::1'],
    );
    const [names] = world.stack.names;
    assert.ok(names && names.udp > 0 && names.tcp > 0 && names.udp !== world.stack.names[1]?.udp);
    const question = Buffer.concat([Buffer.from('12340100000100000000', 'hex'), Buffer.alloc(7)]);
    const ask = async (from: string): Promise<number> => {
      const socket = createSocket('udp4');
      socket.bind(0, from);
      await once(socket, 'listening');
      const { refused, unanswered } = dns.counts;
      socket.send(question, names.udp, '127.0.0.1');
      while (dns.counts.refused === refused && dns.counts.unanswered === unanswered)
        await new Promise((resolve) => setTimeout(resolve, 5));
      socket.close();
      return dns.counts.refused - refused;
    };
    assert.equal(await ask(world.stack.guests[0]?.asksFrom ?? ''), 0);
    assert.equal(await ask('127.0.0.1'), 1, 'who is no guest');
    dns.close();
    while (world.stack.names.length > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });
});
