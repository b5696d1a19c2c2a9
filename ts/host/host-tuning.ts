// Whether the host joins single datagrams before a relay's socket sees them. The kernel can (GRO, with
// a moment's wait in the driver's poll), and a joined burst costs a relay a fraction of the CPU. The wait alone
// saves the kernel path wake-ups. Only read.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { messageOf, systemErrorCode } from './operator-error.js';

/** ns a driver may hold packets for others to join them. */
export const FLUSH_TIMEOUT_NS = 200_000;
/** Empty polls before interrupts are taken again. */
export const DEFER_HARD_IRQS = 4;
const FEATURES = ['generic-receive-offload', 'rx-udp-gro-forwarding'] as const;

export interface DeviceTuning {
  readonly device: string;
  /** What is not as it should be, `name value`. */
  readonly missing: readonly string[];
  /** What to type; undefined when nothing is missing. */
  readonly remedy: string | undefined;
}

/** Where a setting comes from; tests give another. */
export interface HostSettings {
  /** The text of a file; undefined when there is none. */
  read(path: string): string | undefined;
  /** What `ethtool -k DEVICE` prints; undefined when it is not installed. @throws Error */
  features(device: string): string | undefined;
}

export const hostSettings: HostSettings = {
  read(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  features(device) {
    try {
      return execFileSync('ethtool', ['-k', device], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  },
};

/** The devices default routes lead to: where strangers' packets come in. */
export function defaultRouteDevices(settings: HostSettings): string[] {
  const fields = (path: string): string[][] =>
    (settings.read(path) ?? '').split('\n').map((line) => line.trim().split(/\s+/));
  const ipv4 = fields('/proc/net/route')
    .filter(([, destination, , , , , , mask]) => destination === '00000000' && mask === '00000000')
    .map(([device]) => device);
  const ipv6 = fields('/proc/net/ipv6_route')
    .filter(([destination, length]) => destination === '0'.repeat(32) && length === '00')
    .map((columns) => columns.at(-1));
  return [...new Set([...ipv4, ...ipv6])].filter(
    (device): device is string => device !== undefined && device !== 'lo',
  );
}

const GATEWAY_FLAG = 2;

/** The devices routes with a gateway lead to, default routes among them: what is beyond other machines is reached by these. */
export function gatewayRouteDevices(settings: Pick<HostSettings, 'read'>): string[] {
  const fields = (path: string): string[][] =>
    (settings.read(path) ?? '').split('\n').map((line) => line.trim().split(/\s+/));
  // The heading has letters there.
  const isGateway = (flags = ''): boolean =>
    /^[0-9A-F]{4,8}$/i.test(flags) && (Number.parseInt(flags, 16) & GATEWAY_FLAG) !== 0;
  const ipv4 = fields('/proc/net/route')
    .filter(([, , , flags]) => isGateway(flags))
    .map(([device]) => device);
  const ipv6 = fields('/proc/net/ipv6_route')
    .filter((columns) => columns.length === 10 && isGateway(columns[8]))
    .map((columns) => columns.at(-1));
  return [...new Set([...ipv4, ...ipv6])].filter(
    (device): device is string => device !== undefined && device !== 'lo',
  );
}

/** µs a packet may wait because a device's polls are deferred; 0 when they are not. */
export function pollDeferralUs(device: string, settings: HostSettings): number {
  const value = (name: string): number => Number(settings.read(`/sys/class/net/${device}/${name}`) ?? 0);
  return value('napi_defer_hard_irqs') > 0 ? value('gro_flush_timeout') / 1000 : 0;
}

/** Looks at one device. @returns the tuning, or why it cannot be told. */
export function deviceTuning(
  device: string,
  settings: HostSettings,
): DeviceTuning | { readonly unknown: string; readonly remedy?: string } {
  let printed: string | undefined;
  try {
    printed = settings.features(device);
  } catch (error) {
    return { unknown: messageOf(error) };
  }
  if (printed === undefined)
    return { unknown: 'ethtool is not installed', remedy: 'sudo apt-get install ethtool' };
  const off = FEATURES.flatMap((feature) => {
    const [, value] = new RegExp(`^${feature}: (\\S+)`, 'm').exec(printed) ?? [];
    return value === 'on' ? [] : [`${feature} ${value ?? 'unknown'}`];
  });
  const waits = [
    ['gro_flush_timeout', FLUSH_TIMEOUT_NS],
    ['napi_defer_hard_irqs', DEFER_HARD_IRQS],
  ] as const;
  const low = waits.flatMap(([name, wanted]) => {
    const path = `/sys/class/net/${device}/${name}`;
    const value = settings.read(path)?.trim();
    return Number(value) > 0
      ? []
      : [{ missing: `${name} ${value ?? 'unknown'}`, command: `echo ${wanted} | sudo tee ${path}` }];
  });
  const missing = [...off, ...low.map((setting) => setting.missing)];
  const commands = [
    ...(off.length === 0 ? [] : [`sudo ethtool -K ${device} gro on rx-udp-gro-forwarding on`]),
    ...low.map(({ command }) => command),
  ];
  return { device, missing, remedy: commands.length === 0 ? undefined : commands.join(' && ') };
}
