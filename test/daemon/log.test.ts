import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LineReader } from '../../ts/host/line-reader.js';
import { makeLog, readableLine, type LineOutput } from '../../ts/daemon/lifecycle/log.js';

describe('log', () => {
  test('a line for a terminal holds time, level, event and fields, and no control characters', () => {
    const line = readableLine(
      JSON.stringify({ level: 40, time: 0, msg: 'circuit-refused', name: '\u001b[31mred\n', count: 2 }),
    );
    assert.equal(line, '00:00:00 WARN  circuit-refused name=?[31mred? count=2\n');
  });
});

describe('log of a daemon', () => {
  const fixture = (): {
    lines: Record<string, unknown>[];
    log: ReturnType<typeof makeLog>;
    clock: { now: number };
  } => {
    const lines: Record<string, unknown>[] = [];
    const clock = { now: 0 };
    const output: LineOutput = {
      write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>),
      status: () => ({ lost: 0, error: undefined }),
    };
    return { lines, clock, log: makeLog('info', output, false, () => clock.now) };
  };

  test('one identity cannot fill it: after ten lines of an event one comes now and then, with the count', () => {
    const { lines, log, clock } = fixture();
    for (let i = 0; i < 15_000; i++) {
      clock.now = i * 5; // 75 s
      log.logger.info({ peer: 'omerta1loud' }, 'client-moved');
    }
    assert.ok(lines.length <= 13, `${lines.length} lines`);
    log.logger.info({ peer: 'omerta1quiet' }, 'client-moved');
    assert.equal(lines.at(-1)?.['peer'], 'omerta1quiet');
    assert.equal(lines.at(-1)?.['heldBack'], undefined);
    clock.now += 30_000;
    log.logger.info({ peer: 'omerta1loud' }, 'client-moved');
    assert.ok(Number(lines.at(-1)?.['heldBack']) > 2000);
    assert.equal(log.status().heldBack, 15_002 - lines.length);
  });

  test('many identities together cannot either', () => {
    const { lines, log } = fixture();
    for (let i = 0; i < 3000; i++) log.logger.info({ peer: `omerta1${i}` }, 'client-moved');
    assert.equal(lines.length, 500);
    log.logger.warn({ reason: 'x' }, 'kernel-path-lost');
    assert.equal(lines.at(-1)?.['msg'], 'kernel-path-lost', 'another event has its own share');
  });

  test('a line below the level costs nothing of the share', () => {
    const { lines, log } = fixture();
    for (let i = 0; i < 100; i++) log.logger.debug({ peer: 'p' }, 'client-moved');
    log.logger.info({ peer: 'p' }, 'client-moved');
    assert.deepEqual([lines.length, log.status().heldBack], [1, 0]);
  });
});

describe('line reader', () => {
  test('lines come out whole however they were cut', () => {
    const reader = new LineReader(100);
    const text = Buffer.from('one\ntwö\n\nrest');
    const lines = [...text].flatMap(
      (_, index) => reader.push(text.subarray(index, index + 1)) ?? assert.fail(),
    );
    assert.deepEqual(lines, ['one', 'twö', '']);
    assert.deepEqual(reader.push(Buffer.from('!\n')), ['rest!']);
  });
  test('a line longer than the cap ends it, one as long does not', () => {
    assert.deepEqual(new LineReader(3).push(Buffer.from('abc\nabc\n')), ['abc', 'abc']);
    assert.equal(new LineReader(3).push(Buffer.from('abcd')), undefined);
    assert.equal(new LineReader(3).push(Buffer.from('ab\nabcd\n')), undefined);
  });
});
