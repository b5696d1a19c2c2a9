// omerta reload, omerta relay reload: what runs reads its configuration again.

import type { Command } from 'commander';
import type { ConfigurationChange } from '../../daemon/config/relay-configuration.js';
import { Context, print, printJson } from '../context.js';
import { explain } from '../help.js';

/** @param removed whether the key is back at its default, and what that is. */
function describeApplied(key: string, removed: ConfigurationChange['removed'][number] | undefined): string {
  if (removed === undefined) return `${key}: in force`;
  if (removed.default === null) return `${key}: removed, ${withoutIt(key)}`;
  return `${key}: back at its default, ${JSON.stringify(removed.default)}`;
}

/** What holds where a table that need not be there is gone. */
const withoutIt = (key: string): string =>
  key.startsWith('paths.interfaces.')
    ? 'the interface is not metered and has priority 0, for data and messages alike'
    : key === 'socks'
      ? 'there is no SOCKS proxy any more'
      : 'nothing is limited by it any more';

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
  addReload(
    relay,
    'Makes the running relay read its configuration file again. Whom it serves and every limit change at ' +
      'once, for circuits that stand too; what only a new start can change is named.',
    'omerta relay reload',
  );
}

export function reloadCommand(program: Command): void {
  addReload(
    program,
    'Makes the running node read its configuration file again. What is said of paths, of the log and, on a ' +
      'relay, whom it serves and every limit change at once, and no session ends; what only a new start can ' +
      'change is named.',
    'omerta reload',
  );
}

function addReload(parent: Command, does: string, example: string): void {
  const command = parent
    .command('reload')
    .summary('read the configuration again')
    .description(
      `${does} A file with an error, or one that was there at the start and is gone, changes nothing. SIGHUP ` +
        'does the same where there is no terminal.',
    )
    .option('--json', 'print as JSON')
    .action(async (_: unknown, self: Command) => {
      const change = await Context.of(self).withDaemon(
        async (client) => (await client.request({ command: 'reload-configuration' })) as ConfigurationChange,
      );
      if (self.optsWithGlobals<{ json?: true }>().json === true) printJson(change);
      else print(describe(change));
    });
  explain(command, [example], { 2: true, 3: true, 4: true });
}
