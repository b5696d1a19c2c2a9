// What `omerta doctor` says of the kernel path: whether XDP can be had here, and on which interfaces.

import { existsSync, readFileSync, statfsSync } from 'node:fs';
import { XdpError, callXdp, loadXdpAddon, type InterfaceFacts } from '../../engine/xdp/xdp-addon.js';
import type { Check } from './diagnosis.js';
import { hostSettings, pollDeferralUs } from '../../host/host-tuning.js';

const BPF_FILE_SYSTEM = 0xcafe4a11; // linux/magic.h, BPF_FS_MAGIC
const NAME = 'kernel path';

function optional(name: string, ok: boolean, detail: string, remedy?: string): Check {
  return { name, ok, required: false, detail, remedy };
}

/** Runs the self-test: it loads a program of its own, which is gone when it ends. */
function selfTestCheck(): Check {
  try {
    const packets = callXdp(() => loadXdpAddon().selfTest());
    return optional(
      NAME,
      true,
      `XDP: self-test of ${packets} packets passed; omerta relay --accel auto uses it`,
    );
  } catch (error) {
    if (!(error instanceof XdpError)) throw error;
    return optional(NAME, false, error.message, error.remedy);
  }
}

function fileSystemCheck(): Check {
  const mounted = (): boolean => {
    try {
      return statfsSync('/sys/fs/bpf').type === BPF_FILE_SYSTEM;
    } catch {
      return false;
    }
  };
  return mounted()
    ? optional('bpf file system', true, 'mounted at /sys/fs/bpf')
    : optional(
        'bpf file system',
        false,
        'not mounted: nothing in the kernel could outlive the daemon',
        'sudo mount -t bpf bpf /sys/fs/bpf',
      );
}

/** What of the kernel's the program is built on, or slow without. */
function featureCheck(): Check {
  const name = 'kernel features';
  if (!existsSync('/sys/kernel/btf/vmlinux'))
    return optional(name, false, 'no type information (BTF)', 'use a kernel with CONFIG_DEBUG_INFO_BTF=y');
  let jit: string | undefined;
  try {
    jit = readFileSync('/proc/sys/net/core/bpf_jit_enable', 'utf8').trim();
  } catch {
    // A kernel without the switch, or no right to look: neither keeps the program from running.
  }
  if (jit === '0')
    return optional(
      name,
      false,
      'BTF; BPF programs are interpreted, which is slow',
      'sudo sysctl -w net.core.bpf_jit_enable=1',
    );
  const forwarding = callXdp(() => loadXdpAddon().forwardingEnabled());
  return optional(
    name,
    true,
    [
      'BTF',
      jit === undefined ? 'JIT not known' : 'JIT',
      `route look-ups ${forwarding ? 'on' : 'off until a relay with --accel starts'}`,
    ].join('; '),
  );
}

/** An interface as one line. */
export function describeInterface(facts: InterfaceFacts, deferralUs: number): string {
  const { driver, mtu, receiveQueues, transmitQueues, receiveRing, transmitRing, nativeXdp } = facts;
  const xdp = nativeXdp === undefined ? 'native XDP not known' : nativeXdp ? 'native XDP' : 'no native XDP';
  return [
    `${driver === '' ? 'driver not known' : driver}, ${xdp}`,
    ...(nativeXdp === true && facts.redirectXdp === false
      ? ['sends redirected frames only once a program is attached']
      : []),
    `MTU ${mtu}`,
    ...(receiveQueues > 0 ? [`queues ${receiveQueues} in, ${transmitQueues} out`] : []),
    ...(receiveRing > 0 ? [`rings ${receiveRing} in, ${transmitRing} out`] : []),
    ...(deferralUs > 0 ? [`polls deferred by up to ${deferralUs} µs`] : []),
    facts.programId === 0
      ? 'no program attached'
      : `program ${facts.programId} attached in ${facts.generic ? 'generic' : 'native'} mode`,
  ].join('; ');
}

function interfaceCheck(facts: InterfaceFacts): Check {
  return optional(
    `xdp ${facts.name}`,
    facts.nativeXdp !== false,
    describeInterface(facts, pollDeferralUs(facts.name, hostSettings)),
    facts.nativeXdp === false ? `omerta relay --accel auto --accel-mode generic (slow)` : undefined,
  );
}

/** All checks of the kernel path. */
export function kernelPathChecks(): Check[] {
  const first = selfTestCheck();
  let interfaces: readonly InterfaceFacts[];
  try {
    interfaces = callXdp(() => loadXdpAddon().interfaces());
  } catch {
    return [first]; // the module does not load, as the check says
  }
  return [
    first,
    featureCheck(),
    fileSystemCheck(),
    ...interfaces.filter(({ ethernet, up }) => ethernet && up).map(interfaceCheck),
  ];
}
