// omerta wg: a WireGuard interface for `wg` and `wg-quick`, without the mesh.

import { availableParallelism } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import { openUserspaceDevice } from '../../wg/userspace-device.js';
import { explain } from '../help.js';
import { reportFailure, reportReady } from '../start-report.js';

interface WgOptions {
  readonly foreground?: boolean;
  readonly workers?: number;
}

/** What `wg` takes for a name too (and Linux: at most 15 characters). */
function interfaceName(text: string): string {
  if (/^[a-zA-Z0-9_=+.-]{1,15}$/.test(text) && text !== '.' && text !== '..') return text;
  throw new InvalidArgumentError('An interface name has 1 to 15 of: letters, digits, _ = + . -');
}

function workerCount(text: string): number {
  if (/^\d{1,2}$/.test(text) && Number(text) >= 1 && Number(text) <= 64) return Number(text);
  throw new InvalidArgumentError('A whole number of threads from 1 to 64');
}

async function runForeground(name: string, workers: number): Promise<void> {
  let end: () => void = () => undefined;
  const signalled = new Promise<void>((resolve) => {
    end = resolve;
  });
  process.once('SIGTERM', end);
  process.once('SIGINT', end);
  let device;
  try {
    device = await openUserspaceDevice(name, {
      workers,
      onPortRefused: ({ message }) => {
        console.error(`omerta: ${message}. ${name} is down again: choose another listen-port`);
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
    .option(
      '--workers <n>',
      'threads that move packets (default: 2, or 1 on a machine with one core)',
      workerCount,
    )
    .action(async (name: string, options: WgOptions) => {
      const { foreground, workers } = options;
      if (foreground === true) {
        await runForeground(name, workers ?? Math.min(2, availableParallelism()));
        return;
      }
      const { startDetached } = await import('../background.js');
      const asked = workers === undefined ? [] : ['--workers', String(workers)];
      await startDetached(
        ['wg', ...asked, '--foreground', name],
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
