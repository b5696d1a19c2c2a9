// omerta relay wireguard: the servers whose stock WireGuard clients this relay relays.

import type { Command } from 'commander';
import type { WireguardBindingUsage } from '../../status/model/daemon-status.js';
import { formatBytes } from '../../host/units.js';
import { Context, columns, print, printJson, requestStatus } from '../context.js';
import { explain } from '../help.js';

function describe(bindings: readonly WireguardBindingUsage[]): string {
  if (bindings.length === 0)
    return 'no stock WireGuard clients are relayed. See wireguard_bindings in docs/operators-guide.md';
  return columns([
    ['SERVER', 'PUBLIC KEY', 'AT', 'SESSIONS', 'RELAYED'],
    ...bindings.map(({ peerId, publicKey, address, sessions, packets, bytes }) => [
      peerId === undefined ? '(configured)' : `${peerId.slice(0, 14)}…`,
      publicKey,
      address,
      String(sessions),
      `${packets} packets (${formatBytes(bytes)})`,
    ]),
  ]);
}

export function relayWireguardCommand(relay: Command): void {
  const command = relay
    .command('wireguard')
    .summary('list the servers whose stock WireGuard clients are relayed')
    .description(
      'Lists the WireGuard servers whose stock clients reach them by this relay’s port: members that asked ' +
        'for it and servers the configuration names, their sessions and what was relayed.',
    )
    .option('--json', 'print as JSON')
    .action(async (_: unknown, self: Command) => {
      const { wireguard } = await Context.of(self).withDaemon(requestStatus);
      // `relay` has an option of this name too, and takes it.
      if (self.optsWithGlobals<{ json?: true }>().json === true) printJson(wireguard.bindings);
      else print(describe(wireguard.bindings));
    });
  explain(command, ['omerta relay wireguard', 'omerta relay wireguard --json'], { 3: true, 4: true });
}
