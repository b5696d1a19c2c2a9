// Counters of a table of nftables.

import type { RunCommand } from './host-commands.js';

interface Printed {
  readonly nftables: readonly { readonly counter?: { readonly name: string; readonly packets: number } }[];
}

/** Packets by the names of the counters; empty where nft cannot be asked, or there is no such table. */
export async function readCounters(
  run: RunCommand,
  table: string,
): Promise<Readonly<Record<string, number>>> {
  const printed = await run('nft', ['-json', 'list', 'counters', 'table', 'inet', table]).catch(
    () => '{"nftables":[]}',
  );
  const { nftables } = JSON.parse(printed) as Printed;
  return Object.fromEntries(
    nftables.flatMap(({ counter }) => (counter === undefined ? [] : [[counter.name, counter.packets]])),
  );
}
