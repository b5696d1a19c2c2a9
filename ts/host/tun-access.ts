// Whether this process may make a TUN interface, and what is missing if not.

import { accessSync, constants, readFileSync, realpathSync } from 'node:fs';

/** include/uapi/linux/capability.h */
const CAP_NET_ADMIN = 12n;
const TUN_DEVICE = '/dev/net/tun';

export interface TunAccess {
  readonly ok: boolean;
  /** What is missing, or what was found. */
  readonly reason: string;
  /** The commands that give it. */
  readonly remedy: string | undefined;
}

/** Whether the effective capability set in the text of /proc/self/status holds CAP_NET_ADMIN. */
export function hasNetAdmin(procStatus: string): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(procStatus)?.[1];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> CAP_NET_ADMIN) & 1n) === 1n;
}

/** What is missing of the device; undefined when this user may open it. */
export function deviceProblem(): { reason: string; remedy: string } | undefined {
  try {
    accessSync(TUN_DEVICE, constants.F_OK);
  } catch {
    return { reason: `${TUN_DEVICE} does not exist`, remedy: 'sudo modprobe tun' };
  }
  try {
    accessSync(TUN_DEVICE, constants.R_OK | constants.W_OK);
    return undefined;
  } catch {
    return { reason: `${TUN_DEVICE} cannot be opened by this user`, remedy: `sudo chmod 0666 ${TUN_DEVICE}` };
  }
}

/** Looks at /proc/self/status and /dev/net/tun. */
export function tunAccess(
  procStatus = readFileSync('/proc/self/status', 'utf8'),
  device = deviceProblem(),
  executable = realpathSync(process.execPath),
): TunAccess {
  const capability = hasNetAdmin(procStatus)
    ? undefined
    : {
        reason: 'the capability CAP_NET_ADMIN is missing',
        remedy: `sudo setcap cap_net_admin+ep ${executable}`,
      };
  const problems = [capability, device].filter((problem) => problem !== undefined);
  if (problems.length === 0)
    return { ok: true, reason: `CAP_NET_ADMIN held, ${TUN_DEVICE} can be opened`, remedy: undefined };
  return {
    ok: false,
    reason: problems.map(({ reason }) => reason).join(', and '),
    remedy: problems.map(({ remedy }) => remedy).join(' && '),
  };
}
