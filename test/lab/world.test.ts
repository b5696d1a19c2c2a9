import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';

const WORLD_MODULE = new URL('../../ts/lab/world.js', import.meta.url).href;

const namespacesOf = (prefix: string): string[] =>
  readdirSync('/run/netns').filter((name) => name.startsWith(prefix));

/** Starts a process that makes a world with one node and a sleeping program in it, then waits. */
async function processWithWorld(): Promise<{
  child: ReturnType<typeof spawn>;
  prefix: string;
  sleeper: number;
}> {
  const program = `
    import { World } from ${JSON.stringify(WORLD_MODULE)};
    const world = await World.create();
    const node = await world.addNode('a');
    const sleeper = node.spawn('sleep', ['300']);
    console.log(world.prefix + ' ' + sleeper.pid);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const [prefix = '', sleeper = ''] = line.toString().trim().split(' ');
  return { child, prefix, sleeper: Number(sleeper) };
}

/** Resolves when the process has ended; a killed one takes a moment. */
async function ended(id: number): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    try {
      process.kill(id, 0);
    } catch {
      return;
    }
    await setTimeout(20);
  }
  assert.fail(`process ${id} still runs`);
}

describe('a lab world', { skip: labUnavailable(['ping']) ?? false }, () => {
  it('connects public nodes over IPv4 and IPv6, and nodes behind a NAT to them', async () => {
    const world = await World.create();
    try {
      const server = await world.addNode('server');
      const open = await world.addNode('open');
      const client = await world.addNode('client', { behind: await world.addNat('home', 'port-restricted') });
      await open.mustRun('ping', ['-c1', '-W2', server.address]);
      await open.mustRun('ping', ['-c1', '-W2', server.address6 ?? '']);
      await client.mustRun('ping', ['-c1', '-W2', server.address]);
      const inward = await server.run('ping', ['-c1', '-W1', client.address]);
      assert.notEqual(inward.code, 0, 'a private address must not be reachable from outside');
    } finally {
      world.remove();
    }
    assert.deepEqual(namespacesOf(world.prefix), []);
  });

  it('shows what a failing command said', async () => {
    const world = await World.create();
    try {
      const node = await world.addNode('a');
      await assert.rejects(node.mustRun('ip', ['link', 'show', 'nothing']), /"nothing" does not exist/);
    } finally {
      world.remove();
    }
  });

  it('is gone, with its processes, when SIGTERM ends the process that made it', async () => {
    const { child, prefix, sleeper } = await processWithWorld();
    assert.notDeepEqual(namespacesOf(prefix), []);
    child.kill('SIGTERM');
    await once(child, 'exit');
    assert.equal(child.exitCode, 143);
    assert.deepEqual(namespacesOf(prefix), []);
    await ended(sleeper);
  });

  it('is removed by whoever comes first when several find it', async () => {
    const program = `
      const { World } = await import(${JSON.stringify(WORLD_MODULE)});
      process.stdout.write('ready');
      process.stdin.once('data', async () => (await World.create()).remove());
      process.stdin.once('end', () => process.stdin.destroy());`;
    for (let round = 0; round < 3; round++) {
      const finders = Array.from({ length: 4 }, () =>
        spawn(process.execPath, ['--input-type=module', '-e', program], {
          stdio: ['pipe', 'pipe', 'pipe'],
        }),
      );
      await Promise.all(finders.map(({ stdout }) => once(stdout, 'data')));
      const { child, prefix } = await processWithWorld();
      child.kill('SIGKILL');
      await once(child, 'exit');
      const said = finders.map(async (finder) => {
        let text = '';
        finder.stderr.on('data', (chunk) => (text += String(chunk)));
        finder.stdin.end('go');
        const [code] = (await once(finder, 'close')) as [number | null];
        assert.equal(code, 0, text);
      });
      await Promise.all(said);
      assert.deepEqual(namespacesOf(prefix), []);
    }
  });

  it('is removed by the next world when SIGKILL left it behind', async () => {
    const { child, prefix, sleeper } = await processWithWorld();
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.notDeepEqual(namespacesOf(prefix), []);
    (await World.create()).remove();
    assert.deepEqual(namespacesOf(prefix), []);
    await ended(sleeper);
  });
});
