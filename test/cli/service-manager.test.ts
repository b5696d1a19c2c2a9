// What the service manager is told, as systemd would hear it: by a real relay.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test, type TestContext } from 'node:test';
import { temporaryDirectory } from '../daemon/temporary.js';
import { addonMissing } from '../engine/addon.js';
import { until } from '../wg/wg-lab.js';
import { freeUdpPort, start } from './run-omerta.js';

/** Prints each datagram as a line of JSON. Node.js has no such sockets. */
const MANAGER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', '\\0', 1))
print(json.dumps('bound'), flush=True)
while True: print(json.dumps(s.recv(65536).decode()), flush=True)
`;

const unavailable = ((): string | undefined => {
  try {
    execFileSync('python3', ['--version']);
  } catch {
    return 'needs python3: apt install python3';
  }
  return addonMissing();
})();

async function manager(t: TestContext, socket: string): Promise<string[]> {
  const heard: string[] = [];
  const child = spawn('python3', ['-c', MANAGER, socket], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  createInterface({ input: child.stdout }).on('line', (line) => heard.push(JSON.parse(line) as string));
  await until('the manager listens', () => heard.shift() === 'bound');
  return heard;
}

describe('the service manager', { skip: unavailable ?? false }, () => {
  for (const kind of ['a path', 'an abstract name'] as const)
    test(`at ${kind} is told that a relay serves, that it lives, and that it ends`, async (t) => {
      const folder = temporaryDirectory(t);
      const socket = kind === 'a path' ? join(folder, 'notify') : `@omerta-test-${process.pid}`;
      const heard = await manager(t, socket);
      const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '200000' };
      const words = ['relay', '--port', String(await freeUdpPort()), '--status', 'off'];
      const relay = start(['--state', join(folder, 'state'), ...words], { env });
      t.after(() => relay.kill('SIGKILL'));
      await until('it serves', () => heard.includes('READY=1\nSTATUS=ready'));
      await until('it lives', () => heard.filter((text) => text === 'WATCHDOG=1').length >= 3);
      relay.kill('SIGTERM');
      await once(relay, 'exit');
      await until('it ends', () => heard.at(-1) === 'STOPPING=1\nSTATUS=ending');
    });

  test('that is gone is complained of once, and the relay serves', async (t) => {
    const folder = temporaryDirectory(t);
    const env = { NOTIFY_SOCKET: join(folder, 'gone'), WATCHDOG_USEC: '100000' };
    const words = ['relay', '--port', String(await freeUdpPort()), '--status', 'off'];
    const relay = start(['--state', join(folder, 'state'), ...words], { env });
    t.after(() => relay.kill('SIGKILL'));
    let [said, log] = ['', ''];
    relay.stdout?.on('data', (chunk) => (said += String(chunk)));
    relay.stderr?.on('data', (chunk) => (log += String(chunk)));
    await until('it serves', () => said.includes('omerta://join/'));
    await until('it says so', () => log.includes('service-manager-not-told'));
    relay.kill('SIGTERM');
    assert.deepEqual(await once(relay, 'exit'), [0, null]);
    assert.equal(log.split('service-manager-not-told').length, 2, log);
    assert.match(log, /ENOENT/);
  });
});
