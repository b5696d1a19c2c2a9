// What one client may have, and how often it may guess.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { BARRED_MS, ClientShares, MAX_GUESSES, PasswordGuesses } from '../../ts/exit/client-shares.js';

describe('a client', () => {
  it('has its share and no more, by address, of IPv6 by /64, and gives back once', () => {
    const shares = new ClientShares(2);
    for (const [own, same, other] of [
      ['192.0.2.1', '192.0.2.1', '192.0.2.2'],
      ['2001:db8::1', '2001:db8::2', '2001:db8:0:1::1'],
      ['fe80::1%eth0', 'fe80::1%eth0', '198.51.100.1'],
    ] as const) {
      const first = shares.take(own);
      assert.ok(first && shares.take(same));
      assert.equal(shares.take(own), undefined);
      assert.ok(shares.take(other));
      first();
      first();
      assert.ok(shares.take(own));
      assert.equal(shares.take(same), undefined);
    }
    for (let taken = 0; taken < 10; taken++) assert.ok(shares.take('127.0.0.1') && shares.take('::1'));
  });

  it('that gives wrong passwords in a row waits, and others do not', () => {
    let now = 0;
    const guesses = new PasswordGuesses(() => now);
    for (let guess = 1; guess < MAX_GUESSES; guess++) guesses.wrong('192.0.2.1');
    assert.equal(guesses.isBarred('192.0.2.1'), false);
    guesses.wrong('192.0.2.1');
    assert.deepEqual([guesses.isBarred('192.0.2.1'), guesses.isBarred('192.0.2.2')], [true, false]);
    now += BARRED_MS;
    assert.equal(guesses.isBarred('192.0.2.1'), false);
    for (let guess = 1; guess < MAX_GUESSES; guess++) guesses.wrong('192.0.2.1');
    guesses.right('192.0.2.1');
    guesses.wrong('192.0.2.1');
    assert.equal(guesses.isBarred('192.0.2.1'), false);
    // Whoever comes by many addresses is not remembered for ever.
    for (let each = 0; each < 5000; each++) guesses.wrong(`10.0.${each >> 8}.${each & 255}`);
    for (let guess = 0; guess < MAX_GUESSES; guess++) guesses.wrong('192.0.2.9');
    assert.equal(guesses.isBarred('192.0.2.9'), true);
  });
});
