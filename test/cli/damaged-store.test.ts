// A relay whose store cannot be read, or cannot be written.

import assert from 'node:assert/strict';
import { readFileSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { temporaryDirectory } from '../daemon/temporary.js';
import { freeUdpPort, omerta, startRelay } from './run-omerta.js';

describe('the store of a relay', { concurrency: 2 }, () => {
  test('is begun anew when it is damaged, and the old one is kept under a name that is said', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const args = ['--port', `${await freeUdpPort()}`, '--status', 'off'];
    await (await startRelay(t, state, args)).stop('SIGTERM');
    const journal = join(state, 'store', 'journal');
    const length = readFileSync(journal).length;
    writeFileSync(journal, Buffer.alloc(length));
    const relay = await startRelay(t, state, args);
    const [aside] = readdirSync(join(state, 'store')).filter((name) => name.startsWith('journal.damaged-'));
    assert.ok(aside !== undefined);
    const { stdout } = await omerta(['--state', state, 'status']);
    assert.ok(stdout.includes(aside), stdout);
    assert.ok(
      (await omerta(['--state', state, 'doctor'])).stdout.includes(`rm ${join(state, 'store', aside)}`),
    );
    assert.equal(await relay.stop('SIGTERM'), 0);
  });

  test('may refuse to be written: the relay serves, says so, and writes it later', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    // A directory in the way stands for a disk that takes nothing.
    const obstacle = join(state, 'store', 'journal.new');
    mkdirSync(join(obstacle, 'x'), { recursive: true, mode: 0o700 });
    const relay = await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    let log = '';
    relay.child.stderr?.on('data', (chunk) => (log += String(chunk)));
    const said = async (what: string): Promise<void> => {
      for (const end = Date.now() + 20_000; !log.includes(what);) {
        assert.ok(Date.now() < end, `${what}: ${log}`);
        await sleep(50);
      }
    };
    await said('store-not-written');
    assert.match((await omerta(['--state', state, 'status'])).stdout, /store +cannot be written \(EISDIR\)/);
    rmSync(obstacle, { recursive: true });
    await said('store-written-again');
    assert.doesNotMatch((await omerta(['--state', state, 'status'])).stdout, /cannot be written/);
    assert.equal(await relay.stop('SIGTERM'), 0);
    assert.ok(readdirSync(join(state, 'store')).includes('journal'));
  });
});
