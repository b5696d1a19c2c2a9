import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { request, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import { createSocket } from 'node:dgram';
import { describe, test } from 'node:test';
import { temporaryDirectory } from '../daemon/temporary.js';
import { freeTcpPort, freeUdpPort, omerta, startRelay } from './run-omerta.js';

async function get(url: string, host?: string): Promise<{ status: number; body: string }> {
  const outgoing = request(url, host === undefined ? {} : { headers: { host } });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += String(chunk);
  return { status: response.statusCode ?? 0, body };
}

describe('omerta relay', { concurrency: 2 }, () => {
  test('the first start makes identity and network, SIGTERM ends it cleanly, the second start reuses both', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const port = await freeUdpPort();
    const args = ['--port', `${port}`, '--announce', '203.0.113.7:443', '--status', 'off'];
    const first = await startRelay(t, state, args);
    assert.equal(first.banner.created, true);
    assert.equal(first.banner.port, port);
    assert.deepEqual(first.banner.addresses, ['203.0.113.7:443']);
    assert.deepEqual(
      first.banner.networks.map(({ name }) => name),
      ['home'],
    );
    assert.match(first.banner.networks[0]?.invite ?? '', /^omerta:\/\/join\/join1/);
    assert.equal(statSync(join(state, 'omerta.sock')).mode & 0o777, 0o600);
    assert.equal(await first.stop('SIGTERM'), 0);
    assert.equal(existsSync(join(state, 'omerta.sock')), false);

    const second = await startRelay(t, state, args);
    assert.equal(second.banner.created, false);
    assert.equal(second.banner.mesh.peerId, first.banner.mesh.peerId);
    assert.deepEqual(second.banner.networks, first.banner.networks);
    assert.equal(await second.stop('SIGINT'), 0);
  });

  test('SIGKILL loses neither identity nor network nor the state directory', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const args = ['--port', `${await freeUdpPort()}`, '--status', 'off'];
    const first = await startRelay(t, state, args);
    assert.equal(await first.stop('SIGKILL'), 'SIGKILL');
    assert.equal(existsSync(join(state, 'omerta.sock')), true, 'a killed daemon leaves its socket');
    assert.equal((await omerta(['--state', state, 'status'])).code, 3);
    const second = await startRelay(t, state, args);
    assert.equal(second.banner.mesh.peerId, first.banner.mesh.peerId);
    assert.deepEqual(second.banner.networks, first.banner.networks);
    assert.equal((await omerta(['--state', state, 'status'])).code, 0);
  });

  test('garbage datagrams are counted as drops and leave nothing behind', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const port = await freeUdpPort();
    const relay = await startRelay(t, state, ['--port', `${port}`, '--status', 'off']);
    const residentKiB = (): number =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${relay.child.pid}/status`, 'utf8'))?.[1]);
    const drops = async (): Promise<Record<string, number>> => {
      const { stdout } = await omerta(['--state', state, 'status', '--json']);
      const { counters } = JSON.parse(stdout) as { counters: Record<string, number> };
      return Object.fromEntries(Object.entries(counters).filter(([name]) => name.startsWith('drop_')));
    };
    const socket = createSocket('udp4');
    t.after(() => socket.close());
    // What a stranger may send: noise, headers of each protocol with noise behind, truncated ones.
    const starts = ['', '01000000', '02000000', '04000000', '6f01080001000000', '6f10010000000000', '0001'];
    const send = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const start = Buffer.from(starts[i % starts.length] ?? '', 'hex');
        const size = [148, 92, 40, 1200, 64, 128, 20][(i >> 3) % 7] ?? 64;
        const datagram = Buffer.concat([start, randomBytes(size)]).subarray(0, size);
        await new Promise((resolve) => socket.send(datagram, port, '127.0.0.1', resolve));
      }
    };
    await send(5_000); // first touch of everything a drop needs
    await drops();
    const before = residentKiB();
    const count = 60_000;
    await send(count);
    const counted = await drops();
    const grown = residentKiB() - before;
    assert.ok(grown < 4096, `resident memory grew by ${grown} KiB`);
    const total = Object.values(counted).reduce((sum, value) => sum + value, 0);
    assert.ok(total >= count, `${total} drops counted`);
    for (const reason of [
      'unknown_protocol',
      'malformed_wireguard',
      'malformed_stun',
      'frame_too_short',
      'unknown_leg',
      'bad_tag',
      'bad_mac1',
      'unknown_index',
    ])
      assert.ok((counted[`drop_${reason}`] ?? 0) > 0, reason);
  });

  test('a relay at another address writes its new address into its invites', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const port = `${await freeUdpPort()}`;
    const first = await startRelay(t, state, [
      '--port',
      port,
      '--status',
      'off',
      '--announce',
      '203.0.113.7:1',
    ]);
    await first.stop('SIGTERM');
    const second = await startRelay(t, state, [
      '--port',
      port,
      '--status',
      'off',
      '--announce',
      '203.0.113.8:1',
    ]);
    assert.notDeepEqual(second.banner.networks, first.banner.networks);
    const list = await omerta(['--state', state, 'network', 'list', '--json']);
    const [home] = JSON.parse(list.stdout) as { bootstraps: { peerId: string; addresses: string[] }[] }[];
    assert.deepEqual(home?.bootstraps, [{ peerId: second.banner.mesh.peerId, addresses: ['203.0.113.8:1'] }]);
  });

  test('a taken UDP port is an error that names --port, with exit code 1', async (t) => {
    const socket = createSocket('udp6');
    socket.bind(0);
    await once(socket, 'listening');
    t.after(() => socket.close());
    const state = join(temporaryDirectory(t), 'state');
    const { port } = socket.address();
    const outcome = await omerta(['--state', state, 'relay', '--port', `${port}`, '--status', 'off']);
    assert.equal(outcome.code, 1);
    assert.match(outcome.stderr, new RegExp(`^omerta: port: UDP port ${port} is taken .*--port N`));
  });

  test('a second daemon for the same state is refused and the first one goes on', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    const second = await omerta([
      '--state',
      state,
      'relay',
      '--port',
      `${await freeUdpPort()}`,
      '--status',
      'off',
    ]);
    assert.equal(second.code, 1);
    assert.match(second.stderr, /^omerta: daemon: one is already running/);
    assert.equal((await omerta(['--state', state, 'status'])).code, 0);
  });

  test('status, peers, ping and down talk to it; the log and the status hold no secret', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const relay = await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    const text = await omerta(['--state', state, 'status']);
    assert.equal(text.code, 0);
    assert.match(text.stdout, /bootstrap and relay/);
    assert.ok(text.stdout.includes(relay.banner.mesh.peerId));
    const json = await omerta(['--state', state, 'status', '--json']);
    const status = JSON.parse(json.stdout) as { mode: string; counters: Record<string, number> };
    assert.equal(status.mode, 'relay');
    assert.equal(typeof status.counters['drop_bad_tag'], 'number');
    assert.equal((await omerta(['--state', state, 'peers'])).stdout, 'no peers yet\n');
    for (const { local, translation } of JSON.parse(
      (await omerta(['--state', state, 'nat', '--json'])).stdout,
    ) as { local: string; translation: unknown }[]) {
      assert.match(local, /:\d+$/);
      assert.deepEqual(translation, { unknown: 'not-observed' }, 'a relay without another has nobody to ask');
    }
    const nobody = await omerta(['--state', state, 'ping']);
    assert.equal(nobody.code, 5);
    assert.match(nobody.stderr, /^omerta: peer: no peer is known yet/);
    assert.equal((await omerta(['--state', state, 'ping', 'x', '-c', '0'])).code, 2);
    assert.equal((await omerta(['--state', state, 'ping', 'x', '--interval', 'soon'])).code, 2);
    const invite = (await omerta(['--state', state, 'network', 'invite'])).stdout.trim();
    assert.equal(invite, relay.banner.networks[0]?.invite);
    for (const secret of [
      invite.slice('omerta://join/'.length),
      readFileSync(join(state, 'identity.key'), 'utf8').trim(),
      readFileSync(join(state, 'session.key'), 'utf8').trim(),
    ])
      assert.ok(!json.stdout.includes(secret));
    const down = await omerta(['--state', state, 'down']);
    assert.deepEqual([down.code, down.stdout], [0, 'stopped\n']);
    assert.equal((await omerta(['--state', state, 'down'])).code, 3);
  });

  test('a running relay serves a network created beside it, and forgets one that is left', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    const names = async (): Promise<string[]> => {
      const { stdout } = await omerta(['--state', state, 'status', '--json']);
      return (JSON.parse(stdout) as { mesh: { networks: { name: string }[] } }).mesh.networks.map(
        ({ name }) => name,
      );
    };
    const created = await omerta(['--state', state, 'network', 'create', 'lab', '--json']);
    assert.equal(created.code, 0, created.stderr);
    assert.equal((JSON.parse(created.stdout) as { running: boolean }).running, true);
    assert.deepEqual((await names()).sort(), ['home', 'lab']);
    assert.equal(
      (await omerta(['--state', state, 'network', 'invite'])).code,
      2,
      'two networks: one has to be named',
    );
    assert.equal((await omerta(['--state', state, 'network', 'leave', 'lab'])).code, 0);
    assert.deepEqual(await names(), ['home']);
  });

  test('a reload says which limits are lifted, and a file that is gone lifts none', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    mkdirSync(state, { mode: 0o700 });
    const file = join(state, 'omerta.toml');
    const limited = '[relay]\ncircuits = 100\nhost_limit = { bytes_per_second = 1_000_000 }\n';
    writeFileSync(file, limited);
    await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    const reload = async (...args: string[]): ReturnType<typeof omerta> =>
      omerta(['--state', state, 'relay', 'reload', ...args]);

    rmSync(file);
    const gone = await reload();
    assert.equal(gone.code, 2, gone.stdout);
    assert.match(
      gone.stderr,
      /^omerta: config: .*omerta\.toml was there and is gone; nothing is changed\. Put it back/,
    );
    writeFileSync(file, limited);
    assert.equal((await reload()).stdout, 'nothing has changed\n', 'the limits were in force all the time');

    writeFileSync(file, '[relay]\ncircuits = 90\n');
    assert.equal(
      (await reload()).stdout,
      'relay.circuits: in force\nrelay.host_limit: removed, nothing is limited by it any more\n',
    );
    writeFileSync(file, '[relay]\ncircuits = 90\n[paths.interfaces.wwan0]\nmetered = true\n');
    assert.equal((await reload()).stdout, 'paths.interfaces.wwan0: in force\n');
    writeFileSync(file, '[relay]\ncircuits = 90\n');
    assert.equal(
      (await reload()).stdout,
      'paths.interfaces.wwan0: removed, the interface is not metered and has priority 0, for data and messages alike\n',
    );
    writeFileSync(file, '[relay]\ncircuits = 90\ncircuits_per_identity = 9\n');
    assert.equal((await reload()).stdout, 'relay.circuits_per_identity: in force\n');
    writeFileSync(file, '[relay]\ncircuits = 90\n');
    assert.equal((await reload()).stdout, 'relay.circuits_per_identity: back at its default, 256\n');
    writeFileSync(file, '[log]\nlevel = "warn"\n');
    assert.deepEqual(JSON.parse((await reload('--json')).stdout), {
      // As many circuits as it was started with, and no more: the engine's tables have no room for them.
      applied: ['relay.circuits', 'log.level'],
      removed: [],
      restart: ['relay.circuits'],
    });
  });

  test('a network is called otherwise while the relay runs', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    const run = async (...args: string[]): ReturnType<typeof omerta> => omerta(['--state', state, ...args]);
    const before = await run('status');
    assert.match(before.stdout, /^network home /m);
    const renamed = await run('network', 'rename', 'home', 'cabin');
    assert.equal(renamed.stdout, '"home" is called "cabin" on this machine now\n', renamed.stderr);
    const after = await run('status');
    const network = ({ stdout }: Awaited<ReturnType<typeof omerta>>): string[] | undefined =>
      /^network .*$/m.exec(stdout)?.[0].split(/ +/).slice(1);
    assert.deepEqual(network(after), ['cabin', ...(network(before)?.slice(1) ?? [])]);
  });

  test('a network whose name is taken here is joined under another one', async (t) => {
    const folder = temporaryDirectory(t);
    const [one, other] = [join(folder, 'one'), join(folder, 'other')];
    const create = async (state: string): ReturnType<typeof omerta> =>
      omerta(['--state', state, 'network', 'create', 'home', '--json']);
    assert.equal((await create(one)).code, 0);
    const { invite } = JSON.parse((await create(other)).stdout) as { invite: string };
    const clash = await omerta(['--state', one, 'network', 'join', invite]);
    assert.equal(clash.code, 2);
    assert.match(clash.stderr, /"home" is taken .* Type: omerta network join --name home-2 LINK\n$/);
    const half = Math.floor(invite.length / 2);
    const joined = await omerta([
      '--state',
      one,
      'network',
      'join',
      '--name',
      'home-2',
      `<${invite.slice(0, half)}`,
      `${invite.slice(half)}>`,
    ]);
    assert.match(joined.stdout, /^joined "home-2"/, joined.stderr);
  });

  test('the status page answers on loopback, refuses foreign Host headers, and a default one that is taken is left out', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const address = `127.0.0.1:${await freeTcpPort()}`;
    const relay = await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', address]);
    assert.equal(relay.banner.statusPage, `http://${address}/`);
    const page = await get(`http://${address}/`);
    assert.equal(page.status, 200);
    assert.ok(page.body.includes(relay.banner.mesh.peerId));
    const json = await get(`http://${address}/status.json`);
    assert.equal((JSON.parse(json.body) as { mode: string }).mode, 'relay');
    const metrics = await get(`http://${address}/metrics`);
    assert.match(metrics.body, /^omerta_rx_bytes_total\{worker="0"\} \d+$/m);
    assert.match(metrics.body, /^omerta_registrations 0$/m);
    assert.equal((await get(`http://${address}/`, 'rebind.example')).status, 403);

    const taken = await omerta([
      ...['--state', join(temporaryDirectory(t), 'state'), 'relay'],
      ...['--port', `${await freeUdpPort()}`, '--status', address],
    ]);
    assert.equal(taken.code, 1);
    assert.match(taken.stderr, /^omerta: status: .*TCP port taken.*--status ADDR:PORT/m);
  });

  test('the banner for people holds peer id, addresses, engine, status page and invite', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const port = await freeUdpPort();
    // The control socket's `down` ends it: the banner is complete when status answers.
    const running = omerta([
      '--state',
      state,
      'relay',
      '--port',
      `${port}`,
      '--status',
      'off',
      '--engine',
      'wasm',
    ]);
    for (let i = 0; i < 100 && (await omerta(['--state', state, 'status'])).code !== 0; i++);
    assert.equal((await omerta(['--state', state, 'down'])).code, 0);
    const { code, stdout } = await running;
    assert.equal(code, 0);
    for (const text of [
      /peer id +omerta1/,
      new RegExp(`UDP port ${port}`),
      /engine +\S+/,
      /status page +off/,
      /omerta:\/\/join\/join1/,
    ])
      assert.match(stdout, text);
  });
});

describe('omerta doctor', () => {
  test('says what works with a mark per line, and as JSON with the same verdict', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const config = join(temporaryDirectory(t), 'omerta.toml');
    writeFileSync(config, `[node]\nport = ${await freeUdpPort()}\n`);
    const text = await omerta(['--state', state, '--config', config, 'doctor']);
    assert.equal(text.code, 0, text.stdout);
    for (const name of [
      'native engine',
      'wasm engine',
      'aead',
      'tun',
      'kernel',
      'net.core.rmem_max',
      'kernel path',
      'kernel features',
      'clock',
      'configuration',
      'state directory',
      'daemon',
      'port',
    ])
      assert.match(text.stdout, new RegExp(`^[✓✗] ${name}( \\(optional\\))?: `, 'm'));
    assert.match(text.stdout, /A relay can run here\.\n$/);
    const json = await omerta(['--state', state, '--config', config, 'doctor', '--json']);
    assert.equal(json.code, 0);
    assert.equal((JSON.parse(json.stdout) as { ableToRelay: boolean }).ableToRelay, true);
    assert.equal(existsSync(state), false, 'it changes nothing');
  });
});
