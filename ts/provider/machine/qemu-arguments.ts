// QEMU's command line. Each device that is left out is one a guest cannot attack, and one its kernel does not look for.

/** Descriptors of QEMU: sockets and files are given to it open, so that it needs no path and leaves none behind. */
export const FD = { console: 3, monitor: 4, command: 5, kernel: 6, initramfs: 7, network: 8 } as const;

export type Accelerator = 'kvm' | 'tcg';

export interface Hardware {
  readonly accelerator: Accelerator;
  readonly cpus: number;
  readonly memoryMiB: number;
  /** Of its network device; none without. */
  readonly network?: NetworkDevice | undefined;
}

export interface NetworkDevice {
  /** Where its frames go, as QEMU's -netdev has it, without an id. */
  readonly netdev: string;
  readonly mac: string;
}

/** Frames over the socket at FD.network, each after its length (u32, big-endian). */
export const STREAM_NETDEV = `stream,addr.type=fd,addr.str=${FD.network}`;

/** Of code translated for the guest, in MiB: QEMU would take a gigabyte. */
export const TRANSLATION_MIB = 128;

const MACHINE =
  // The parts left out are slow to look for; this combination boots every time without a hypervisor.
  'q35,sata=off,smbus=off,i8042=off,usb=off,vmport=off,dump-guest-core=off';

// Without no_timer_check the kernel gives up where its timer did not tick a few times within some 100 µs: on a busy host.
const KERNEL =
  'console=ttyS0 quiet panic=-1 reboot=t net.ifnames=0 no_timer_check 8250.nr_uarts=1 cryptomgr.notests';

// `host` alone aborts on hosts that hide what they have; a named CPU is emulated faster than `max`.
const ACCELERATION: Readonly<
  Record<Accelerator, readonly [accelerator: string, cpu: string, kernel: string]>
> = {
  kvm: ['kvm', 'host,-arch-capabilities', KERNEL],
  // Nobody shares an emulated processor, so that there is nothing to mitigate.
  tcg: [`tcg,tb-size=${TRANSLATION_MIB}`, 'Nehalem', `${KERNEL} mitigations=off tsc=reliable`],
};

const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny';

function socket(name: keyof typeof FD): string[] {
  return ['-chardev', `socket,id=${name},fd=${FD[name]}`];
}

/** With the sockets and files at their descriptors. */
export function qemuArguments({ accelerator, cpus, memoryMiB, network }: Hardware): string[] {
  const [acceleration, cpu, kernel] = ACCELERATION[accelerator];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-sandbox', SANDBOX],
    ...['-M', MACHINE, '-accel', acceleration, '-cpu', cpu, '-smp', String(cpus), '-m', String(memoryMiB)],
    // Opened anew by QEMU: what may be read is said by the file, not by the folders it is in.
    ...[
      '-kernel',
      `/proc/self/fd/${FD.kernel}`,
      '-initrd',
      `/proc/self/fd/${FD.initramfs}`,
      '-append',
      kernel,
    ],
    ...[...socket('console'), '-serial', 'chardev:console'],
    ...[...socket('monitor'), '-mon', 'chardev=monitor,mode=control'],
    ...['-device', 'virtio-serial-pci', ...socket('command')],
    ...['-device', 'virtserialport,chardev=command,name=omerta.command'],
    ...(network === undefined
      ? []
      : [
          ...['-netdev', `${network.netdev},id=network`],
          ...['-device', `virtio-net-pci,netdev=network,romfile=,mac=${network.mac}`],
        ]),
  ];
}
