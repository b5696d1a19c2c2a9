// The native engine's accelerators: their names, and words for the reasons the addon gives as codes.

import { getSystemErrorMap } from 'node:util';
import type { Accelerator } from '../../contract/engine.js';
import type { NativeAccelerator, NativeDescription, NativeFault, NativeReason } from './native-addon.js';

/** Names of the optional accelerators, as `disable` and `describe()` use them. */
export const NATIVE_ACCELERATORS = [
  'ipsec-mb',
  'io-uring',
  'aes-256-gcm',
  'wide-window',
  'udp-gro',
  'udp-gso',
  'tun-checksum-offload',
  'steering',
  'tun-tcp-offload',
  'tun-udp-offload',
] as const;

/** A receive buffer below this loses bursts at rates where a worker is descheduled for a few ms. */
const WANTED_BUFFER_BYTES = 7 << 20;

/** What the kernel calls an errno. */
export function errnoWords(errno: number): string {
  return getSystemErrorMap().get(-errno)?.[1] ?? `error ${errno}`;
}

/** Why an accelerator was given up while the engine ran. An unknown code, of a newer addon, is its own word. */
export function faultWords(name: string, fault: string): string {
  const words: Readonly<Record<NativeFault, string>> = {
    refused:
      name === 'udp-gso'
        ? 'the kernel refused segmented messages and took their datagrams'
        : 'the kernel refused super-packets and took their packets',
    lost: 'a handshake sent at the end of a segmented message was lost twice, and answered when it was sent alone',
    'lost-to-peer':
      'towards one peer: a handshake sent at the end of a segmented message was lost twice, and answered when it was sent alone',
    corrupted:
      name === 'ipsec-mb'
        ? 'a packet with a known answer came out wrong; OpenSSL is used instead'
        : 'datagrams that arrived coalesced did not open, and did without coalescing',
    'wrong-header': 'the kernel handed over super-packets whose headers cannot be',
    broken: 'the kernel refused a call of the ring; recvmmsg and sendmmsg are used instead',
  };
  return (words as Readonly<Record<string, string>>)[fault] ?? fault;
}

/** A self-test that sends something: the way it goes, what it is said to be on, and what passes. */
interface PassageTest {
  readonly way: string;
  readonly on: string;
  readonly what: string;
}

const LOOPBACK_TEST: PassageTest = { way: 'over loopback', on: 'over loopback', what: 'datagrams' };
const INTERFACE_TEST: PassageTest = {
  way: 'through a scratch interface',
  on: 'on a scratch interface',
  what: 'datagrams',
};

const PASSAGE_TESTS = new Map<string, PassageTest>([
  ['io-uring', LOOPBACK_TEST],
  ['udp-gro', LOOPBACK_TEST],
  ['udp-gso', LOOPBACK_TEST],
  ['tun-checksum-offload', INTERFACE_TEST],
  ['tun-tcp-offload', { ...INTERFACE_TEST, what: 'a TCP stream' }],
  ['tun-udp-offload', INTERFACE_TEST],
]);

function passedWords({ name, detail, number }: NativeAccelerator): string {
  if (name === 'io-uring') return 'io_uring was asked for; its self-test over loopback passed';
  const test = PASSAGE_TESTS.get(name);
  if (test === undefined) return `self-test passed, ${detail}`;
  return `${number > 0 ? `${number} ` : ''}${test.what} came unchanged ${test.way}`;
}

function failedWords({ name, detail }: NativeAccelerator): string {
  const test = PASSAGE_TESTS.get(name);
  return test === undefined ? `its self-test failed: ${detail}` : `self-test ${test.on}: ${detail}`;
}

function measuredWords({ state, detail, number }: NativeAccelerator): string {
  const [ring = '', mmsg = ''] = detail.split(' ');
  const figures = `ns a datagram, single/burst/bulk: ${ring} against ${mmsg}`;
  const consequence = state === 'on' ? 'so it is used' : 'below 0.90 it would be used';
  return `measured: io_uring takes ${number.toFixed(2)} of mmsg's CPU (${figures}), ${consequence}`;
}

/** Why an accelerator is on or not, and what to type when something helps. */
function reasonWords(native: NativeAccelerator): { reason: string; remedy?: string } {
  const { name, detail, number } = native;
  const words: Readonly<Record<NativeReason, () => { reason: string; remedy?: string }>> = {
    'switched-off': () => ({ reason: 'switched off' }),
    'mmsg-asked-for': () => ({ reason: 'mmsg was asked for' }),
    'one-worker': () => ({ reason: 'one worker needs none' }),
    steered: () => ({ reason: 'a session or leg stays with one worker' }),
    'self-test-passed': () => ({ reason: passedWords(native) }),
    'self-test-failed': () => ({ reason: failedWords(native) }),
    untested: () => ({ reason: `not tested: ${detail}` }),
    'untested-without': () => ({ reason: `not tested: that needs ${detail}` }),
    'nothing-passes': () => ({
      reason: `not tested: nothing passes ${PASSAGE_TESTS.get(name)?.way ?? ''} here`,
    }),
    measured: () => ({ reason: measuredWords(native) }),
    needs: () => ({ reason: `needs ${detail}` }),
    'needs-linux': () => ({ reason: `needs Linux ${detail}` }),
    'needs-cpu': () => ({ reason: `the CPU has no ${detail}` }),
    'not-installed': () => ({
      reason: `${detail} is not installed`,
      remedy: 'sudo apt-get install libipsec-mb1',
    }),
    'not-built-in': () => ({
      reason: `${detail} was missing when this was built`,
      remedy: `sudo apt-get install ${detail === 'liburing' ? 'liburing-dev' : 'libipsec-mb-dev'} && npm run build`,
    }),
    sysctl: () => ({
      reason: `switched off: ${detail} = ${number}`,
      remedy: `sudo sysctl -w ${detail}=0`,
    }),
    forbidden: () => ({
      reason: 'io_uring is forbidden to this process, most likely by a seccomp filter',
      remedy:
        "allow io_uring_setup, io_uring_enter and io_uring_register in the container's or unit's seccomp filter",
    }),
    'locked-memory': () => ({
      reason: 'too little memory may be locked',
      remedy: 'raise the limit of locked memory (ulimit -l)',
    }),
    'call-refused': () => ({ reason: `${detail}: ${errnoWords(number)}` }),
    failed: () => ({ reason: `it is refused: ${detail}` }),
  };
  const known = (words as Readonly<Record<string, (() => { reason: string; remedy?: string }) | undefined>>)[
    native.reason
  ];
  return known?.() ?? { reason: faultWords(name, native.reason) };
}

export function acceleratorOf(native: NativeAccelerator): Accelerator {
  const { reason, remedy } = reasonWords(native);
  return { name: native.name, state: native.state, reason, remedy };
}

/** All of an engine's, in the order of NATIVE_ACCELERATORS, and its socket buffers. */
export function acceleratorsOf(native: NativeDescription, disabled: ReadonlySet<string>): Accelerator[] {
  const wideWindow = disabled.has('wide-window')
    ? ({ state: 'off', reason: 'switched off' } as const)
    : ({ state: 'on', reason: 'replay window of 65472 packets with peers that agree' } as const);
  const found = [
    ...native.accelerators.map((one) => {
      const off = disabled.has(one.name) && one.state === 'off';
      return withPeers(acceleratorOf(off ? { ...one, reason: 'switched-off' } : one), native.peersWithoutGso);
    }),
    { name: 'wide-window', ...wideWindow, remedy: undefined },
  ];
  const order: readonly string[] = NATIVE_ACCELERATORS;
  found.sort((one, other) => order.indexOf(one.name) - order.indexOf(other.name));
  return [...found, ...buffersOf(native)];
}

function withPeers(accelerator: Accelerator, peers: number): Accelerator {
  if (accelerator.name !== 'udp-gso' || accelerator.state === 'demoted' || peers === 0) return accelerator;
  const where = `${peers} ${peers === 1 ? 'peer' : 'peers'}, where ${faultWords('udp-gso', 'lost')}`;
  return { ...accelerator, reason: `${accelerator.reason}; not used towards ${where}` };
}

function buffersOf({ receiveBufferBytes, sendBufferBytes }: NativeDescription): Accelerator[] {
  if (receiveBufferBytes === undefined || sendBufferBytes === undefined) return [];
  const granted = Math.min(receiveBufferBytes, sendBufferBytes) >= WANTED_BUFFER_BYTES;
  return [
    {
      name: 'udp-buffers',
      state: granted ? 'on' : 'unavailable',
      reason: `receive ${receiveBufferBytes >> 10} KiB, send ${sendBufferBytes >> 10} KiB`,
      remedy: granted
        ? undefined
        : `sudo sysctl -w net.core.rmem_max=${WANTED_BUFFER_BYTES} net.core.wmem_max=${WANTED_BUFFER_BYTES}`,
    },
  ];
}
