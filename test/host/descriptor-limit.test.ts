// The limit on open files, as the kernel writes it.

import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { it } from 'node:test';
import {
  descriptorLimit,
  DescriptorReserve,
  freeDescriptors,
  SPARE_DESCRIPTORS,
} from '../../ts/host/descriptor-limit.js';

it('the limit on open files is read, and what is open counts against it', () => {
  const line = (soft: string): string =>
    `Limit                     Soft Limit           Hard Limit           Units     \nMax open files            ${soft.padEnd(20)} 1048576              files     \n`;
  assert.equal(descriptorLimit(line('1024')), 1024);
  assert.equal(descriptorLimit(line('unlimited')), Infinity);
  assert.equal(descriptorLimit('nothing of it'), Infinity);
  const before = freeDescriptors();
  const opened = Array.from({ length: 64 }, () => openSync('/dev/null', 'r'));
  const after = freeDescriptors();
  opened.forEach(closeSync);
  // Others of this process may come and go meanwhile.
  assert.ok(before === Infinity || (before - after > 32 && before - after < 96), `${before} ${after}`);
});

it('what others ask for leaves some to the rest of the process, also between two looks', () => {
  let free = SPARE_DESCRIPTORS + 5;
  let now = 0;
  const reserve = new DescriptorReserve(
    () => free,
    () => now,
  );
  const taken = (): number => {
    let count = 0;
    while (count < 100 && reserve.take(2)) count++;
    return count;
  };
  assert.equal(taken(), 2);
  free += 4;
  assert.equal(taken(), 0, 'it has not been looked yet');
  now += 1000;
  assert.equal(taken(), 4);
});
