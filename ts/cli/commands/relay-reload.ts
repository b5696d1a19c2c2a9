// omerta relay reload: the running relay reads its configuration again.

import type { Command } from 'commander';
import type { ConfigurationChange } from '../../daemon/config/relay-configuration.js';
import { Context, print, printJson } from '../context.js';
import { explain } from '../help.js';

/** @param removed whether the key is back at its default, and what that is. */
function describeApplied(key: string, removed: ConfigurationChange['removed'][number] | undefined): string {
  if (removed === undefined) return `${key}: in force`;
  if (removed.default === null) return `${key}: removed, nothing is limited by it any more`;
  return `${key}: back at its default, ${JSON.stringify(removed.default)}`;
}

function describe({ applied, removed, restart }: ConfigurationChange): string {
  const lines = [
    ...applied.map((key) =>
      describeApplied(
        key,
        removed.find((each) => each.key === key),
      ),
    ),
    ...restart.map((key) => `${key}: from the next start on`),
  ];
  return lines.length === 0 ? 'nothing has changed' : lines.join('\n');
}

export function relayReloadCommand(relay: Command): void {
  const command = relay
    .command('reload')
    .summary('read the configuration again')
    .description(
      'Makes the running relay read its configuration file again. Whom it serves and every limit change at ' +
        'once, for circuits that stand too; what only a new start can change is named. A file with an ' +
        'error, or one that was there at the start and is gone, changes nothing. SIGHUP does the same to a relay that has no terminal.',
    )
    .option('--json', 'print as JSON')
    .action(async (_: unknown, self: Command) => {
      const change = await Context.of(self).withDaemon(
        async (client) => (await client.request({ command: 'reload-configuration' })) as ConfigurationChange,
      );
      if (self.optsWithGlobals<{ json?: true }>().json === true) printJson(change);
      else print(describe(change));
    });
  explain(command, ['omerta relay reload'], { 2: true, 3: true, 4: true });
}
