// The socket of a virtual machine's network device, and what the machine at an engine's inside is told.

import { EngineError } from '../../contract/engine.js';
import {
  DEFAULT_GUEST_MAC,
  parseMac,
  type GuestControl,
  type GuestOptions,
  type GuestSocket,
  type GuestSocketCounts,
} from '../../contract/guest-control.js';
import { parseIp } from '../../wire/socket-address.js';
import {
  loadNativeAddon,
  type NativeGuestSocket,
  type NativeHandle,
  type NativeOptions,
} from './native-addon.js';
import { openFailure } from './open-failure.js';

const MIN_MTU = 1280;
const MAX_MTU = 65_521;

class OpenGuestSocket implements GuestSocket {
  constructor(
    readonly path: string,
    readonly native: NativeGuestSocket,
  ) {}

  counts(): GuestSocketCounts {
    const [
      connected = 0,
      connections = 0,
      refused = 0,
      badLengths = 0,
      bytesRead = 0,
      bytesWritten = 0,
      framesRead = 0,
      framesWritten = 0,
    ] = this.native.counts();
    return {
      connected: connected !== 0,
      connections,
      refused,
      badLengths,
      bytesRead,
      bytesWritten,
      framesRead,
      framesWritten,
    };
  }

  close(): void {
    this.native.close();
  }
}

/**
 * Listens at a path, where nobody else does; a socket that an earlier process left is replaced.
 * @param uid the user who may connect; undefined: whom the file's mode permits, 0600
 * @throws EngineError
 */
export function openGuestSocket(path: string, uid?: number): GuestSocket {
  const addon = loadNativeAddon();
  try {
    return new OpenGuestSocket(path, new addon.GuestSocket(path, uid ?? -1));
  } catch (error) {
    throw openFailure(error, 0);
  }
}

/** As the addon takes it. @throws EngineError BAD_ARGUMENT */
export function nativeGuest({
  socket,
  addresses,
  mac,
  mtu,
}: GuestOptions): NonNullable<NativeOptions['guest']> {
  if (!(socket instanceof OpenGuestSocket))
    throw new EngineError('BAD_ARGUMENT', 'guest: its socket is none of the native engine');
  const station = parseMac(mac);
  if (station === undefined)
    throw new EngineError(
      'BAD_ARGUMENT',
      `mac: '${mac}' is not the address of a station such as ${DEFAULT_GUEST_MAC}`,
    );
  if (mtu < MIN_MTU || mtu > MAX_MTU)
    throw new EngineError(
      'BAD_ARGUMENT',
      `mtu: ${mtu} is not ${MIN_MTU} to ${MAX_MTU}, as a virtual machine's has to be`,
    );
  return { socket: socket.native, addresses, mac: station, mtu };
}

/** `call`: as all calls of the addon are made. */
export function guestControl(handle: () => NativeHandle, call: <T>(run: () => T) => T): GuestControl {
  return {
    setNameServers: (addresses) => {
      const packed = Buffer.concat(
        addresses.map((text) => {
          const ip = parseIp(text);
          if (ip === undefined) throw new EngineError('BAD_ARGUMENT', `names: '${text}' is no IP address`);
          return ip;
        }),
      );
      call(() => handle().setGuestNames(packed));
    },
  };
}
