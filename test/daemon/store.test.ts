import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { isProcessAlive, ownProcessIdentity } from '../../ts/host/process-identity.js';
import { Store } from '../../ts/daemon/state/store.js';
import { temporaryDirectory } from './temporary.js';

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

/** A store with two batches in it; the path of its file. */
async function written(t: TestContext): Promise<{ path: string; journal: string }> {
  const path = join(temporaryDirectory(t), 'store');
  const store = new Store(path);
  store.write([{ key: 'a', value: bytes(1, 2) }]);
  store.write([{ key: 'b', value: new Uint8Array(5000).fill(7) }]);
  await store.close();
  return { path, journal: join(path, 'journal') };
}

describe('a store that was damaged', () => {
  test('is put aside with what was wrong, wherever a byte of it is another, and a new one is begun', async (t) => {
    const { path, journal } = await written(t);
    const whole = readFileSync(journal);
    // Every byte of headers and keys, some of the long value.
    const places = [...whole.keys()].filter((at) => at < 200 || at % 97 === 0 || at > whole.length - 20);
    for (const at of places) {
      const changed = Buffer.from(whole);
      changed[at] = (changed[at] ?? 0) ^ 0x41;
      writeFileSync(journal, changed);
      const store = new Store(path);
      assert.deepEqual(store.load(), new Map(), `byte ${at}`);
      assert.match(store.damaged?.path ?? '', /journal\.damaged-/);
      assert.deepEqual(readFileSync(store.damaged?.path ?? ''), changed);
      store.write([{ key: 'c', value: bytes(3) }]);
      await store.close();
      const next = new Store(path);
      assert.deepEqual([...next.load().keys()], ['c']);
      assert.equal(next.damaged, undefined);
      await next.close();
      rmSync(store.damaged?.path ?? '');
    }
  });

  test('is put aside when it is zeroed or random', async (t) => {
    const { path, journal } = await written(t);
    for (const content of [Buffer.alloc(32_768), randomBytes(32_768)]) {
      writeFileSync(journal, content);
      const store = new Store(path);
      assert.deepEqual(store.load(), new Map());
      assert.ok(store.damaged);
      await store.close();
    }
  });

  test('is put aside when it is no file, or larger than can be read', async (t) => {
    const { path, journal } = await written(t);
    for (const make of [
      () => mkdirSync(journal),
      () => execFileSync('mkfifo', [journal]),
      () => symlinkSync('/dev/zero', journal),
      () => {
        writeFileSync(journal, '');
        truncateSync(journal, 2 ** 31);
      },
    ]) {
      rmSync(journal, { recursive: true });
      make();
      const store = new Store(path);
      assert.deepEqual(store.load(), new Map());
      assert.ok(store.damaged);
      store.write([{ key: 'c', value: bytes(3) }]);
      await store.close();
      const next = new Store(path);
      assert.deepEqual([...next.load().keys()], ['c']);
      await next.close();
      rmSync(store.damaged.path, { recursive: true });
    }
  });

  test('holds the batches before the end it was cut at, wherever that is, and goes on from there', async (t) => {
    const { path, journal } = await written(t);
    const whole = readFileSync(journal);
    for (let length = 0; length < whole.length; length += length < 200 ? 1 : 113) {
      writeFileSync(journal, whole.subarray(0, length));
      const store = new Store(path);
      assert.equal(store.damaged, undefined, `${length} bytes`);
      assert.equal(store.load().has('b'), false);
      const keys = [...store.load().keys()];
      store.write([{ key: 'c', value: bytes(3) }]);
      await store.close();
      const next = new Store(path);
      assert.deepEqual([...next.load().keys()], [...keys, 'c']);
      await next.close();
    }
  });

  test('does not mind the zeros a power failure leaves behind what was written', async (t) => {
    const { path, journal } = await written(t);
    appendFileSync(journal, Buffer.alloc(9000));
    const store = new Store(path);
    assert.deepEqual([...store.load().keys()], ['a', 'b']);
    assert.equal(store.damaged, undefined);
    await store.close();
  });
});

describe('a store on a disk that takes nothing', () => {
  test('keeps in memory what it was told, says why, and writes it once there is room', async (t) => {
    const { path, journal } = await written(t);
    const store = new Store(path);
    store.write([{ key: 'c', value: bytes(3) }]);
    // No file can be opened where a directory stands in the way, as on a disk without room.
    mkdirSync(`${journal}.new/x`, { recursive: true });
    for (let i = 0; store.error === undefined && i < 10_000; i++)
      store.write([{ key: 'd', value: new Uint8Array(10_000) }]);
    assert.equal(store.error, 'EISDIR');
    store.write([{ key: 'e', value: bytes(5) }]);
    assert.deepEqual([...store.load().keys()], ['a', 'b', 'c', 'd', 'e']);
    store.retry();
    assert.equal(store.error, 'EISDIR');
    rmSync(`${journal}.new`, { recursive: true });
    store.retry();
    assert.equal(store.error, undefined);
    await store.close();
    const next = new Store(path);
    assert.deepEqual([...next.load().keys()], ['a', 'b', 'c', 'd', 'e']);
    await next.close();
  });

  test(
    'that fills while it grows has whole batches, and the rest once there is room',
    { skip: process.getuid?.() === 0 ? false : 'needs root' },
    (t) => {
      const disk = temporaryDirectory(t);
      const module = new URL('../../ts/daemon/state/store.js', import.meta.url).href;
      const script = `
        import { readFileSync, rmSync, writeFileSync } from 'node:fs';
        const { Store } = await import(${JSON.stringify(module)});
        const [path, ballast] = [${JSON.stringify(join(disk, 'store'))}, ${JSON.stringify(join(disk, 'ballast'))}];
        writeFileSync(ballast, new Uint8Array(64 << 10));
        const store = new Store(path);
        let wrote = 0;
        while (store.error === undefined && wrote < 1000)
          store.write([{ key: 'k' + wrote++, value: new Uint8Array(3000).fill(wrote) }]);
        const full = store.error;
        const onDisk = new Store(path).load().size; // as one finds it after SIGKILL
        rmSync(ballast);
        store.retry();
        const { error } = store;
        await store.close();
        const next = new Store(path);
        console.log(JSON.stringify({ wrote, full, onDisk, error, held: next.load().size, damaged: next.damaged }));`;
      const inside = `mount -t tmpfs -o size=256k none '${disk}' && exec '${process.execPath}' --input-type=module -e "$0"`;
      const printed = execFileSync('unshare', ['-m', 'sh', '-c', inside, script], { encoding: 'utf8' });
      const outcome = JSON.parse(printed) as Record<string, unknown>;
      const wrote = Number(outcome['wrote']);
      assert.ok(wrote > 10 && wrote < 90, printed);
      assert.deepEqual(outcome, { wrote, full: 'ENOSPC', onDisk: wrote - 1, held: wrote });
    },
  );

  test('is written anew when it is much longer than what it holds', async (t) => {
    const { path, journal } = await written(t);
    const store = new Store(path);
    for (let i = 0; i < 400; i++) store.write([{ key: 'd', value: new Uint8Array(10_000).fill(i) }]);
    assert.ok(statSync(journal).size < 1_200_000);
    await store.close();
    const next = new Store(path);
    assert.deepEqual(next.load().get('d'), new Uint8Array(10_000).fill(399));
    await next.close();
  });
});

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
