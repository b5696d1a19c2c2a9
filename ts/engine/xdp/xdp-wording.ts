// Why the kernel path is not there, in words, and what to type. The addon speaks codes (native/xdp/xdp_error.h).

import { errnoWords } from '../native/accelerators.js';

/** As the addon says it. */
export interface XdpReason {
  /** XdpError::name() of native/xdp/xdp_error.h, which says what the other two are. */
  readonly code: string;
  readonly detail: string;
  readonly number: number;
}

/** The interface that a reason is about. */
export interface XdpPlace {
  readonly name: string;
  /** Empty where the kernel does not say. */
  readonly driver: string;
}

export interface XdpWords {
  readonly reason: string;
  readonly remedy: string | undefined;
}

const VETH_REMEDY = 'run an XDP program (one that passes everything) on the other end of the veth';

type Words = readonly [reason: string, remedy?: string | undefined];

const WORDS: Readonly<Record<string, (reason: XdpReason, place: XdpPlace) => Words>> = {
  LOAD_REFUSED: () => [
    'loading a BPF program is not permitted',
    'run it as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON',
  ],
  ATTACH_REFUSED: () => ['attaching is not permitted', 'run it as root, or with CAP_NET_ADMIN'],
  FILE_REFUSED: ({ detail, number }) => [
    `${detail}: ${errnoWords(number)}`,
    'run it as root, or own a bpf file system mounted there',
  ],
  NOT_LOADED: ({ detail, number }) => [
    `the BPF program does not load: ${errnoWords(number)}${detail === '' ? '' : ` (${detail})`}`,
  ],
  NOT_RUN: ({ number }) => [`BPF_PROG_TEST_RUN: ${errnoWords(number)}`],
  NO_NATIVE_MODE: ({ number }, { driver }) => [
    `its driver${inBrackets(driver)} has no native XDP, or not with its present settings: ${errnoWords(number)}`,
  ],
  BUSY: ({ number }, { name }) => [
    `another XDP program (id ${number}) is attached; bpftool prog show id ${number} tells whose`,
    `sudo ip link set dev ${name} xdp off`,
  ],
  MTU: ({ number }, { name, driver }) => [
    `an MTU of ${number}, or that of its peer, is too big for native XDP on this driver${inBrackets(driver)}`,
    `sudo ip link set dev ${name} mtu 1500`,
  ],
  NO_INTERFACE: ({ detail }) => [`there is no interface ${detail}`, 'ip -brief link show'],
  BPFFS: ({ detail }) => [`no bpf file system is mounted at ${detail}`, `sudo mount -t bpf bpf ${detail}`],
  SELF_TEST: ({ detail }) => [`self-test: ${detail}`],
  TAKES_NOTHING_REDIRECTED: (_reason, { driver }) => [
    `; its driver${inBrackets(driver)} takes nothing that comes in by another interface, so that goes by the socket`,
    driver === 'veth' ? `switch GRO on at the other end of the veth, or ${VETH_REMEDY}` : undefined,
  ],
  LOSES_FRAMES: ({ detail, number }, { name, driver }) => [
    `its driver lost ${number} of the last ${detail} frames (ethtool -S ${name} | grep xdp)`,
    driver === 'veth' ? VETH_REMEDY : undefined,
  ],
  KEEPS_FRAMES: ({ number }) => [
    `${number} frames that it took were not delivered for half a second or more: its other end has GRO on and runs no XDP program`,
    VETH_REMEDY,
  ],
  ATTACH_FAILED: ({ number }) => [`attaching failed: ${errnoWords(number)}`],
  FAILED: ({ detail, number }) => [`${detail}: ${errnoWords(number)}`],
};

function inBrackets(driver: string): string {
  return driver === '' ? '' : ` (${driver})`;
}

/** @param place the interface it is about; none when it is about the whole. */
export function wordXdpReason(why: XdpReason, place: XdpPlace = { name: '', driver: '' }): XdpWords {
  // An unknown code, of a newer addon, is its own word.
  const [reason, remedy] = WORDS[why.code]?.(why, place) ?? [why.code];
  return { reason, remedy };
}
