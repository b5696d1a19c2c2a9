// WireGuard's times and limits stand in two languages: native/session/constants.h is read here, and every
// value of ts/wire/session-constants.ts has to be the one of the same name there.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { MAX_PADDED_SIZE, MAX_PADDED_SIZES } from '../../ts/contract/shaping-control.js';
import * as constants from '../../ts/wire/session-constants.js';

const MILLISECOND = 1_000_000n;

/** Names that differ, because the languages' users of the word do. */
const NATIVE_NAMES: Readonly<Record<string, string>> = {
  REKEY_ON_RECEIVE_TIME: 'kRekeyAfterTimeReceiving',
  COOKIE_SECRET_LIFETIME: 'kCookieLifetime',
  COOKIE_LIFETIME: 'kCookieUseTime',
  MAX_STAGED: 'kMaxStagedPackets',
};

/** REKEY_AFTER_TIME: kRekeyAfterTime. */
function nativeName(name: string): string {
  const words = name.split('_').map((word) => word.charAt(0) + word.slice(1).toLowerCase());
  return NATIVE_NAMES[name] ?? `k${words.join('')}`;
}

/** The value of an expression of constants.h: integers, + - * / <<, brackets, and names. */
function evaluate(expression: string, known: ReadonlyMap<string, bigint>): bigint {
  const tokens = expression.match(/[A-Za-z_]\w*|[\d']+|<<|[-+*/(){}]/g) ?? [];
  let at = 0;
  const primary = (): bigint => {
    const token = tokens[at++] ?? '';
    if (token === '(' || token === '{') {
      const value = shift();
      at++;
      return value;
    }
    if (/^\d/.test(token)) return BigInt(token.replaceAll("'", ''));
    if (token === 'uint64_t') return primary();
    const value = known.get(token);
    assert.ok(value !== undefined, `constants.h uses ${token}, which this test does not know`);
    return value;
  };
  const product = (): bigint => {
    let value = primary();
    while (tokens[at] === '*' || tokens[at] === '/') {
      const times = tokens[at++] === '*';
      const other = primary();
      value = times ? value * other : value / other;
    }
    return value;
  };
  const sum = (): bigint => {
    let value = product();
    while (tokens[at] === '+' || tokens[at] === '-') {
      const plus = tokens[at++] === '+';
      const other = product();
      value = plus ? value + other : value - other;
    }
    return value;
  };
  const shift = (): bigint => {
    let value = sum();
    while (tokens[at] === '<<') {
      at++;
      value <<= sum();
    }
    return value;
  };
  return shift();
}

/** Every constant of the header by name; whether it is a time. */
function nativeConstants(): Map<string, { readonly value: bigint; readonly time: boolean }> {
  const header = readFileSync(new URL('../../../native/session/constants.h', import.meta.url), 'utf8');
  const known = new Map<string, bigint>([
    ['kSecond', 1000n * MILLISECOND],
    ['kMillisecond', MILLISECOND],
    ['UINT64_MAX', 2n ** 64n - 1n],
  ]);
  const found = new Map<string, { value: bigint; time: boolean }>();
  for (const [, type, name, expression] of header.matchAll(
    /inline constexpr (\w+) (\w+) =\s*([^;{]*(?:\{\d+\})?[^;]*);/g,
  )) {
    if (type === undefined || name === undefined || expression === undefined) continue;
    if (expression.includes('0x')) continue; // a traffic class
    const value = evaluate(expression, known);
    known.set(name, value);
    found.set(name, { value, time: type === 'Nanoseconds' });
  }
  return found;
}

for (const [name, value] of Object.entries({ MAX_PADDED_SIZE, MAX_PADDED_SIZES }))
  test(`${name} is the same in TypeScript and in C++`, () => {
    const header = readFileSync(new URL('../../../native/session/shaping.h', import.meta.url), 'utf8');
    const [, other] = new RegExp(` ${nativeName(name)} = (\\d+);`).exec(header) ?? [];
    assert.equal(Number(other), value);
  });

const native = nativeConstants();

for (const [name, value] of Object.entries(constants)) {
  test(`${name} is the same in TypeScript and in C++`, () => {
    const other = native.get(nativeName(name));
    assert.ok(other !== undefined, `native/session/constants.h has no ${nativeName(name)}`);
    assert.equal(BigInt(value) * (other.time ? MILLISECOND : 1n), other.value);
  });
}

test('what the whitepaper fixes is what it says (section 6.1)', () => {
  assert.equal(constants.REKEY_AFTER_TIME, 120_000);
  assert.equal(constants.REJECT_AFTER_TIME, 180_000);
  assert.equal(constants.REKEY_ATTEMPT_TIME, 90_000);
  assert.equal(constants.REKEY_TIMEOUT, 5_000);
  assert.equal(constants.KEEPALIVE_TIMEOUT, 10_000);
  assert.equal(constants.REKEY_AFTER_MESSAGES, 2n ** 60n);
  assert.equal(constants.REJECT_AFTER_MESSAGES, 2n ** 64n - 2n ** 13n - 1n);
});
