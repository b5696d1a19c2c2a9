import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  EngineError,
  type Engine,
  type EngineErrorCode,
  type EngineOptions,
} from '../../ts/contract/engine.js';
import { openEngine } from '../../ts/engine/open-engine.js';
import { engineFailure } from '../../ts/daemon/lifecycle/engine-failure.js';
import { OperatorError } from '../../ts/host/operator-error.js';
import { hasNetAdmin, tunAccess } from '../../ts/host/tun-access.js';
import { FakeEngine } from './fake-engine.js';

const options: EngineOptions = {
  privateKey: new Uint8Array(32),
  port: 0,
  maxLegs: 1,
  maxPeers: 1,
  controlFramesPerSecond: 1,
};
const tun = { name: 'omerta0', addresses: [], mtu: 1400 };
const native = new FakeEngine(1);
const wasm = new FakeEngine(2);

function engines(failure?: EngineErrorCode): { native: () => Promise<Engine>; wasm: () => Promise<Engine> } {
  return {
    native: () =>
      failure === undefined ? Promise.resolve(native) : Promise.reject(new EngineError(failure, 'no addon')),
    wasm: () => Promise.resolve(wasm),
  };
}

describe('choice of engine', () => {
  test('auto takes the native engine where it loads', async () => {
    assert.deepEqual(await openEngine('auto', options, engines()), { engine: native, fallback: undefined });
  });
  test('auto takes the wasm engine where it does not, and says why', async () => {
    assert.deepEqual(await openEngine('auto', options, engines('ENGINE_UNAVAILABLE')), {
      engine: wasm,
      fallback: 'no addon',
    });
  });
  test('a port in use is no reason for another engine', async () => {
    await assert.rejects(openEngine('auto', options, engines('PORT_IN_USE')), { code: 'PORT_IN_USE' });
  });
  test('native means native', async () => {
    await assert.rejects(openEngine('native', options, engines('ENGINE_UNAVAILABLE')), {
      code: 'ENGINE_UNAVAILABLE',
    });
  });
  test('a TUN interface needs the native engine', async () => {
    for (const inside of [{ tun }, { stack: { addresses: [], mtu: 1400 } }]) {
      await assert.rejects(
        openEngine('auto', { ...options, ...inside }, engines('ENGINE_UNAVAILABLE')),
        /no addon/,
      );
      await assert.rejects(
        openEngine('wasm', { ...options, ...inside }, engines()),
        /the wasm engine has no/,
      );
    }
    await assert.rejects(
      openEngine('wasm', { ...options, tun }, engines()),
      /no TUN interface: use --engine native/,
    );
    assert.equal((await openEngine('wasm', options, engines())).engine, wasm);
  });
});

describe('engine errors', () => {
  const table: readonly [EngineErrorCode, exitCode: number, text: RegExp][] = [
    ['PORT_IN_USE', 1, /^port: UDP port 51900 is taken .*--port N/],
    ['BIND_FAILED', 1, /^bind: 192\.0\.2\.1 cannot be bound.*--bind ADDR/],
    ['TUN_PERMISSION', 4, /^tun: .*sudo omerta up/],
    ['TUN_FAILED', 1, /^tun: .*interface = /],
    ['ENGINE_UNAVAILABLE', 1, /^engine: .*npm run build/],
    ['BAD_ARGUMENT', 1, /^engine: .*omerta doctor/],
  ];
  for (const [code, exitCode, text] of table)
    test(`${code} ends with exit code ${exitCode} and says what to type`, () => {
      const failure = engineFailure(new EngineError(code, 'detail'), {
        port: 51900,
        bind: '192.0.2.1',
        state: '/state',
        ownTunnel: true,
      });
      assert.ok(failure instanceof OperatorError);
      assert.equal(failure.exitCode, exitCode);
      assert.match(failure.message, text);
    });

  test('a missing capability and a missing device are both named with their command', () => {
    const without = 'Name:\tnode\nCapEff:\t0000000000000000\n';
    const withAdmin = 'CapEff:\t0000000000001000\n';
    assert.deepEqual([hasNetAdmin(without), hasNetAdmin(withAdmin), hasNetAdmin('')], [false, true, false]);
    const device = { reason: '/dev/net/tun does not exist', remedy: 'sudo modprobe tun' };
    assert.deepEqual(tunAccess(without, device, '/usr/bin/node'), {
      ok: false,
      reason: 'the capability CAP_NET_ADMIN is missing, and /dev/net/tun does not exist',
      remedy: 'sudo setcap cap_net_admin+ep /usr/bin/node && sudo modprobe tun',
    });
    assert.equal(tunAccess(withAdmin, undefined, '/usr/bin/node').ok, true);
  });
});
