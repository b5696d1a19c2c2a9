import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isProcessAlive, ownProcessIdentity } from '../../ts/host/process-identity.js';
import { Store } from '../../ts/daemon/state/store.js';
import { temporaryDirectory } from './temporary.js';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe('store', () => {
  test('what was written is there after closing, what was deleted is not', async (t) => {
    const path = join(temporaryDirectory(t), 'store');
    const first = new Store(path);
    first.write([
      { key: 'a', value: bytes(1, 2) },
      { key: 'b', value: new Uint8Array(0) },
      { key: 'c', value: bytes(3) },
    ]);
    first.write([
      { key: 'c', value: undefined },
      { key: 'never-there', value: undefined },
      { key: 'a', value: bytes(9).subarray(0, 1) },
    ]);
    await first.close();
    const second = new Store(path);
    assert.deepEqual(
      second.load(),
      new Map([
        ['a', bytes(9)],
        ['b', new Uint8Array(0)],
      ]),
    );
    await second.close();
  });

  test('the last write of one batch to a key counts', async (t) => {
    const store = new Store(join(temporaryDirectory(t), 'store'));
    store.write([
      { key: 'a', value: bytes(1) },
      { key: 'a', value: undefined },
      { key: 'a', value: bytes(2) },
    ]);
    assert.deepEqual(store.load(), new Map([['a', bytes(2)]]));
    await store.close();
  });

  test('a view into a larger buffer is kept as just the view', async (t) => {
    const store = new Store(join(temporaryDirectory(t), 'store'));
    store.write([{ key: 'a', value: new Uint8Array(64).fill(7).subarray(10, 12) }]);
    assert.deepEqual(store.load().get('a'), bytes(7, 7));
    await store.close();
  });

  test('a write that returned survives SIGKILL', async (t) => {
    const path = join(temporaryDirectory(t), 'store');
    const module = new URL('../../ts/daemon/state/store.js', import.meta.url).href;
    const script = `
      const { Store } = await import(${JSON.stringify(module)});
      const store = new Store(${JSON.stringify(path)});
      for (let i = 0; i < 50; i++) store.write([{ key: 'k' + i, value: Uint8Array.of(i) }]);
      process.kill(process.pid, 'SIGKILL');`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' });
    const [, signal] = (await once(child, 'exit')) as [number | null, string | null];
    assert.equal(signal, 'SIGKILL');
    const store = new Store(path);
    const entries = store.load();
    assert.equal(entries.size, 50);
    assert.deepEqual(entries.get('k49'), bytes(49));
    await store.close();
  });

  test('its directory is private, and one that is not is refused', async (t) => {
    const path = join(temporaryDirectory(t), 'store');
    const store = new Store(path);
    await store.close();
    assert.equal(statSync(path).mode & 0o777, 0o700);
    chmodSync(path, 0o755);
    assert.throws(() => new Store(path), /chmod 0700/);
  });

  test('of several processes that claim a directory at once exactly one gets it', async (t) => {
    const path = join(temporaryDirectory(t), 'store');
    const first = new Store(path);
    first.claim('1 0 left-by-a-killed-daemon', isProcessAlive);
    await first.close();
    const url = (name: string): string =>
      JSON.stringify(new URL(`../../ts/${name}.js`, import.meta.url).href);
    const script = `
      const { Store } = await import(${url('daemon/state/store')});
      const { isProcessAlive, ownProcessIdentity } = await import(${url('host/process-identity')});
      const store = new Store(${JSON.stringify(path)});
      console.log(store.claim(ownProcessIdentity(), isProcessAlive) === undefined ? 'won' : 'lost');
      process.stdin.resume(); // lives on until its input is closed`;
    const children = Array.from({ length: 4 }, () =>
      spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] }),
    );
    const answers = await Promise.all(
      children.map(async (child) => String(((await once(child.stdout, 'data')) as [Buffer])[0]).trim()),
    );
    for (const child of children) child.stdin.end();
    await Promise.all(children.map((child) => once(child, 'exit')));
    assert.deepEqual(answers.sort(), ['lost', 'lost', 'lost', 'won']);
  });

  test("a claim that was released, and one of a process that has ended, stand in nobody's way", async (t) => {
    const store = new Store(join(temporaryDirectory(t), 'store'));
    const self = ownProcessIdentity();
    assert.equal(store.claim(self, isProcessAlive), undefined);
    assert.equal(store.claim('another', isProcessAlive), self);
    store.release('another');
    assert.equal(store.claim('another', isProcessAlive), self, 'only the owner can release');
    store.release(self);
    assert.equal(store.claim('another', isProcessAlive), undefined);
    assert.equal(store.claim(self, isProcessAlive), undefined, '"another" is no living process');
    assert.deepEqual(store.load(), new Map(), "the claim is none of the node's business");
    await store.close();
  });

  test('a process number that is used again is another process', () => {
    const self = ownProcessIdentity();
    assert.equal(isProcessAlive(self), true);
    const [pid = '', startTime = '', boot = ''] = self.split(' ');
    assert.equal(isProcessAlive(`${pid} ${Number(startTime) - 1} ${boot}`), false);
    assert.equal(isProcessAlive(`${pid} ${startTime} another-boot`), false);
  });
});
