// The host of an exit as others leave it: programs that print what is there, take it away, or had it before.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { ExitHost, type ExitWish, type Using } from '../../ts/exit/exit-host.js';
import type { Sysctls } from '../../ts/exit/host-change.js';
import { HostCommandError, type RunCommand } from '../../ts/exit/host-commands.js';
import { temporaryDirectory } from '../daemon/temporary.js';

/** ip and nft, with what they print: as iproute2 does, `default` for what holds everything, one address without length. */
class PrintingHost {
  readonly rules = new Map<number, string>([[32_766, 'lookup main']]);
  readonly routes = new Map<string, { dst: string; type?: string; dev?: string; metric: number }>();
  readonly tables = new Set<string>();
  readonly chains = new Set<string>();
  /** What it says instead of loading anything. */
  nftSays: string | undefined;
  /** What its nft does not know. */
  unknown = 'nothing';
  /** What was loaded last. */
  loaded = '';
  ran = 0;

  readonly run: RunCommand = (file, args, input = '') => {
    this.ran++;
    const words = args.filter((word) => !/^-[46]$/.test(word)).join(' ');
    return file === 'nft' ? this.#nft(words, input) : this.#ip(args.includes('-6') ? 6 : 4, words);
  };

  #nft(words: string, input: string): Promise<string> {
    if (words === '-json list chains') {
      const chains = [...this.chains].map((key) => {
        const [family, table, name] = key.split(' ');
        return { chain: { family, table, name } };
      });
      return Promise.resolve(JSON.stringify({ nftables: chains }));
    }
    if (words.startsWith('-c ') || input.includes(this.unknown))
      return input.includes(this.unknown)
        ? Promise.reject(new HostCommandError('nft', 'Error: syntax error'))
        : Promise.resolve('');
    if (this.nftSays !== undefined && words === '-f -')
      return Promise.reject(new HostCommandError('nft', this.nftSays));
    if (words === '-json list tables') {
      const tables = [...this.tables].map((key) => {
        const [family, name] = key.split(' ');
        return { table: { family, name } };
      });
      return Promise.resolve(JSON.stringify({ nftables: [{ metainfo: {} }, ...tables] }));
    }
    if (input !== '') this.loaded = input;
    let table = '';
    for (const [, verb = '', key = ''] of input.matchAll(/^(delete table|table|chain) (\w+(?: \w+)?)/gm))
      if (verb === 'chain') this.chains.add(`${table} ${key}`);
      else if (verb === 'table') this.tables.add((table = key));
      else this.#forget(key);
    return Promise.resolve('');
  }

  #forget(table: string): void {
    this.tables.delete(table);
    for (const chain of this.chains) if (chain.startsWith(`${table} `)) this.chains.delete(chain);
  }

  #ip(family: 4 | 6, words: string): Promise<string> {
    if (words === '-json rule show')
      return Promise.resolve(
        JSON.stringify(family === 6 ? [] : [...this.rules.keys()].map((priority) => ({ priority }))),
      );
    if (words.startsWith('-json route show'))
      return Promise.resolve(JSON.stringify(family === 6 ? [] : [...this.routes.values()]));
    if (family === 6) return Promise.resolve('');
    const [, verb = '', priority = ''] = /rule (add|del) priority (\d+)/.exec(words) ?? [];
    if (verb === 'add') {
      if (this.rules.has(Number(priority)))
        return Promise.reject(new HostCommandError(words, 'RTNETLINK answers: File exists'));
      this.rules.set(Number(priority), words);
    } else if (verb === 'del') this.rules.delete(Number(priority));
    else if (words.startsWith('route flush')) this.routes.clear();
    else this.#route(words);
    return Promise.resolve('');
  }

  #route(words: string): void {
    const [, verb, type, to = '', rest = ''] =
      /^route (replace|del) (unreachable )?(\S+)(.*) table 28525$/.exec(words) ?? [];
    const metric = Number(/metric (\d+)/.exec(rest)?.[1]);
    const dst = to === '0.0.0.0/0' ? 'default' : to.replace(/\/32$/, '');
    const key = `${type ?? ''}${dst} ${metric}`;
    const dev = /dev (\S+)/.exec(rest)?.[1];
    if (verb === 'del') this.routes.delete(key);
    else
      this.routes.set(key, {
        dst,
        ...(type !== undefined && { type: 'unreachable' }),
        ...(dev !== undefined && { dev }),
        metric,
      });
  }
}

const SYSCTLS: Sysctls = { read: () => undefined, write: () => undefined };
const entry = (cidr: string) => ({
  address: cidr.replace(/\/.*/, ''),
  cidr,
  family: 'IPv4' as const,
  internal: false,
  mac: '',
  netmask: '',
});
const INTERFACES = {
  omerta0: [entry('100.64.1.2/10')],
  eth0: [entry('192.168.7.2/24'), entry('203.0.113.9/1')],
};
const USE = { identity: new Uint8Array(32), ipv4: '100.64.1.2', ipv6: undefined, resolvers: [], lan: [] };

function wishOf(using: Partial<Using> = {}): ExitWish {
  return {
    tunnel: 'omerta0',
    port: 1,
    serving: undefined,
    using: { allowLan: false, include: [], exclude: [], paranoid: false, ...using },
  };
}

const SERVING = { ipv4: true, ipv6: false, lan: [], chain: false };

describe('the host of an exit', () => {
  const made = (t: TestContext, machine: PrintingHost, clock = { now: 0 }, name = 'journal'): ExitHost =>
    new ExitHost({
      journal: join(temporaryDirectory(t), `${name}.json`),
      now: () => clock.now,
      run: machine.run,
      sysctls: SYSCTLS,
      interfaces: () => INTERFACES,
      uplinks: () => ['eth0'],
      boot: 'this',
    });

  it('stays closed, however what is to leave by the exit is written', async (t) => {
    for (const include of ['0.0.0.0/0', '203.0.113.5/32', '203.0.113.77/24']) {
      const machine = new PrintingHost();
      const host = made(t, machine);
      await host.set(wishOf({ include: [include] }));
      const mesh = 1;
      assert.equal(machine.routes.size, 1 + mesh, include);
      await host.setInUse(USE);
      await host.setInUse({ ...USE }); // told once more
      assert.deepEqual(
        [...machine.routes.values()].map(({ type, dev }) => type ?? dev).sort(),
        ['omerta0', 'omerta0', 'unreachable'],
        include,
      );
      await host.setInUse(undefined);
      assert.ok(
        [...machine.routes.values()].some(({ type }) => type === 'unreachable'),
        include,
      );
    }
  });

  it('is open to private networks on the link, and to nothing that the link says besides', async (t) => {
    const machine = new PrintingHost();
    await made(t, machine).set(wishOf({ allowLan: true }));
    assert.equal(machine.rules.get(5102), 'rule add priority 5102 to 192.168.7.0/24 lookup main');
  });

  it('is closed again after another program opened it', async (t) => {
    const machine = new PrintingHost();
    const clock = { now: 0 };
    const host = made(t, machine, clock);
    await host.set(wishOf({ paranoid: true }));
    await host.check();
    const state = (): string =>
      JSON.stringify([
        [...machine.rules.keys()].sort(),
        [...machine.tables].sort(),
        [...machine.chains].sort(),
        [...machine.routes.keys()].sort(),
      ]);
    const closed = state();
    for (const open of [
      () => machine.tables.clear(), // nft flush ruleset
      () => machine.tables.delete('netdev omerta_guard'),
      () => machine.chains.delete('inet omerta_guard output'),
      () => machine.rules.delete(5103), // a network manager
      () => machine.routes.clear(),
    ]) {
      open();
      assert.notEqual(state(), closed);
      clock.now += 6000;
      assert.equal(await host.check(), true);
      assert.equal(state(), closed);
      clock.now += 6000;
      assert.equal(await host.check(), false);
    }
  });

  it('is closed by routes, and uses no exit, while the guard cannot be made', async (t) => {
    const machine = new PrintingHost();
    const clock = { now: 0 };
    const host = made(t, machine, clock);
    await host.setInUse(USE);
    machine.nftSays = 'Error: Could not process rule: Operation not supported';
    await assert.rejects(host.set(wishOf({ paranoid: true })), /not supported/);
    const leadsTo = (): string[] => [...machine.routes.values()].map(({ dst, dev }) => `${dst} ${dev ?? ''}`);
    assert.ok(machine.rules.has(5103));
    assert.deepEqual(leadsTo(), ['default ', '100.64.0.0/10 omerta0']);
    assert.match(host.error ?? '', /not supported/);
    machine.nftSays = undefined;
    await host.check();
    assert.ok(machine.tables.has('inet omerta_guard'));
    assert.ok(leadsTo().includes('default omerta0'));
    assert.equal(host.error, undefined);
    await host.clear();
    assert.deepEqual([machine.rules.size, machine.tables.size, machine.routes.size], [1, 0, 0]);
  });

  it('is not taken from another daemon', async (t) => {
    const machine = new PrintingHost();
    const first = made(t, machine, undefined, 'first');
    await first.set({ ...wishOf(), serving: SERVING });
    const second = made(t, machine, undefined, 'second');
    await assert.rejects(second.set(wishOf()), /another daemon of this host/);
    await assert.rejects(
      second.set({ ...wishOf(), using: undefined, serving: SERVING }),
      /another daemon of this host/,
    );
    await second.clear();
    assert.ok(machine.rules.has(5103) && machine.tables.has('inet omerta_exit'));
    await first.clear();
    assert.deepEqual([machine.rules.size, machine.tables.size, machine.routes.size], [1, 0, 0]);
  });

  it('is changed once for all guests that come and go meanwhile', async (t) => {
    const machine = new PrintingHost();
    const host = made(t, machine);
    await host.set({ ...wishOf(), using: undefined, serving: SERVING });
    const once = machine.ran;
    const guests = Array.from({ length: 200 }, (_, index) =>
      host.setGuests('exit', [
        { sessionKey: 'x', identity: new Uint8Array(32), addresses: [`100.64.2.${index}`], lifetimeMs: 1000 },
      ]),
    );
    await Promise.all(guests);
    assert.ok(machine.ran - once <= 4 * once, `${machine.ran - once} programs for 200 changes`);
    // What is asked for after the end is not lost in it.
    const cleared = host.clear();
    await Promise.all([cleared, host.set({ ...wishOf(), using: undefined, serving: SERVING })]);
    assert.ok(machine.tables.has('inet omerta_exit'));
  });

  it('remembers flows of guests for as long as it says where nftables can say that, and serves where not', async (t) => {
    for (const unknown of ['nothing', 'ct timeout']) {
      const machine = new PrintingHost();
      machine.unknown = unknown;
      await made(t, machine).set({ ...wishOf(), using: undefined, serving: SERVING });
      assert.ok(machine.tables.has('inet omerta_exit'));
      const says = unknown === 'nothing';
      assert.equal(/ct timeout tcp_ip6 .* syn_sent : 10, .* established : 7440/.test(machine.loaded), says);
      assert.equal(/ct state new jump times/.test(machine.loaded), says);
    }
  });

  it('stays closed when only what is served ends', async (t) => {
    const machine = new PrintingHost();
    const host = made(t, machine);
    await host.set({ ...wishOf({ paranoid: true }), serving: SERVING });
    await host.clearServing();
    assert.deepEqual([...machine.tables].sort(), ['inet omerta_guard', 'netdev omerta_guard']);
    assert.ok(machine.rules.has(5103));
  });
});
