// omerta relay link: what another relay is told of this one.

import type { Command } from 'commander';
import { Context, print, printJson } from '../context.js';
import { explain } from '../help.js';

export function relayLinkCommand(relay: Command): void {
  const command = relay
    .command('link')
    .summary('print the link other relays know this one by')
    .description(
      'Prints the relay link: who this relay is and where. Two relays that have each other’s link in ' +
        '"peers" of [relay] carry circuits on for each other, so that members meet who have no relay in ' +
        'common. The link is not a secret.',
    )
    .option('--json', 'print as JSON')
    .action(async (_: unknown, self: Command) => {
      const { selfAsBootstrap } = await import('../self-as-bootstrap.js');
      const { encodePeerId } = await import('../../core/protocol/peer-id.js');
      const { encodeRelayLink } = await import('../../core/protocol/relay-link.js');
      const { formatSocketAddress } = await import('../../wire/socket-address.js');
      const own = await selfAsBootstrap(Context.of(self));
      const link = encodeRelayLink(own);
      // `relay` has an option of this name too, and takes it.
      if (self.optsWithGlobals<{ json?: true }>().json !== true) print(link);
      else
        printJson({
          peerId: encodePeerId(own.identity),
          addresses: own.addresses.map(formatSocketAddress),
          link,
        });
    });
  explain(command, ['omerta relay link', 'omerta relay link --json'], { 1: true, 2: true, 4: true });
}
