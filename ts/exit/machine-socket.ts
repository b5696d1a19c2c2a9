// Sockets of the machine by which a gateway sends guests' datagrams and pings on, with what the network says of those.

import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { constants } from 'node:os';
import { loadNativeAddon } from '../engine/native/native-addon.js';
import { formatIp, parseIp } from '../wire/socket-address.js';

/** Why something goes no further, as the addon has it (inner/icmp_error.h). */
export const UNREACHABLE = { host: 0, port: 1, prohibited: 2 } as const;
export type Unreachable = (typeof UNREACHABLE)[keyof typeof UNREACHABLE];

export interface SendError {
  readonly address: string;
  readonly port: number;
  /** undefined = it may have arrived. */
  readonly why: Unreachable | undefined;
  /** What is known of the datagram's data. */
  readonly data: Uint8Array;
}

/** How sending went; `said`: the network has said something of an earlier one, which is to be read. */
export interface Sending {
  readonly sent: boolean;
  readonly said: boolean;
  /** Nobody can be reached there. */
  readonly unreachable: boolean;
}

export interface MachineSocket {
  /** Hears what comes back. */
  readonly socket: UdpSocket;
  readonly send: (address: string, port: number, data: Uint8Array) => Sending;
  readonly close: () => void;
  /** The next that the network says of datagrams that were sent; undefined = nothing more. */
  readonly errors: () => SendError | undefined;
}

const NO_REASON = 255;
const { errno } = constants;

/** ip 16 | port u16 little-endian. */
export function packedEnd(address: string, port: number): Uint8Array {
  const end = new Uint8Array(18);
  end.set(parseIp(address) ?? []);
  end.set([port & 255, port >> 8], 16);
  return end;
}

/** undefined: there is none to be had; for pings, where net.ipv4.ping_group_range has no group of this process. */
export function openMachineSocket(kind: 'udp' | 'ping', ipv6: boolean): MachineSocket | undefined {
  const addon = loadNativeAddon();
  const fd = addon.openMachineSocket(ipv6, kind === 'ping');
  if (fd < 0) return undefined;
  let isOpen = true;
  const socket = createSocket(ipv6 ? 'udp6' : 'udp4').bind({ fd });
  return {
    socket,
    send: (address, port, data) => {
      const result = isOpen ? addon.sendByMachineSocket(fd, packedEnd(address, port), data) : -errno.EBADF;
      return {
        sent: result >= 0,
        said: result !== 0,
        unreachable: result === -errno.ENETUNREACH || result === -errno.EHOSTUNREACH,
      };
    },
    close: () => {
      isOpen = false; // its descriptor may be another's from now on
      socket.close();
    },
    errors: () => {
      const error = isOpen ? addon.nextSocketError(fd) : undefined;
      if (error === undefined) return undefined;
      const why = error[18] ?? NO_REASON;
      return {
        address: formatIp(error.subarray(0, 16)),
        port: (error[16] ?? 0) | ((error[17] ?? 0) << 8),
        why: why === NO_REASON ? undefined : (why as Unreachable),
        data: error.subarray(19),
      };
    },
  };
}
