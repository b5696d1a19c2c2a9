import assert from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { temporaryDirectory } from '../daemon/temporary.js';
import { freeUdpPort, omerta } from './run-omerta.js';

/** Every error is one line: `omerta: <field>: <expected>. <next>`. */
function assertErrorLine(stderr: string, field: RegExp): void {
  assert.match(stderr, /^omerta: [^\n]+: [^\n]+\. [^\n]+\n$/);
  assert.match(stderr.slice('omerta: '.length), field);
}

describe('bad input', { concurrency: 2 }, () => {
  const table: readonly [args: readonly string[], code: number, field: RegExp][] = [
    [['frobnicate'], 2, /^command line: unknown command 'frobnicate'/],
    [['relay', 'cicuits'], 2, /^command line: unknown command of 'relay'. There are: .*circuits/],
    [['frobnicate', '--help'], 2, /^command line: unknown command 'frobnicate'/],
    [['help', 'frobnicate'], 2, /^command line: unknown command 'frobnicate'/],
    [['relay', 'cicuits', '--help'], 2, /^command line: unknown command of 'relay'. There are: .*circuits/],
    [['network', 'jion', '--help'], 2, /^command line: unknown command of 'network'. There are: .*join/],
    [['--config', '', 'relay'], 2, /^--config: a path is expected, and it is empty/],
    [
      ['network', 'join', '--name', 'My Home', 'x'],
      2,
      /^network name: "My Home" is not .*omerta network join --name home/,
    ],
    [['network', 'rename', 'home', 'lab'], 2, /^network: "home" is not joined/],
    [['relay', '--prot', '1'], 2, /^command line: unknown option '--prot' \(Did you mean --port/],
    [['relay', '--port'], 2, /^command line: option '--port <n>' argument missing/],
    [['relay', '--port', '0'], 2, /^--port: "0" is not a UDP port/],
    [['relay', '--port', '80x'], 2, /^--port: /],
    [['relay', '--bind', '300.1.1.1'], 2, /^--bind: "300\.1\.1\.1" is not an IP address/],
    [['relay', '--announce', '203.0.113.7'], 2, /^--announce: .*address and port/],
    [['relay', '--status', 'localhost:9090'], 2, /^--status: .*or "off"/],
    [['relay', '--io', 'warp'], 2, /^--io: .*"auto", "mmsg" or "io_uring"/],
    [['relay', '--engine', 'warp'], 2, /^--engine: .*"auto", "native" or "wasm"/],
    [
      ['relay', '--consent', 'Living Room'],
      2,
      /^--consent: "Living Room" is not "own", the name of a network/,
    ],
    [['relay', '--consent-until', 'soon'], 2, /^--consent-until: "soon" is not a time in UTC such as/],
    [['relay', '--consent-until', '2099-01-01'], 2, /^--consent-until: nobody is accepted in advance/],
    [
      ['relay', ...Array.from({ length: 9 }, (_, index) => ['--consent', `n${index}`]).flat()],
      2,
      /^--consent: at most 8 networks can be named\. Leave some out/,
    ],
    [['up'], 2, /^network: none is joined yet.*omerta network join LINK/],
    [['down'], 3, /^daemon: none is running.*omerta up/],
    [['status'], 3, /^daemon: none is running/],
    [['ping', 'laptop'], 3, /^daemon: none is running/],
    [['network', 'join'], 2, /^command line: missing required argument 'link'/],
    [['network', 'join', 'hello'], 2, /^invite: does not start with "omerta:\/\/join\/"/],
    [['network', 'join', 'omerta://join/join1qqqqqqqq'], 2, /^invite: cut short or mistyped/],
    [['network', 'create', 'Living Room'], 2, /^network name: "Living Room" is not/],
    [['network', 'create', 'lab', '--via', 'home'], 2, /^network: "home" is not joined/],
    [['network', 'invite'], 2, /^network: none is joined yet/],
    [['network', 'leave', 'home'], 2, /^network: "home" is not joined/],
    [
      ['--config', '/nonexistent/omerta.toml', 'relay'],
      2,
      /^config: \/nonexistent\/omerta\.toml does not exist/,
    ],
  ];
  for (const [args, code, field] of table)
    test(`omerta ${args.join(' ')} ends with exit code ${code} and leaves no identity or network`, async (t) => {
      const state = join(temporaryDirectory(t), 'state');
      const outcome = await omerta(['--state', state, ...args]);
      assert.equal(outcome.code, code, outcome.stderr);
      assertErrorLine(outcome.stderr, field);
      assert.equal(outcome.stdout, '');
      const left = existsSync(state) ? readdirSync(state) : [];
      // `up` fails after the identity is made; nothing else may be there.
      const allowed = args[0] === 'up' ? ['identity.key', 'omerta.log', 'session.key', 'store'] : [];
      assert.deepEqual(left.sort(), allowed);
    });

  test('a configuration with an unknown key stops relay, create and doctor, naming the key', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    mkdirSync(state, { mode: 0o700 });
    writeFileSync(join(state, 'omerta.toml'), '[node]\nprot = 1\n');
    const relay = await omerta(['--state', state, 'relay']);
    assert.equal(relay.code, 2);
    assertErrorLine(relay.stderr, /^config node\.prot: .*known: name, port/);
    const doctor = await omerta(['--state', state, 'doctor']);
    assert.equal(doctor.code, 1);
    assert.match(doctor.stdout, /✗ configuration: config node\.prot/);
    assert.deepEqual(readdirSync(state), ['omerta.toml']);
  });

  test('a network that is accepted and was never joined stops relay and up, naming it', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const port = ['--port', `${await freeUdpPort()}`, '--status', 'off'];
    const relay = await omerta(['--state', state, 'relay', ...port, '--consent', 'office']);
    assert.equal(relay.code, 2);
    assertErrorLine(relay.stderr, /^consent: "office" is not a network this machine has joined \(home\)/);
    writeFileSync(join(state, 'omerta.toml'), '[consent]\nnetworks = ["office"]\n', { mode: 0o600 });
    const up = await omerta(['--state', state, 'up', ...port]);
    assert.equal(up.code, 2);
    assertErrorLine(up.stderr, /^consent: "office" is not a network/);
  });

  for (const command of [['keygen'], ['network', 'create', 'lab'], ['relay'], ['up']])
    test(`omerta ${command.join(' ')} ends where no state directory can be made, as where a home is mounted when it is asked for`, async () => {
      const { code, stderr } = await omerta(['--state', '/proc/omerta/state', ...command]);
      assert.equal(code, 1);
      assertErrorLine(stderr, /^state: \/proc\/omerta\/state: ENOENT.*--state DIR/);
    });

  test('a mistyped invite from standard input is refused without being repeated', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const outcome = await omerta(['--state', state, 'network', 'join', '-'], {
      input: 'omerta://join/join1secretsecret\n',
    });
    assert.equal(outcome.code, 2);
    assertErrorLine(outcome.stderr, /^invite: /);
    assert.doesNotMatch(outcome.stderr, /secretsecret/);
    assert.equal(existsSync(state), false);
  });

  test('without a command the help is printed and the exit code is 2; --help and --version end with 0', async () => {
    const none = await omerta([]);
    assert.equal(none.code, 2);
    assert.match(none.stderr, /Usage: omerta/);
    assert.equal((await omerta(['--version'])).stdout, '0.1.0\n');
    for (const command of ['relay', 'up', 'ping']) {
      const help = await omerta([command, '--help']);
      assert.equal(help.code, 0);
      assert.match(help.stdout, /Examples:\n {2}\$ omerta|Examples:\n {2}\$ sudo omerta/);
      assert.match(help.stdout, /Exit codes:\n {2}0 /);
    }
  });
});

describe('keygen', () => {
  test('prints the peer id only, writes 0600 files, and refuses to overwrite', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const first = await omerta(['--state', state, 'keygen']);
    assert.equal(first.code, 0);
    assert.match(first.stdout, /^omerta1[a-z0-9]+\n$/);
    assert.deepEqual(readdirSync(state).sort(), ['identity.key', 'session.key']);
    for (const file of readdirSync(state)) assert.equal(statSync(join(state, file)).mode & 0o777, 0o600);
    const second = await omerta(['--state', state, 'keygen']);
    assert.equal(second.code, 2);
    assertErrorLine(second.stderr, /^identity: .*never overwritten/);
    const out = join(temporaryDirectory(t), 'elsewhere');
    const third = await omerta(['--state', state, 'keygen', '--out', out, '--json']);
    const { peerId } = JSON.parse(third.stdout) as { peerId: string };
    assert.notEqual(`${peerId}\n`, first.stdout);
    assert.deepEqual(readdirSync(out).sort(), ['identity.key', 'session.key']);
  });
});

describe('permissions', () => {
  test('a state directory open to others is refused with exit code 4 and the chmod', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    mkdirSync(state);
    chmodSync(state, 0o755);
    for (const command of [['relay'], ['keygen'], ['network', 'create', 'home']]) {
      const outcome = await omerta(['--state', state, ...command]);
      assert.equal(outcome.code, 4, outcome.stderr);
      assertErrorLine(outcome.stderr, /^state: .*mode 0755, 0700 is needed.*chmod 0700/);
    }
    assert.deepEqual(readdirSync(state), []);
  });

  test('up without CAP_NET_ADMIN ends with exit code 4 and the setcap command, in the background too', async (t) => {
    if (process.getuid?.() !== 0) {
      t.skip('needs root, to have capabilities to give up');
      return;
    }
    const without = ['net_admin'];
    const state = join(temporaryDirectory(t), 'state');
    const created = await omerta(['--state', state, 'network', 'create', 'home'], { without });
    assert.equal(created.code, 0, created.stderr);
    const port = ['--port', `${await freeUdpPort()}`, '--status', 'off'];
    for (const extra of [['--foreground'], []]) {
      const outcome = await omerta(['--state', state, 'up', ...port, ...extra], { without });
      assert.equal(outcome.code, 4, outcome.stderr);
      assertErrorLine(
        outcome.stderr.split('\n').slice(-2).join('\n'),
        /^tun: the capability CAP_NET_ADMIN is missing/,
      );
      assert.match(outcome.stderr, /sudo setcap cap_net_admin\+ep \/\S*node.*sudo omerta up/);
    }
  });

  test("another user's state directory is a permission error", async (t) => {
    if (process.getuid?.() !== 0) {
      t.skip('needs root, to have capabilities to give up');
      return;
    }
    const state = join(temporaryDirectory(t), 'state');
    await omerta(['--state', state, 'keygen']);
    chownSync(state, 65_534, 65_534);
    const without = ['dac_override', 'dac_read_search'];
    const outcome = await omerta(['--state', state, 'network', 'list'], { without });
    assert.equal(outcome.code, 4, outcome.stderr);
  });
});
