// omerta guard: the machine is closed before its network is there, and until it is said otherwise.

import type { Command } from 'commander';
import { BootGuard, type BootGuardStatus } from '../../exit/boot-guard.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { Context, print, printJson } from '../context.js';
import { explain } from '../help.js';

interface Json {
  readonly json?: true;
}

/** `omerta guard status` */
export function describeGuard({ loader, isOn, tunnel, allowLan, file }: BootGuardStatus): string {
  const through = [`${tunnel ?? ''}, the datagrams of omerta`, ...(allowLan ? ['private prefixes'] : [])];
  if (loader === undefined)
    return isOn
      ? 'guard     on, and not loaded at boot: omerta guard install, or omerta guard remove'
      : 'guard     not installed: from boot until omerta runs nothing is closed';
  return [
    `guard     ${isOn ? 'on' : 'NOT ON: another program took it away'}, loaded at boot by ${loader}`,
    `through   ${through.join(', ')}`,
    `file      ${file}`,
  ].join('\n');
}

async function show(json: true | undefined): Promise<void> {
  const status = await new BootGuard().status();
  if (json === true) printJson(status);
  else print(describeGuard(status));
  if (status.loader !== undefined && !status.isOn)
    throw new OperatorError(
      ExitCode.failure,
      'guard',
      'it is installed, but does not hold now',
      'Type: omerta guard install',
    );
}

function installCommand(guard: Command): void {
  const command = guard
    .command('install')
    .summary('close this machine now, and at each boot before its network')
    .description(
      'From now on nothing leaves this machine but by the tunnel, and the datagrams of omerta itself; at boot this holds ' +
        'before any interface has an address, whether omerta runs or not. No process owns it: only omerta guard remove opens ' +
        'the machine. An SSH session that comes in from elsewhere than the mesh ends with it.',
    )
    .option('--allow-lan', 'let through what is for private prefixes (but questions for names)')
    .option('--json', 'print as JSON')
    .action(async ({ allowLan, json }: Json & { readonly allowLan?: true }, self: Command) => {
      const { Configuration } = await import('../configuration.js');
      const { node } = new Configuration(Context.of(self)).read();
      await new BootGuard().install(node.interface, allowLan === true);
      await show(json);
    });
  explain(command, ['sudo omerta guard install', 'sudo omerta guard install --allow-lan'], {
    1: 'nothing would load it at boot, or nftables is missing',
    2: true,
    4: true,
  });
}

function removeCommand(guard: Command): void {
  const command = guard
    .command('remove')
    .summary('open this machine again')
    .description(
      'Takes the guard and what loads it at boot away. An exit that is used with --paranoid stays closed.',
    )
    .option('--json', 'print as JSON')
    .action(async ({ json }: Json) => {
      await new BootGuard().remove();
      await show(json);
    });
  explain(command, ['sudo omerta guard remove'], { 1: true, 4: true });
}

function statusCommand(guard: Command): void {
  const command = guard
    .command('status')
    .summary('show whether this machine is closed from boot on')
    .option('--json', 'print as JSON')
    .action(({ json }: Json) => show(json));
  explain(command, ['sudo omerta guard status', 'sudo omerta guard status --json'], {
    1: 'it is installed, but does not hold',
    4: true,
  });
}

export function guardCommand(program: Command): void {
  const guard = program
    .command('guard')
    .summary('nothing leaves this machine but by the tunnel, from boot on')
    .description(
      'The guard is of the machine, not of a daemon: it closes the machine at boot, before the network, and holds until it ' +
        'is removed. Members are reached through it; the Internet by an exit (omerta exit use PEER).',
    );
  installCommand(guard);
  removeCommand(guard);
  statusCommand(guard);
  explain(guard, ['sudo omerta guard install', 'sudo omerta guard status', 'sudo omerta guard remove'], {
    1: true,
    2: true,
    4: true,
  });
}
