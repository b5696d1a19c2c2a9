// What the addon says in codes, worded: failures to open, and the reasons of accelerators.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EngineError } from '../../ts/contract/engine.js';
import { acceleratorOf, acceleratorsOf, faultWords } from '../../ts/engine/native/accelerators.js';
import type { NativeAccelerator, NativeDescription } from '../../ts/engine/native/native-addon.js';
import { openFailure } from '../../ts/engine/native/open-failure.js';

/** What the addon throws; its own message is in the words of the C library, and counts for nothing. */
function failed(step: string, errno: number, subject = ''): Error {
  return Object.assign(new Error('in whatever words'), { code: 'STEP_FAILED', step, subject, errno });
}

function told(error: unknown): readonly [string, string] {
  const failure = openFailure(error, 51900);
  assert.ok(failure instanceof EngineError, String(failure));
  return [failure.code, failure.message];
}

const accelerator = (change: Partial<NativeAccelerator>): NativeAccelerator => ({
  ...{ name: 'io-uring', state: 'unavailable', reason: 'failed', detail: '', number: 0 },
  ...change,
});

describe('what the native engine could not open', () => {
  it('is told by the step and the errno', () => {
    assert.deepEqual(told(failed('tun-create', 1, 'wg0')), [
      'TUN_PERMISSION',
      'tun: create interface wg0: operation not permitted',
    ]);
    assert.deepEqual(told(failed('tun-device', 2, '/dev/net/tun')), [
      'TUN_PERMISSION',
      'tun: open /dev/net/tun: no such file or directory',
    ]);
    assert.equal(told(failed('tun-create', 16, 'wg0'))[0], 'TUN_FAILED');
    assert.equal(told(failed('bind', 98))[0], 'PORT_IN_USE');
    assert.deepEqual(told(failed('bind', 99)), ['BIND_FAILED', 'bind: address not available']);
    assert.deepEqual(told(failed('socket', 97)), [
      'BIND_FAILED',
      'bind: socket: address family not supported',
    ]);
    assert.deepEqual(told(failed('fwmark', 1)), [
      'BAD_ARGUMENT',
      'fwmark: operation not permitted (needs CAP_NET_ADMIN)',
    ]);
  });

  it('is none of the engine’s errors when it is no step', () => {
    const error = new Error('bind: Address already in use');
    assert.equal(openFailure(error, 51900), error);
  });
});

describe('the reason of an accelerator', () => {
  it('has a remedy where something can be typed', () => {
    const sysctl = acceleratorOf(
      accelerator({ reason: 'sysctl', detail: 'kernel.io_uring_disabled', number: 2 }),
    );
    assert.equal(sysctl.reason, 'switched off: kernel.io_uring_disabled = 2');
    assert.equal(sysctl.remedy, 'sudo sysctl -w kernel.io_uring_disabled=0');
    const missing = accelerator({ name: 'ipsec-mb', reason: 'not-installed', detail: 'libIPSec_MB.so.1' });
    assert.equal(acceleratorOf(missing).remedy, 'sudo apt-get install libipsec-mb1');
    assert.equal(acceleratorOf(accelerator({ reason: 'needs-linux', detail: '6.1' })).remedy, undefined);
  });

  it('is a fault when it was demoted, in words for that accelerator', () => {
    const demoted = acceleratorOf(
      accelerator({ name: 'udp-gso', state: 'demoted', reason: 'refused' }),
    ).reason;
    assert.equal(demoted, 'the kernel refused segmented messages and took their datagrams');
    assert.match(faultWords('tun-tcp-offload', 'refused'), /super-packets/);
    assert.match(faultWords('ipsec-mb', 'corrupted'), /OpenSSL is used instead/);
    assert.equal(faultWords('udp-gso', 'of-a-newer-addon'), 'of-a-newer-addon');
  });

  it('says towards how many peers segmented messages are not used, and what was switched off', () => {
    const native: NativeDescription = {
      ...{ workers: 1, indexSlots: 16, aead: '', peersWithoutGso: 2 },
      accelerators: [
        accelerator({ name: 'io-uring', state: 'off', reason: 'mmsg-asked-for' }),
        accelerator({ name: 'udp-gso', state: 'on', reason: 'self-test-passed', number: 145 }),
      ],
    };
    const all = acceleratorsOf(native, new Set(['io-uring']));
    assert.deepEqual(
      all.map(({ name, reason }) => [name, reason.replace(/, where.*/, '')]),
      [
        ['io-uring', 'switched off'],
        ['wide-window', 'replay window of 65472 packets with peers that agree'],
        ['udp-gso', '145 datagrams came unchanged over loopback; not used towards 2 peers'],
      ],
    );
  });
});
