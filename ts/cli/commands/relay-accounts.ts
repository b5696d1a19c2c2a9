// omerta relay accounts: what identities and networks use of this relay, and what they may.

import type { Command } from 'commander';
import type { AccountRow, RelayAccountsStatus } from '../../status/model/relay-accounts.js';
import { formatBytes, formatCount } from '../../host/units.js';
import type { RateLimit } from '../../wire/limits.js';
import { Context, columns, print, printJson } from '../context.js';
import { explain } from '../help.js';

function describeLimit(limit: RateLimit | undefined): string {
  const { bytesPerSecond: bytes, packetsPerSecond: packets } = limit ?? {};
  const parts = [
    ...(bytes === undefined ? [] : [`${formatBytes(bytes)}/s`]),
    ...(packets === undefined ? [] : [`${formatCount(packets)} packets/s`]),
  ];
  return parts.length === 0 ? 'none' : parts.join(', ');
}

function table(title: string, rows: readonly AccountRow[]): string {
  const sorted = [...rows].sort((a, b) => b.bytes - a.bytes);
  return columns([
    [title, 'CLASS', 'IN USE BY', 'LIMIT', 'SENT', 'REFUSED'],
    ...sorted.map(({ id, name, quotaClass, uses, limit, packets, bytes, refused }) => [
      name ?? `${id.slice(0, 16)}…`,
      quotaClass,
      String(uses),
      describeLimit(limit),
      `${formatCount(packets)} (${formatBytes(bytes)})`,
      formatCount(refused),
    ]),
  ]);
}

function describe({ identities, networks }: RelayAccountsStatus): string {
  if (identities.length === 0) return 'nobody has used this relay since it started';
  return [table('IDENTITY', identities), '', table('NETWORK', networks)].join('\n');
}

export function relayAccountsCommand(relay: Command): void {
  const command = relay
    .command('accounts')
    .summary('show what identities and networks use, and their limits')
    .description(
      'Shows every identity and network that is charged for what this relay relays: its quota class, the ' +
        'circuits that use the account, what all of them together may, and how much was sent and refused.',
    )
    .option('--json', 'print as JSON')
    .action(async (_: unknown, self: Command) => {
      const accounts = await Context.of(self).withDaemon(
        async (client) => (await client.request({ command: 'relay-accounts' })) as RelayAccountsStatus,
      );
      if (self.optsWithGlobals<{ json?: true }>().json === true) printJson(accounts);
      else print(describe(accounts));
    });
  explain(command, ['omerta relay accounts', 'omerta relay accounts --json'], { 2: true, 3: true, 4: true });
}
