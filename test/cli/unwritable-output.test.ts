// What a daemon does when nobody can take its output: go on.

import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { temporaryDirectory } from '../daemon/temporary.js';
import { fullPipe } from '../full-pipe.js';
import { freeUdpPort, omerta } from './run-omerta.js';

const BIN = fileURLToPath(new URL('../../../bin/omerta', import.meta.url));

interface Log {
  readonly lost: number;
  readonly error?: string;
}

/** Starts a relay whose outputs are these descriptors and waits until it answers. */
async function relay(
  t: TestContext,
  state: string,
  stdout: number | 'ignore',
  stderr: number | 'ignore',
): Promise<ChildProcess> {
  const args = ['--state', state, 'relay', '--port', `${await freeUdpPort()}`, '--bind', '127.0.0.1'];
  const environment = { ...process.env };
  delete environment['NODE_CHANNEL_FD'];
  const child = spawn(process.execPath, [BIN, ...args, '--status', 'off'], {
    stdio: ['ignore', stdout, stderr],
    env: environment,
    detached: true,
  });
  t.after(() => child.kill('SIGKILL'));
  for (const end = Date.now() + 30_000; (await omerta(['--state', state, 'status'])).code !== 0;) {
    assert.ok(Date.now() < end && child.exitCode === null, `it did not start (${child.exitCode})`);
    await sleep(100);
  }
  return child;
}

async function log(state: string): Promise<Log> {
  const { stdout } = await omerta(['--state', state, 'status', '--json']);
  return (JSON.parse(stdout) as { log: Log }).log;
}

/** Reload and SIGHUP write to the log, change what they are to change, and end nothing. */
async function outlives(state: string, child: ChildProcess, error: string): Promise<void> {
  writeFileSync(join(state, 'omerta.toml'), '[relay]\ncircuits_per_identity = 9\n');
  const reload = await omerta(['--state', state, 'relay', 'reload']);
  assert.deepEqual([reload.code, reload.stderr], [0, '']);
  assert.match(reload.stdout, /circuits_per_identity: in force/);
  child.kill('SIGHUP');
  await sleep(500);
  const { lost, error: present } = await log(state);
  assert.equal(child.exitCode ?? child.signalCode, null, 'it runs');
  assert.equal(present, error);
  assert.ok(error === 'EAGAIN' || lost >= 3, `${lost} lines lost`);
  const doctor = await omerta(['--state', state, 'doctor']);
  assert.match(
    doctor.stdout,
    new RegExp(`running daemon's log \\(optional\\): it cannot be written \\(${error}\\)`),
  );
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number | null];
  assert.equal(code, 0);
  assert.equal(existsSync(join(state, 'omerta.sock')), false);
}

describe('a relay whose output cannot be written', { concurrency: 2 }, () => {
  test('a full disk under its log ends nothing, and reload says what it did', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const full = openSync('/dev/full', 'w');
    t.after(() => closeSync(full));
    await outlives(state, await relay(t, state, 'ignore', full), 'ENOSPC');
  });

  test('a reader of its log that is stuck blocks nothing', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const writer = fullPipe(t, join(temporaryDirectory(t), 'pipe'));
    await outlives(state, await relay(t, state, 'ignore', writer), 'EAGAIN');
  });

  test('a reader of its banner that has gone ends nothing', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    const path = join(temporaryDirectory(t), 'pipe');
    execFileSync('mkfifo', [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(path, constants.O_WRONLY);
    closeSync(reader);
    t.after(() => closeSync(writer));
    const file = join(temporaryDirectory(t), 'log');
    const log = openSync(file, 'a');
    t.after(() => closeSync(log));
    const child = await relay(t, state, writer, log);
    await sleep(500);
    assert.equal(child.exitCode ?? child.signalCode, null);
    assert.match(readFileSync(file, 'utf8'), /"started"/);
  });
});
