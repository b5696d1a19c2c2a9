// omerta nat: what kind of NAT or firewall is in front of each address, and what would make it better.

import type { Command } from 'commander';
import type { NatStatus } from '../../core/runtime/nat-status.js';
import { natFacts, wordNat } from '../../status/model/nat-wording.js';
import { columns, Context, print, printJson, requestStatus } from '../context.js';
import { pinholeRows, portMappingRows, printable } from '../describe-status.js';
import { explain } from '../help.js';

export function natCommand(program: Command): void {
  const command = program
    .command('nat')
    .summary('show what NAT or firewall each address is behind')
    .description(
      'Shows for each interface, IPv4 and IPv6 apart, what kind of NAT or firewall is in front of it, as far as ' +
        'relays and members have shown it, and what would make direct paths easier.',
    )
    .option('--json', 'print as JSON')
    .action(async ({ json }: { json?: boolean }, self: Command) => {
      const status = await Context.of(self).withDaemon(requestStatus);
      const { nat } = status.mesh;
      if (json === true) {
        printJson(nat);
        return;
      }
      const mapping = [...portMappingRows(status), ...pinholeRows(status)];
      const parts = [...nat.map(describeNat), ...(mapping.length === 0 ? [] : [columns(mapping)])];
      print(parts.length === 0 ? 'no addresses to tell of' : parts.join('\n\n'));
    });
  explain(command, ['omerta nat', "omerta nat --json | jq '.[].mapping'"], { 3: true, 4: true });
}

function describeNat(report: NatStatus): string {
  const { what, next } = wordNat(report);
  const family = report.family === 'ipv4' ? 'IPv4' : 'IPv6';
  return columns(
    [
      [
        report.interface ?? 'any interface',
        `${family}${report.local === undefined ? '' : ` ${report.local}`}`,
      ],
      ['', `${what}.`],
      ...(next === '' ? [] : [['', `${next}.`]]),
      ...natFacts(report).map(([name, text]) => [`  ${name}`, text]),
    ].map((row) => row.map(printable)),
  );
}
