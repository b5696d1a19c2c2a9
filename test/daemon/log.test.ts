import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LineReader } from '../../ts/host/line-reader.js';
import { readableLine } from '../../ts/daemon/lifecycle/log.js';

describe('log', () => {
  test('a line for a terminal holds time, level, event and fields, and no control characters', () => {
    const line = readableLine(
      JSON.stringify({ level: 40, time: 0, msg: 'circuit-refused', name: '\u001b[31mred\n', count: 2 }),
    );
    assert.equal(line, '00:00:00 WARN  circuit-refused name=?[31mred? count=2\n');
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
