// omerta wg: a WireGuard interface for `wg` and `wg-quick`, without the mesh.

import { availableParallelism } from 'node:os';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { NATIVE_ACCELERATORS } from '../../engine/native/accelerators.js';
import { NonBlockingOutput } from '../../host/non-blocking-output.js';
import { onHangup } from '../hangup.js';
import { explain } from '../help.js';
import { outliveReaders } from '../outlive-readers.js';
import { reportFailure, reportReady } from '../start-report.js';

interface WgOptions {
  readonly foreground?: boolean;
  readonly workers?: number;
  readonly disable: readonly string[];
}

const STANDARD_ERROR = 2;
/** For wg-quick, which passes nothing but the interface's name. */
const DISABLE_VARIABLE = 'OMERTA_WG_DISABLE';

function acceleratorNames(text: string): readonly string[] {
  const names = text.split(',').filter((name) => name !== '');
  const known: readonly string[] = NATIVE_ACCELERATORS;
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return names;
  throw new InvalidArgumentError(`'${unknown}' is not one of: ${known.join(', ')}`);
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

async function runForeground(name: string, workers: number, disable: readonly string[]): Promise<void> {
  let end: () => void = () => undefined;
  const signalled = new Promise<void>((resolve) => {
    end = resolve;
  });
  process.once('SIGTERM', end);
  process.once('SIGINT', end);
  onHangup({ end, reload: () => undefined });
  outliveReaders();
  const messages = new NonBlockingOutput(STANDARD_ERROR);
  let device;
  try {
    const { openUserspaceDevice } = await import('../../wg/userspace-device.js');
    device = await openUserspaceDevice(name, {
      workers,
      disable,
      onDemoted: (accelerator, reason) => {
        messages.write(`omerta: ${accelerator} is not used any more: ${reason}\n`);
      },
      onRestored: (accelerator) => {
        messages.write(`omerta: ${accelerator} is tried again\n`);
      },
      onRoutingLoop: (endpoint) => {
        messages.write(
          `omerta: what is sent to ${endpoint} is routed into ${name} itself and dropped: ` +
            `give the endpoint a route outside the tunnel\n`,
        );
      },
      onPortRefused: ({ message }) => {
        messages.write(`omerta: ${message}. ${name} is down again: choose another listen-port\n`);
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
    .addOption(
      new Option('--disable <names>', 'accelerators to leave off, with commas, by the names of omerta doctor')
        .env(DISABLE_VARIABLE)
        .argParser(acceleratorNames)
        .default([], 'none'),
    )
    .action(async (name: string, options: WgOptions) => {
      const { foreground, workers, disable } = options;
      if (foreground === true) {
        await runForeground(name, workers ?? Math.min(2, availableParallelism()), disable);
        return;
      }
      const { startDetached } = await import('../background.js');
      const asked = workers === undefined ? [] : ['--workers', String(workers)];
      const off = disable.length > 0 ? [`--disable=${disable.join(',')}`] : [];
      await startDetached(
        ['wg', ...asked, ...off, '--foreground', name],
        'ignore',
        `Run: omerta wg --foreground ${name}`,
      );
    });
  explain(
    command,
    [
      'sudo omerta wg wg0',
      'sudo wg setconf wg0 /etc/wireguard/wg0.conf',
      'sudo omerta wg --disable aes-256-gcm,wide-window wg0',
      'sudo WG_QUICK_USERSPACE_IMPLEMENTATION=omerta-wg wg-quick up wg0',
    ],
    { 1: 'failed: the name is taken, or the engine does not load', 2: true, 4: true },
  );
}
