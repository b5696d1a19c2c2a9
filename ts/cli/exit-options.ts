// What is typed about exits, as the daemon takes it.

import { decodePeerId } from '../core/protocol/peer-id.js';
import { MAX_EXIT_HOPS } from '../core/protocol/message-limits.js';
import type { ExitSubjectSetting } from '../daemon/state/exit-settings.js';
import { ExitCode, OperatorError } from '../host/operator-error.js';
import { parseWireguardKey } from '../host/wireguard-key.js';
import type { DaemonStatus } from '../status/model/daemon-status.js';
import { toHex } from '../wire/bytes.js';
import { formatPrefix, parsePrefix } from '../wire/prefix.js';
import { formatIp, parseIp } from '../wire/socket-address.js';
import { selectPeer } from './select-peer.js';

/** A peer id as it is, known or not yet; else the member meant, as `omerta ping` takes it. */
export function peerIdOf(status: DaemonStatus, wanted: string): string {
  try {
    decodePeerId(wanted);
    return wanted;
  } catch {
    return selectPeer(status, wanted).peerId;
  }
}

/** Whom a right is for: a member, a peer id, or a session key as WireGuard writes them. */
export function subjectOf(status: DaemonStatus, wanted: string): ExitSubjectSetting {
  const key = parseWireguardKey(wanted);
  return key === undefined ? { peer: peerIdOf(status, wanted) } : { key: toHex(key) };
}

/** Prefixes in their one spelling; an address is a prefix of itself. @throws OperatorError */
export function prefixesOf(option: string, texts: readonly string[] = []): string[] {
  return texts.map((text) => {
    const isAddress = !text.includes('/') && parseIp(text) !== undefined;
    const prefix = parsePrefix(isAddress ? `${text}/${text.includes(':') ? 128 : 32}` : text);
    if (prefix !== undefined) return formatPrefix(prefix);
    throw new OperatorError(
      ExitCode.usage,
      option,
      `"${text}" is not a prefix`,
      `Type for example: ${option} 192.168.7.0/24`,
    );
  });
}

/** Addresses in their one spelling, three at most. @throws OperatorError */
export function addressesOf(option: string, texts: readonly string[] = []): string[] {
  const addresses = texts.map((text) => {
    const ip = parseIp(text);
    if (ip !== undefined) return formatIp(ip);
    throw new OperatorError(
      ExitCode.usage,
      option,
      `"${text}" is not an address`,
      `Type for example: ${option} 9.9.9.9`,
    );
  });
  if (addresses.length <= 3) return addresses;
  throw new OperatorError(ExitCode.usage, option, 'three are asked at most', 'Leave some out');
}

/** @throws OperatorError */
export function hopsOf(text: string): number {
  const hops = Number(text);
  if (Number.isInteger(hops) && hops >= 1 && hops <= MAX_EXIT_HOPS) return hops;
  throw new OperatorError(
    ExitCode.usage,
    '--hops',
    `"${text}" is not a number of exits from 1 to ${MAX_EXIT_HOPS}`,
    'Type for example: --hops 2',
  );
}
