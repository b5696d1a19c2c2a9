import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HostChecks } from '../../ts/daemon/lifecycle/host-checks.js';

describe('checks of the host', () => {
  /** How often one was made within 60 s, every second being asked. */
  function made(told: boolean, inOrder: boolean): number {
    const checks = new HostChecks();
    let count = 0;
    checks.add(2000, () => {
      count++;
      return inOrder;
    });
    for (let now = 0; now < 60_000; now += 1000) checks.tick(now, told);
    return count;
  }

  test('are made at their interval where nobody tells of changes, or not all is in order', () => {
    assert.deepEqual([made(false, true), made(true, false)], [30, 30]);
  });

  test('are seldom where changes are told and all is in order', () => {
    assert.equal(made(true, true), 2);
  });

  test('are made at once when something has changed, each of them', () => {
    const checks = new HostChecks();
    const seen: string[] = [];
    for (const name of ['addresses', 'tunnel'])
      checks.add(1000, () => {
        seen.push(name);
        return true;
      });
    checks.tick(0, true);
    checks.tick(1000, true);
    checks.changed(1500);
    assert.deepEqual(seen, ['addresses', 'tunnel', 'addresses', 'tunnel']);
  });

  test('are made again at their interval after one that failed', () => {
    const checks = new HostChecks();
    let failing = true;
    let count = 0;
    checks.add(1000, () => {
      count++;
      if (failing) throw new Error('no /proc');
      return true;
    });
    assert.throws(() => checks.tick(0, true), /no .proc/);
    failing = false;
    for (let now = 1000; now < 5000; now += 1000) checks.tick(now, true);
    assert.equal(count, 2);
  });
});
