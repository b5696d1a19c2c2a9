import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { temporaryDirectory } from '../daemon/temporary.js';
import { freeUdpPort, omerta, start, startRelay } from './run-omerta.js';

describe('omerta relay circuits and top', { concurrency: 2 }, () => {
  test('ask the running relay, in words and as JSON', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    const ask = (...args: readonly string[]): ReturnType<typeof omerta> =>
      omerta(['--state', state, 'relay', ...args]);
    const quick = ['--interval', '0.1'];
    assert.deepEqual(await ask('circuits', ...quick), { code: 0, stdout: 'no circuits\n', stderr: '' });
    assert.equal((await ask('circuits', ...quick, '--json')).stdout, '[]\n');
    assert.equal((await ask('sessions', ...quick)).stdout, 'no circuits\n'); // its name of the last release
    const top = await ask('top', '--once', '--by', 'network', ...quick);
    assert.equal(top.code, 0);
    assert.match(top.stdout, /^0 circuits, 0 packets\/s, 0 B\/s, 0 drops\/s\nNETWORK +CIRCUITS +PACKETS\/S/);
    const json = await ask('top', '--once', ...quick, '--json');
    assert.deepEqual(JSON.parse(json.stdout), { by: 'circuit', circuits: 0, rows: [] });
  });

  test('top goes on until the relay ends', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const relay = await startRelay(t, state, ['--port', `${await freeUdpPort()}`, '--status', 'off']);
    const top = start(['--state', state, 'relay', 'top', '--interval', '0.1', '--json']);
    const ended = once(top, 'close');
    t.after(() => top.kill('SIGKILL'));
    let stderr = '';
    top.stderr?.on('data', (chunk) => (stderr += String(chunk)));
    assert.ok(top.stdout !== null);
    let tables = 0;
    for await (const line of createInterface({ input: top.stdout })) {
      assert.deepEqual(JSON.parse(line), { by: 'circuit', circuits: 0, rows: [] });
      if (++tables === 3) break;
    }
    await relay.stop('SIGTERM');
    const stopped = performance.now();
    assert.deepEqual(await ended, [1, null]);
    assert.ok(performance.now() - stopped < 5000, 'it notices at once');
    assert.match(stderr, /^omerta: daemon: it closed the connection/);
  });

  for (const [args, code, expected] of [
    [['circuits', '--sort', 'colour'], 2, /^omerta: --sort: "colour" is not one of rate, packet-rate/],
    [['circuits', '--limit', '0'], 2, /^omerta: --limit: "0" is not a number of rows/],
    [['circuits', '--interval', 'soon'], 2, /^omerta: --interval: "soon" is not a number of seconds/],
    [['top', '--by', 'colour'], 2, /^omerta: --by: "colour" is not one of circuit, identity, network/],
    [['top', '--once'], 3, /^omerta: daemon: none is running/],
  ] as const)
    test(`omerta relay ${args.join(' ')} without a relay ends with ${code} and says why`, async (t) => {
      const state = join(temporaryDirectory(t), 'state');
      const outcome = await omerta(['--state', state, 'relay', ...args]);
      assert.equal(outcome.code, code);
      assert.match(outcome.stderr, expected);
    });

  test('their help has examples', async () => {
    for (const name of ['circuits', 'top']) {
      const { code, stdout } = await omerta(['relay', name, '--help']);
      assert.equal(code, 0);
      assert.match(stdout, new RegExp(`Examples:\\n  \\$ omerta relay ${name}`));
    }
  });
});
