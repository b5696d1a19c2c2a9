// What an exit changes on its host, and the journal that undoes it. Input: a kind, then
//
//   0     any text as the journal: what it makes the host undo is the exit's, or it is refused in one line
//   else  a program: changes are set, in part; a command fails; the process is killed and another reads the
//         journal; somebody else changes a parameter or loads a firewall. In the end all is undone to the letter.

import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EXIT_TABLE, RULE_PRIORITIES, SERVE_TABLE, USE_TABLE } from '../../../ts/exit/exit-numbers.js';
import { kernelSysctls, type HostChange } from '../../../ts/exit/host-change.js';
import { HostChanges } from '../../../ts/exit/host-changes.js';
import { OperatorError } from '../../../ts/host/operator-error.js';
import { concat, utf8 } from '../../../ts/wire/bytes.js';
import { FakeHost } from '../../exit/fake-host.js';
import type { FuzzTarget } from '../harness/target.js';

// Each change is flushed to the disk: where there is a disk in memory, on that.
const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'omerta-fuzz-'));
const journal = join(folder, 'exit-journal.json');

const FORWARDING = 'net/ipv4/conf/eth0/forwarding';
const CHANGES: readonly HostChange[] = [
  {
    kind: 'routes',
    family: 4,
    table: EXIT_TABLE,
    routes: ['unreachable default metric 9', 'default dev omerta0 metric 1'],
  },
  {
    kind: 'routes',
    family: 6,
    table: EXIT_TABLE,
    routes: ['unreachable default metric 9', '2000::/3 dev omerta0 metric 1'],
  },
  { kind: 'rule', family: 4, rule: `priority ${RULE_PRIORITIES.exit} not fwmark 28525 lookup 28525` },
  { kind: 'rule', family: 6, rule: `priority ${RULE_PRIORITIES.onLink} lookup main` },
  { kind: 'nft', table: SERVE_TABLE, text: `table inet ${SERVE_TABLE} {\nchain forward {\n}\n}\n` },
  { kind: 'nft', table: USE_TABLE, text: `table inet ${USE_TABLE} {}\n` },
  { kind: 'sysctl', path: FORWARDING, value: '1' },
  {
    kind: 'sysctl',
    path: 'net/ipv6/conf/all/forwarding',
    value: '1',
    keeps: ['net/ipv6/conf/eth0/forwarding'],
  },
];

/** The first of them as it is while the tunnel has another name. */
const MOVED: HostChange = {
  kind: 'routes',
  family: 4,
  table: EXIT_TABLE,
  routes: ['unreachable default metric 9', '0.0.0.0/0 dev omerta1 metric 2'],
};

/** A host that others have rules, routes and tables on. */
function inhabitedHost(): FakeHost {
  const host = new FakeHost();
  host.rules.add('-4 priority 0 from all lookup local');
  host.routes.add('-4 default dev eth0 metric 100 table 254');
  host.tables.set('filter', 'table inet filter {}\n');
  host.parameters.set('net/ipv4/ip_forward', '0');
  return host;
}

const changesOf = (host: FakeHost, boot = 'this'): HostChanges =>
  new HostChanges({ journal, run: host.run, sysctls: host.sysctls, boot });

/** The journal of these changes, as it is written. */
async function journalOf(changes: readonly HostChange[]): Promise<Uint8Array> {
  rmSync(journal, { force: true });
  await changesOf(inhabitedHost()).set(changes);
  return new Uint8Array(readFileSync(journal));
}

async function read(text: Uint8Array): Promise<void> {
  assert.equal(kernelSysctls.read('net/ipv4/conf/there is none/forwarding'), undefined);
  writeFileSync(journal, text, { mode: 0o600 });
  const host = inhabitedHost();
  const before = host.state;
  const changes = changesOf(host);
  try {
    assert.equal(typeof changes.any, 'boolean');
  } catch (error) {
    assert.ok(error instanceof Error && /^exit journal: .* is damaged/.test(error.message), String(error));
    assert.equal(host.state, before);
    return;
  }
  // A parameter may be what the journal says that it was changed to.
  const parameters = [...host.parameters.keys()];
  await changes.clear();
  assert.equal(changes.any, false);
  assert.deepEqual([...host.parameters.keys()], parameters);
  assert.equal(host.parameters.get('net/ipv4/ip_forward'), '0');
  assert.deepEqual(
    [host.rules.size, host.routes.size, host.tables.size],
    [1, 1, 1],
    "what is others' is theirs",
  );
}

async function act(program: Uint8Array): Promise<void> {
  rmSync(journal, { force: true });
  let host = inhabitedHost();
  let untouched = host.state;
  let changes = changesOf(host);
  let boots = 0;
  for (let at = 0; at + 1 < program.length && at < 40; at += 2) {
    const [what = 0, argument = 0] = program.subarray(at, at + 2);
    switch (what % 8) {
      case 0: {
        const wanted = CHANGES.filter((_, index) => (argument >> index) & 1);
        await changes.set(wanted);
        assert.equal(await changes.isWhole(), true);
        break;
      }
      case 1:
        // A command fails: the journal holds what was begun, and what was there before is still there.
        host.failAfter(argument % 16);
        await changes
          .set(argument >= 128 ? CHANGES : CHANGES.slice(0, 1 + (argument % 8)))
          .catch(onlyRefused);
        host.failAt = undefined;
        break;
      case 2: // killed, wherever it was
        changes = changesOf(host, `boot ${boots}`.replace('boot 0', 'this'));
        break;
      case 3: // the machine is started anew: nothing is left but the journal
        host = inhabitedHost();
        untouched = host.state;
        changes = changesOf(host, `boot ${++boots}`);
        break;
      case 4: // somebody loads a firewall: tables go, or what is in them
        if (argument % 2 === 0) host.tables.delete(SERVE_TABLE);
        else if (host.tables.has(SERVE_TABLE)) host.tables.set(SERVE_TABLE, `table inet ${SERVE_TABLE} {}\n`);
        await changes.isWhole();
        break;
      case 5:
        await changes.set([MOVED]);
        assert.equal(await changes.isWhole(), true);
        assert.equal(changes.before(FORWARDING), '0');
        break;
      case 7: // beside what is there
        await changes.add(CHANGES.filter((_, index) => (argument >> index) & 1));
        break;
      case 6: {
        // Another daemon of the host has an exit: nothing is taken from it.
        if (changes.any) break;
        host.tables.set(USE_TABLE, 'another');
        const before = host.state;
        await assert.rejects(changes.set(CHANGES), OperatorError);
        assert.equal(host.state, before);
        host.tables.delete(USE_TABLE);
      }
    }
    assert.equal(changes.before(FORWARDING), '0');
  }
  await changes.clear();
  assert.equal(changes.any, false);
  assert.equal(host.state, untouched);
}

function onlyRefused(error: unknown): void {
  assert.ok(error instanceof Error && /Operation not permitted/.test(error.message), String(error));
}

const target: FuzzTarget = {
  timed: false,
  seeds: async () => [
    concat(Uint8Array.of(0), await journalOf(CHANGES)),
    concat(Uint8Array.of(0), await journalOf(CHANGES.slice(4, 6))),
    ...[
      '{"boot":"this","changes":[{"kind":"routes","family":4,"table":254}]}',
      '{"boot":"this","changes":[{"kind":"rule","family":4,"rule":"priority 0 from all lookup local"}]}',
      '{"boot":"this","changes":[{"kind":"nft","table":"filter","families":["inet"]}]}',
      '{"boot":"this","changes":[{"kind":"sysctl","path":"net/ipv4/ip_forward","value":"0","before":"1","kept":{}}]}',
      'null',
    ].map((text) => concat(Uint8Array.of(0), utf8(text))),
    Uint8Array.of(1, 0, 255, 0, 3, 2, 0, 0, 255),
    Uint8Array.of(1, 1, 135, 2, 0, 1, 140, 0, 255, 4, 0, 0, 255),
    Uint8Array.of(1, 0, 3, 7, 12, 7, 0, 1, 130, 7, 255, 0, 1),
    Uint8Array.of(1, 0, 255, 4, 1, 0, 255, 4, 0, 0, 255),
    Uint8Array.of(1, 6, 0, 0, 1, 5, 0, 0, 255, 5, 0),
    Uint8Array.of(1, 0, 255, 3, 0, 0, 12, 2, 0, 1, 200),
  ],
  dictionary: [
    ...['"kind":"', '"rule"', '"routes"', '"nft"', '"sysctl"', '"family":4', '"table":', '28525', '254'],
    ...[
      '"omerta_exit"',
      '"omerta_boot"',
      '"filter"',
      'priority 5103 ',
      'priority 0 ',
      '"families":["netdev"]',
    ],
    ...[
      '"path":"net/ipv4/conf/eth0/forwarding"',
      '"value":"1"',
      '"before":"0"',
      '"kept":{}',
      '"boot":"this"',
    ],
  ],
  async run(input) {
    if ((input[0] ?? 0) === 0) await read(input.subarray(1));
    else await act(input.subarray(1));
  },
  close() {
    rmSync(folder, { recursive: true, force: true });
    return Promise.resolve();
  },
};
export default target;
