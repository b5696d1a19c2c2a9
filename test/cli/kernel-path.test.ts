import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { loadXdpAddon } from '../../ts/engine/xdp/xdp-addon.js';
import { usableInterfaces } from '../../ts/engine/xdp/kernel-path-engine.js';
import type { InterfaceFacts } from '../../ts/engine/xdp/xdp-addon.js';
import { temporaryDirectory } from '../daemon/temporary.js';
import { freeUdpPort, omerta } from './run-omerta.js';

/** Why privileges cannot be given up here, or there is no XDP module to try. */
function unavailable(): string | false {
  if (process.getuid?.() !== 0) return 'needs root, to give capabilities up';
  try {
    loadXdpAddon();
    return false;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

const WITHOUT = ['bpf', 'net_admin', 'perfmon', 'sys_admin'];
/** No interface of this name: nothing of this machine is touched whatever happens. */
const NOWHERE = ['--accel-interface', 'omnone0', '--status', 'off'];

describe('the kernel path on the command line', () => {
  for (const [args, complaint] of [
    [['--accel', 'fast'], /^omerta: --accel: "fast" is not "auto", "xdp", "native" or "wasm"/],
    [
      ['--accel', 'xdp', '--accel-mode', 'turbo'],
      /^omerta: --accel-mode: "turbo" is not "native" or "generic"/,
    ],
    [
      ['--accel', 'xdp', '--accel-interface', 'a/b'],
      /^omerta: --accel-interface: "a\/b" is not an interface name/,
    ],
    [['--accel', 'xdp', '--engine', 'wasm'], /^omerta: accel: "xdp" needs the native engine/],
  ] as const)
    test(`${args.join(' ')} is refused with exit code 2`, async (t) => {
      const state = join(temporaryDirectory(t), 'state');
      const outcome = await omerta(['--state', state, 'relay', ...args]);
      assert.equal(outcome.code, 2);
      assert.match(outcome.stderr, complaint);
    });

  test(
    'without privileges --accel xdp ends with exit code 4 and says what is missing',
    { skip: unavailable() },
    async (t) => {
      const state = join(temporaryDirectory(t), 'state');
      const port = String(await freeUdpPort());
      const args = ['--state', state, 'relay', '--port', port, '--accel', 'xdp', ...NOWHERE];
      const outcome = await omerta(args, { without: WITHOUT });
      assert.equal(outcome.code, 4, outcome.stderr);
      assert.match(
        outcome.stderr,
        /omerta: accel: there is no kernel path \(loading a BPF program is not permitted\)\. Type: run it as root/,
      );
    },
  );

  test(
    'without privileges --accel auto goes on through the sockets with one line',
    { skip: unavailable() },
    async (t) => {
      const state = join(temporaryDirectory(t), 'state');
      const port = String(await freeUdpPort());
      const args = ['--state', state, 'relay', '--port', port, '--accel', 'auto', ...NOWHERE];
      const running = omerta(args, { without: WITHOUT });
      for (let i = 0; i < 100 && (await omerta(['--state', state, 'status'])).code !== 0; i++);
      assert.equal((await omerta(['--state', state, 'down'])).code, 0);
      const { code, stderr, stdout } = await running;
      assert.equal(code, 0, stderr);
      assert.equal(stderr.match(/kernel-path-off/g)?.length, 1, stderr);
      assert.match(stdout, /why not XDP +loading a BPF program is not permitted/);
    },
  );

  test('relay stop says that nothing runs, and refuses a port that is none', async (t) => {
    const state = join(temporaryDirectory(t), 'state');
    assert.equal((await omerta(['--state', state, 'relay', 'stop'])).code, 3);
    const wrong = await omerta(['--state', state, 'relay', 'stop', '--unload', '--port', '0']);
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /--port: "0" is not a UDP port/);
  });
});

describe('interfaces that are taken when none are named', () => {
  const facts = (name: string, more: Partial<InterfaceFacts> = {}): InterfaceFacts => ({
    ...{ name, mtu: 1500, up: true, ethernet: true, driver: 'x', receiveQueues: 1, transmitQueues: 1 },
    ...{ receiveRing: 0, transmitRing: 0, nativeXdp: true, programId: 0, generic: false },
    ...more,
  });
  const all = [
    facts('eth0'),
    facts('down0', { up: false }),
    facts('tun0', { ethernet: false }),
    facts('wlan0', { nativeXdp: false }),
    facts('bare0'),
  ];
  const addressed = ['eth0', 'down0', 'tun0', 'wlan0'];

  test('are up, Ethernet, have an address and a driver with XDP', () => {
    assert.deepEqual(usableInterfaces(all, addressed, 'native'), ['eth0']);
  });
  test('need no such driver in generic mode', () => {
    assert.deepEqual(usableInterfaces(all, addressed, 'generic'), ['eth0', 'wlan0']);
  });
});
