// The journal of what is changed on a host: a host in memory, killed and failing at every step.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { HostChange } from '../../ts/exit/host-change.js';
import { HostChanges } from '../../ts/exit/host-changes.js';
import { temporaryDirectory } from '../daemon/temporary.js';
import { FakeHost } from './fake-host.js';

const WANTED: readonly HostChange[] = [
  {
    kind: 'routes',
    family: 4,
    table: 28_525,
    routes: ['unreachable default metric 9', 'default dev omerta0 metric 1'],
  },
  { kind: 'rule', family: 4, rule: 'priority 5103 not fwmark 28525 lookup 28525' },
  { kind: 'nft', table: 'omerta_exit', text: 'table inet omerta_exit {}\n' },
  { kind: 'sysctl', path: 'net/ipv4/conf/eth0/forwarding', value: '1' },
  {
    kind: 'sysctl',
    path: 'net/ipv6/conf/all/forwarding',
    value: '1',
    keeps: ['net/ipv6/conf/eth0/forwarding'],
  },
];

function changesOf(host: FakeHost, journal: string, boot = 'this'): HostChanges {
  return new HostChanges({ journal, run: host.run, sysctls: host.sysctls, boot });
}

describe('changes of a host', () => {
  let count = 0;
  const journalPath = (t: TestContext): string => join(temporaryDirectory(t), `journal-${++count}.json`);

  it('are made once, found made the second time, and undone to the letter', async (t) => {
    const host = new FakeHost();
    const untouched = host.state;
    const journal = journalPath(t);
    const changes = changesOf(host, journal);
    await changes.set(WANTED);
    const made = host.state;
    assert.equal(statSync(journal).mode & 0o777, 0o600);
    await changes.set(WANTED);
    assert.equal(host.state, made);
    assert.equal(changes.before('net/ipv4/conf/eth0/forwarding'), '0');
    await changes.clear();
    assert.equal(host.state, untouched);
    assert.equal(changes.any, false);
  });

  it('are undone by another process wherever the first was killed, or a program failed', async (t) => {
    for (let failAt = 0; failAt < 7; failAt++) {
      const host = new FakeHost();
      const untouched = host.state;
      const journal = journalPath(t);
      host.failAt = failAt;
      const failed = await changesOf(host, journal)
        .set(WANTED)
        .then(
          () => false,
          () => true,
        );
      assert.equal(failed, failAt < 6, `step ${failAt}`);
      host.failAt = undefined;
      await changesOf(host, journal).clear();
      assert.equal(host.state, untouched, `step ${failAt}`);
    }
  });

  it('that are wanted no longer go after the new ones came', async (t) => {
    const host = new FakeHost();
    const changes = changesOf(host, journalPath(t));
    await changes.set(WANTED);
    await changes.set(WANTED.slice(0, 2));
    assert.deepEqual([host.rules.size, host.tables.size], [1, 0]);
    assert.equal(host.parameters.get('net/ipv4/conf/eth0/forwarding'), '0');
    assert.equal(host.parameters.get('net/ipv6/conf/eth0/forwarding'), '1');
  });

  it('leave a parameter that somebody else changed meanwhile, and one of another boot', async (t) => {
    const host = new FakeHost();
    const journal = journalPath(t);
    await changesOf(host, journal).set(WANTED);
    host.parameters.set('net/ipv4/conf/eth0/forwarding', '2');
    await changesOf(host, journal, 'another').clear();
    assert.equal(host.parameters.get('net/ipv4/conf/eth0/forwarding'), '2');
    assert.equal(host.parameters.get('net/ipv6/conf/all/forwarding'), '1');
    assert.equal(host.rules.size, 0);
  });

  it('leave an interface forwarding where others have it of all meanwhile', async (t) => {
    const [own, all] = ['net/ipv4/conf/eth0/forwarding', 'net/ipv4/conf/all/forwarding'];
    for (const [then, left] of [
      ['0', '0'],
      ['1', '1'],
    ] as const) {
      const host = new FakeHost();
      host.parameters.set(all, '0');
      const journal = journalPath(t);
      await changesOf(host, journal).set([{ kind: 'sysctl', path: own, value: '1', wider: all }]);
      host.parameters.set(all, then); // as Docker does when it starts; the kernel sets those of all interfaces
      const changes = changesOf(host, journal);
      await changes.clear();
      assert.equal(host.parameters.get(own), left);
      assert.equal(changes.any, false);
    }
  });

  it('are not undone by a journal that names other parameters or tables', async (t) => {
    const host = new FakeHost();
    const journal = journalPath(t);
    for (const changes of [
      [{ kind: 'sysctl', path: 'kernel/core_pattern', value: '1', before: '|/bin/x', kept: {} }],
      [{ kind: 'sysctl', path: 'net/ipv4/conf/../../../kernel/x', value: '1', before: '0', kept: {} }],
      [{ kind: 'nft', table: 'filter' }],
      [{ kind: 'nft', table: 'omerta_boot' }],
      [{ kind: 'rule', family: 4, rule: 'priority 0 from all lookup local' }],
      [{ kind: 'rule', family: 4, rule: 'priority 51030 from all lookup main' }],
      [{ kind: 'rule', family: 4, rule: '' }],
      [{ kind: 'routes', family: 4, table: 254 }],
      'nothing',
    ]) {
      writeFileSync(journal, JSON.stringify({ boot: 'this', changes }), { mode: 0o600 });
      await assert.rejects(changesOf(host, journal).clear(), {
        name: 'OperatorError',
        message: /^exit journal: .* is damaged.*By hand/,
      });
      assert.ok(existsSync(journal) && readFileSync(journal, 'utf8').length > 0);
    }
  });
});
