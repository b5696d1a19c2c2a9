// omerta relay: a bootstrap and relay in the foreground.

import type { Command } from 'commander';
import { encodeInvite } from '../../core/protocol/invite.js';
import type { Daemon } from '../../daemon/lifecycle/daemon.js';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import { loadNetworks } from '../../daemon/state/network-files.js';
import { Context, columns, toJson } from '../context.js';
import { describeAccelerators } from '../describe-status.js';
import { explain } from '../help.js';
import { addNodeOptions, type NodeOptions } from '../node-options.js';
import { relayLimitsHelp } from '../relay-limits-table.js';
import { addRelayOptions, applyRelayOptions, type RelayOptions } from '../relay-options.js';
import { relayAccountsCommand } from './relay-accounts.js';
import { relayReloadCommand } from './reload.js';
import { relayStopCommand } from './relay-stop.js';
import { relayReceiptsCommand } from './receipts.js';
import { relayLinkCommand } from './relay-link.js';
import { relayWireguardCommand } from './relay-wireguard.js';
import { relayCircuitsCommands } from './relay-circuits.js';

interface Options extends NodeOptions, RelayOptions {
  readonly json?: boolean;
}

/** A kernel path that was asked for and is not there. */
function whyNotXdp({ engine }: DaemonStatus): string[][] {
  const xdp = engine.accelerators.find(({ name }) => name === 'xdp');
  return xdp === undefined || xdp.state === 'on' ? [] : [['  why not XDP', xdp.reason]];
}

/** What is printed once the relay serves. The invite is a secret: it goes to standard output only. */
function banner(daemon: Daemon, json: boolean): string {
  const status = daemon.status();
  const networks = loadNetworks(daemon.settings.state).map((network) => ({
    name: network.name,
    invite: encodeInvite(network),
  }));
  if (json) return toJson({ ...status, created: daemon.created, networks });
  const [first] = networks;
  return [
    `Omerta ${status.version} relay "${status.mesh.name}"${daemon.created ? ', newly set up' : ''}`,
    '',
    columns([
      ['  peer id', status.mesh.peerId],
      ['  listening', `UDP port ${status.port}`],
      ...status.addresses.map((address, index) => [index === 0 ? '  reached at' : '', address]),
      ['  engine', `${status.engine.summary}, ${status.engine.aead}`],
      ['  accelerators', describeAccelerators(status)],
      ...(status.engineFallback === undefined ? [] : [['  why not native', status.engineFallback]]),
      ...whyNotXdp(status),
      ['  status page', status.statusPage ?? 'off'],
      ['  state', status.stateDirectory],
    ]),
    ...networks.flatMap(({ name, invite }) => [
      '',
      `  network "${name}": whoever has this link is a member, so send it privately`,
      `    ${invite}`,
    ]),
    '',
    first === undefined
      ? '  Make a network with: omerta network create home'
      : '  On another machine: omerta network join LINK, then omerta up',
    '  Stop with Ctrl-C.',
  ].join('\n');
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
      await runForeground(
        Context.of(self),
        'relay',
        options,
        (daemon) => banner(daemon, options.json === true),
        (config) => applyRelayOptions(config, options),
      );
    });
  relayStopCommand(command);
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
