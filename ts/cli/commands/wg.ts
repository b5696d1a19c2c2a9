// omerta wg: a WireGuard interface for `wg` and `wg-quick`, without the mesh.

import { InvalidArgumentError, Option, type Command } from 'commander';
import { openUserspaceDevice } from '../../wg/userspace-device.js';
import { startDetached } from '../background.js';
import { explain } from '../help.js';
import { reportFailure, reportReady } from '../start-report.js';

interface WgOptions {
  readonly foreground?: boolean;
  readonly disable?: readonly string[];
}

/** What `wg` takes for a name too (and Linux: at most 15 characters). */
function interfaceName(text: string): string {
  if (/^[a-zA-Z0-9_=+.-]{1,15}$/.test(text) && text !== '.' && text !== '..') return text;
  throw new InvalidArgumentError('An interface name has 1 to 15 of: letters, digits, _ = + . -');
}

async function runForeground(name: string, disable: readonly string[]): Promise<void> {
  let end: () => void = () => undefined;
  const signalled = new Promise<void>((resolve) => {
    end = resolve;
  });
  process.once('SIGTERM', end);
  process.once('SIGINT', end);
  let device;
  try {
    device = await openUserspaceDevice(name, {
      disable,
      onDemoted: (accelerator, reason) => {
        console.error(`omerta: ${accelerator} is not used any more: ${reason}`);
      },
    });
  } catch (error) {
    await reportFailure(error);
    throw error;
  }
  try {
    await reportReady();
    await Promise.race([signalled, device.gone]);
  } finally {
    await device.close();
  }
}

export function wgCommand(program: Command): void {
  const command = program
    .command('wg')
    .summary('make a plain WireGuard interface for wg and wg-quick')
    .description(
      'Makes a WireGuard interface that the stock tools drive, and goes to the background: configure it ' +
        'with wg(8), ip(8) or wg-quick(8) like one of the kernel. It takes no part in the mesh. It ends when ' +
        'the interface or its socket /var/run/wireguard/IFNAME.sock is deleted, or with SIGTERM. Needs root ' +
        'or the capability CAP_NET_ADMIN.',
    )
    .argument('<ifname>', 'name of the interface to make', interfaceName)
    .option('-f, --foreground', 'stay in the foreground')
    .addOption(
      new Option(
        '--disable <name>',
        'accelerator to leave off, by the name "omerta doctor" gives it; repeatable',
      ).argParser((value: string, previous: string[] | undefined) => [...(previous ?? []), value]),
    )
    .action(async (name: string, options: WgOptions) => {
      const { foreground, disable = [] } = options;
      if (foreground === true) {
        await runForeground(name, disable);
        return;
      }
      const without = disable.flatMap((accelerator) => ['--disable', accelerator]);
      await startDetached(
        ['wg', ...without, '--foreground', name],
        'ignore',
        `Run: omerta wg --foreground ${name}`,
      );
    });
  explain(
    command,
    [
      'sudo omerta wg wg0',
      'sudo wg setconf wg0 /etc/wireguard/wg0.conf',
      'sudo WG_QUICK_USERSPACE_IMPLEMENTATION=omerta-wg wg-quick up wg0',
    ],
    { 1: 'failed: the name is taken, or the engine does not load', 2: true, 4: true },
  );
}
