// As whom a machine runs: nobody else of the host.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { machineUser, runningUsers } from '../../ts/provider/machine/confinement.js';

const [FIRST, LAST] = [61_184, 65_519];
const skip = process.getuid?.() === 0 ? false : 'needs root, to choose a user';

describe('the user of a machine', { skip }, () => {
  it('is none that has a marker, and none that a process runs as', async () => {
    const other = 61_500;
    const free = [61_501, 61_502, 61_503, 61_504]; // a machine of another test may have one of them
    const child = spawn('sh', ['-c', 'echo up; exec sleep 1000'], {
      uid: other,
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      await once(child.stdout, 'data');
      assert.ok(runningUsers().has(other));
      const all = Array.from({ length: LAST - FIRST + 1 }, (_, at) => FIRST + at);
      const taken = all.filter((user) => user !== other && !free.includes(user));
      for (let turns = 0; turns < 50; turns++) assert.ok(free.includes(machineUser(taken) ?? 0));
    } finally {
      child.kill('SIGKILL');
    }
  });
});
