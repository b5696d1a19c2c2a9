// omerta relay: a bootstrap and relay in the foreground.

import type { Command } from 'commander';
import { Context } from '../context.js';
import { explain } from '../help.js';
import { addNodeOptions, type NodeOptions } from '../node-options.js';
import { relayLimitsHelp } from '../relay-limits-table.js';
import { addRelayOptions, applyRelayOptions, type RelayOptions } from '../relay-options.js';
import { relayAccountsCommand } from './relay-accounts.js';
import { relayReloadCommand } from './reload.js';
import { relayStopCommand } from './relay-stop.js';
import { relayDrainCommands } from './relay-drain.js';
import { relayReceiptsCommand } from './receipts.js';
import { relayLinkCommand } from './relay-link.js';
import { relayWireguardCommand } from './relay-wireguard.js';
import { relayCircuitsCommands } from './relay-circuits.js';

interface Options extends NodeOptions, RelayOptions {
  readonly json?: boolean;
}

export function relayCommand(program: Command): void {
  const command = addRelayOptions(
    addNodeOptions(
      program
        .command('relay')
        .summary('run a bootstrap and relay in the foreground')
        .description(
          'Runs a bootstrap and relay in the foreground: members find each other through it, and it forwards ' +
            'their encrypted packets where they cannot reach each other directly. It cannot read them. ' +
            'The first start makes an identity and a network called "home" and prints an invite link; ' +
            'later starts reuse both. Needs no special privileges, but for --accel.',
        ),
    ),
  )
    .option('--json', 'print the banner as JSON')
    .action(async (options: Options, self: Command) => {
      const { runForeground } = await import('../foreground.js');
      const { relayBanner } = await import('../relay-banner.js');
      await runForeground(
        Context.of(self),
        'relay',
        options,
        (daemon) => relayBanner(daemon, options.json === true),
        (config) => applyRelayOptions(config, options),
      );
    });
  relayStopCommand(command);
  relayDrainCommands(command);
  command.addHelpText('after', relayLimitsHelp());
  explain(
    command,
    [
      'omerta relay',
      'omerta relay --port 443 --announce 203.0.113.7:443',
      'omerta relay --status off --engine wasm',
      'sudo omerta relay --accel auto --detach',
    ],
    { 1: 'failed: port taken, engine does not load, or another daemon uses this state', 2: true, 4: true },
  );
  relayReloadCommand(command);
  relayLinkCommand(command);
  relayReceiptsCommand(command);
  relayWireguardCommand(command);
  relayCircuitsCommands(command);
  relayAccountsCommand(command);
}
