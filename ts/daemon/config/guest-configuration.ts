// A member that is a virtual machine's: where QEMU connects its network device, and what does not go with that.

import { isAbsolute } from 'node:path';
import { DEFAULT_GUEST_MAC, parseMac } from '../../contract/guest-control.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import type { DaemonMode } from '../../status/model/daemon-status.js';
import type { Config } from './config.js';

export const GUEST_SOCKET_RULE = 'an absolute path of at most 107 bytes, where a unix socket can be made';
export const GUEST_MAC_RULE =
  'the address of a network device, such as 52:54:00:12:34:56, that is not the gateway’s';
export const GUEST_UID_RULE = 'the number of a user';

const MIN_MTU = 1280;

export function isGuestSocket(path: string): boolean {
  return isAbsolute(path) && Buffer.byteLength(path) <= 107;
}

export const isGuestMac = (text: string): boolean => parseMac(text) !== undefined;

export interface GuestConfiguration {
  readonly path: string;
  readonly mac: string;
  /** The user who may connect; undefined: this process's own. */
  readonly uid: number | undefined;
}

/**
 * Undefined: this member is none of a virtual machine.
 * @throws OperatorError for what does not go together
 */
export function guestConfiguration(config: Config, mode: DaemonMode): GuestConfiguration | undefined {
  const { node } = config;
  const { guest_socket: path, guest_mac: mac, guest_uid: uid } = node;
  if (path === undefined) {
    if (mac !== undefined || uid !== undefined)
      throw refusal(
        mac === undefined ? 'guest-uid' : 'guest-mac',
        'there is no socket that it is of',
        'Give --guest-socket PATH as well (guest_socket under [node])',
      );
    return undefined;
  }
  if (mode === 'relay')
    throw refusal(
      'guest-socket',
      'a relay has no inside that a virtual machine could be at',
      'Remove guest_socket from [node], or run a member: omerta up --guest-socket PATH',
    );
  const other = !node.tun ? '--no-tun' : node.stack ? '--stack' : undefined;
  if (other !== undefined)
    throw refusal(
      'guest-socket',
      `the inside of a member is one thing, and ${other} asks for another`,
      `Leave ${other} out (tun and stack under [node])`,
    );
  if (node.engine === 'wasm')
    throw refusal('guest-socket', 'the wasm engine has no inside', 'Leave engine = "wasm" out');
  if (node.mtu < MIN_MTU)
    throw refusal(
      'guest-socket',
      `a virtual machine speaks IPv6, which needs an MTU of ${MIN_MTU}, and mtu under [node] is ${node.mtu}`,
      `Write mtu = ${MIN_MTU} or more`,
    );
  return { path, mac: mac ?? DEFAULT_GUEST_MAC, uid };
}

function refusal(option: string, expected: string, next: string): OperatorError {
  return new OperatorError(ExitCode.usage, `--${option}`, expected, next);
}
