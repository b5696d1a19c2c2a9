import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LineLimiter } from '../../ts/host/line-limiter.js';
import { NonBlockingOutput, type OutputStatus } from '../../ts/host/non-blocking-output.js';
import { temporaryDirectory } from '../daemon/temporary.js';

const said = (lost: number): string => `lost ${lost}\n`;

/** Both ends of a named pipe; the writing one waits, as a shell's does. */
function pipe(t: TestContext): { path: string; reader: number; writer: number } {
  const path = join(temporaryDirectory(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writer = openSync(path, constants.O_WRONLY);
  t.after(() => {
    closeSync(writer);
  });
  return { path, reader, writer };
}

function readAll(fd: number): string {
  const chunk = Buffer.alloc(1 << 20);
  let text = '';
  for (;;) {
    try {
      const length = readSync(fd, chunk);
      if (length === 0) return text;
      text += chunk.toString('utf8', 0, length);
    } catch {
      return text; // EAGAIN: empty
    }
  }
}

/** Reads until there is what is expected, or ten seconds have passed. */
async function readUntil(fd: number, expected: RegExp): Promise<string> {
  let text = '';
  for (const end = Date.now() + 10_000; Date.now() < end && !expected.test(text);) {
    text += readAll(fd);
    await sleep(20);
  }
  return text;
}

/**
 * A process of its own that writes lines to descriptor 3 and prints the status: one that waits for the reader could
 * not say so itself. It ends when all it kept is written.
 */
function writesLines(writer: number, line: string, count: number): ChildProcess {
  const module = new URL('../../ts/host/non-blocking-output.js', import.meta.url).href;
  const program = `
    import { NonBlockingOutput } from ${JSON.stringify(module)};
    const output = new NonBlockingOutput(3, (lost) => 'lost ' + lost + '\\n');
    for (let i = 0; i < ${count}; i++) output.write(${JSON.stringify(line)});
    console.log(JSON.stringify(output.status()));
    const timer = setInterval(() => {
      if (output.status().error === undefined) clearInterval(timer);
    }, 50);
  `;
  return spawn(process.execPath, ['--input-type=module', '--eval', program], {
    stdio: ['ignore', 'pipe', 'inherit', writer],
  });
}

describe('output that does not wait', () => {
  test('a full disk costs lines, which are counted', (t) => {
    // /dev/full is a disk that is always full.
    const full = openSync('/dev/full', 'w');
    t.after(() => closeSync(full));
    const output = new NonBlockingOutput(full, said);
    output.write('one\n');
    output.write('two\n');
    assert.deepEqual(output.status(), { lost: 2, error: 'ENOSPC' });
    output.close();
  });

  test('a file is written line by line', (t) => {
    const path = join(temporaryDirectory(t), 'log');
    const fd = openSync(path, 'a');
    const output = new NonBlockingOutput(fd, said);
    output.write('one\n');
    output.write('two\n');
    assert.deepEqual(output.status(), { lost: 0, error: undefined });
    output.close();
    assert.equal(readFileSync(path, 'utf8'), 'one\ntwo\n');
    closeSync(fd);
  });

  test('a reader that is stuck blocks nobody: lines wait, then are lost, and it is told how many', async (t) => {
    const { reader, writer } = pipe(t);
    t.after(() => closeSync(reader));
    const line = `${'x'.repeat(999)}\n`;
    const lines = 1000; // a pipe holds 64 KiB
    const child = writesLines(writer, line, lines);
    t.after(() => child.kill('SIGKILL'));
    const ended = once(child, 'exit');
    assert.ok(child.stdout !== null);
    const told = once(child.stdout, 'data') as Promise<[Buffer]>;
    const patience = sleep(60_000, undefined, { ref: false });
    const status = await Promise.race([told, patience]);
    assert.ok(status !== undefined, 'a write waits for the reader: it is not over after a minute');
    const { lost, error } = JSON.parse(status[0].toString()) as OutputStatus;
    assert.equal(error, 'EAGAIN');
    assert.ok(lost > 500 && lost < lines, `${lost} lost`);
    const text = await readUntil(reader, /lost/);
    assert.equal(text, line.repeat(lines - lost) + said(lost));
    assert.deepEqual(await ended, [0, null]);
  });

  test('the pipe itself still waits for whoever shares it', (t) => {
    const { reader, writer } = pipe(t);
    t.after(() => closeSync(reader));
    new NonBlockingOutput(writer, said).close();
    const flags = Number(
      `0o${/flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${writer}`, 'utf8'))?.[1]}`,
    );
    assert.equal(flags & constants.O_NONBLOCK, 0);
  });

  test('a reader that has gone costs lines and nothing else; the next one is told how many', (t) => {
    const { path, reader, writer } = pipe(t);
    const output = new NonBlockingOutput(writer, said);
    t.after(() => output.close());
    closeSync(reader);
    output.write('one\n');
    output.write('two\n');
    assert.deepEqual(output.status(), { lost: 2, error: 'EPIPE' });
    const next = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    t.after(() => closeSync(next));
    output.write('three\n');
    assert.equal(readAll(next), 'three\nlost 2\n');
    assert.deepEqual(output.status(), { lost: 2, error: undefined });
  });
});

describe('line limiter', () => {
  test('a kind has a burst, then one line now and then, which says how many were held back', () => {
    const limiter = new LineLimiter({ burst: 2, everyMs: 1000 });
    assert.deepEqual(
      [0, 0, 0, 0, 1000, 1000].map((now) => limiter.take('a', now)),
      [0, 0, undefined, undefined, 2, undefined],
    );
    assert.equal(limiter.held, 3);
    assert.equal(limiter.take('b', 1000), 0, 'another kind has its own');
  });

  test('many kinds cost bounded memory: further ones share', () => {
    const limiter = new LineLimiter({ burst: 1, everyMs: 1000 });
    for (let i = 0; i < 4096; i++) assert.equal(limiter.take(`kind ${i}`, 0), 0);
    assert.equal(limiter.take('one more', 0), 0);
    assert.equal(limiter.take('and another', 0), undefined);
    assert.equal(limiter.take('one more', 5000), 0, 'what has been quiet makes room');
  });
});
