import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { removeStaleControlSockets } from '../../ts/lab/control-sockets.js';

test('sockets of labs that were killed are removed, and nobody else’s', () => {
  const folder = mkdtempSync(join(tmpdir(), 'omerta-sockets-'));
  try {
    const ended = spawnSync(process.execPath, ['--version']).pid;
    const stale = [`omwg${ended}x1.sock`, `omwg${ended}x12.sock`];
    const kept = [`omwg${process.pid}x1.sock`, 'wg0.sock', `omwg${ended}x1`, `xomwg${ended}x1.sock`];
    for (const name of [...stale, ...kept]) writeFileSync(join(folder, name), '');
    removeStaleControlSockets(folder);
    const left = (name: string): boolean => existsSync(join(folder, name));
    assert.deepEqual([stale.filter(left), kept.filter(left)], [[], kept]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
