// omerta relay circuits: the circuits over this relay.
// omerta relay top: the same live, by circuit, identity or network.

import { setTimeout } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ControlClient } from '../../daemon/control/control-client.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import {
  GROUPS,
  SORT_KEYS,
  filtered,
  sorted,
  total,
  totals,
  withRates,
  type Carried,
  type Group,
  type RatedCircuit,
  type CarriedCircuits,
  type RelayTotal,
} from '../../status/model/relay-circuits.js';
import { formatBytes, formatCount, formatDuration } from '../../host/units.js';
import { Context, columns, print, printJson } from '../context.js';
import { printable } from '../describe-status.js';
import { explain } from '../help.js';
import { intervalOf } from '../interval-option.js';

const short = (peerId: string): string => `${peerId.slice(0, 14)}…`;
const perSecond = (text: string): string => `${text}/s`;
const CLEAR_SCREEN = '\u001b[H\u001b[J';
/** Lines of a screen that are not rows: summary, heading, and the cursor's. */
const SCREEN_MARGIN = 3;

interface Filter {
  readonly peer?: string;
  readonly network?: string;
}

interface CircuitsOptions extends Filter {
  readonly sort: string;
  readonly limit?: string;
  readonly interval: string;
}

interface TopOptions extends Filter {
  readonly by: string;
  readonly limit?: string;
  readonly interval: string;
  readonly once?: true;
}

function oneOf<Choice extends string>(option: string, value: string, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw new OperatorError(
    ExitCode.usage,
    `--${option}`,
    `"${value}" is not one of ${choices.join(', ')}`,
    `Type for example: --${option} ${choices[0] ?? ''}`,
  );
}

function limitOf(value: string | undefined): number {
  if (value === undefined) return Infinity;
  if (/^[1-9]\d{0,6}$/.test(value)) return Number(value);
  throw new OperatorError(
    ExitCode.usage,
    '--limit',
    `"${value}" is not a number of rows`,
    'Type: --limit 20',
  );
}

async function ask(client: ControlClient): Promise<CarriedCircuits> {
  return (await client.request({ command: 'relay-circuits' })) as CarriedCircuits;
}

function carried({ packets, bytes }: Carried): string {
  return `${formatCount(packets)} (${formatBytes(bytes)})`;
}

function describeCircuits(rows: readonly RatedCircuit[]): string {
  if (rows.length === 0) return 'no circuits';
  return columns([
    [
      'CIRCUIT',
      'CALLER',
      'CALLEE',
      'NETWORK',
      'CONSENT',
      'AGE',
      'LEFT',
      'TO CALLEE',
      'TO CALLER',
      'RATE',
      'DROPPED',
    ],
    ...rows.map((row) =>
      [
        row.id.slice(0, 8),
        short(row.callerPeerId),
        short(row.calleePeerId),
        row.networkName ?? row.network.slice(0, 8),
        row.consent,
        formatDuration(row.ageSeconds),
        row.state === 'open' ? formatDuration(row.expiresInSeconds) : 'half-open',
        carried(row.fromCaller),
        carried(row.fromCallee),
        perSecond(formatBytes(row.rate.bytes)),
        formatCount(total(row).dropped),
      ].map(printable),
    ),
  ]);
}

function describeTotals(rows: readonly RelayTotal[], group: Group): string {
  const nameOf = ({ key, name }: RelayTotal): string =>
    name ?? (group === 'identity' ? short(key) : key.slice(0, 8));
  return columns([
    [group.toUpperCase(), 'CIRCUITS', 'PACKETS/S', 'BYTES/S', 'DROPS/S', 'PACKETS', 'BYTES', 'DROPPED'],
    ...rows.map((row) =>
      [
        nameOf(row),
        String(row.circuits),
        formatCount(row.rate.packets),
        perSecond(formatBytes(row.rate.bytes)),
        formatCount(row.rate.dropped),
        formatCount(row.packets),
        formatBytes(row.bytes),
        formatCount(row.dropped),
      ].map(printable),
    ),
  ]);
}

function summary(rows: readonly RatedCircuit[]): string {
  const sum = (of: (row: RatedCircuit) => number): number => rows.reduce((all, row) => all + of(row), 0);
  return [
    `${rows.length} ${rows.length === 1 ? 'circuit' : 'circuits'}`,
    `${formatCount(sum(({ rate }) => rate.packets))} packets/s`,
    perSecond(formatBytes(sum(({ rate }) => rate.bytes))),
    `${formatCount(sum(({ rate }) => rate.dropped))} drops/s`,
  ].join(', ');
}

function addFilter(command: Command): Command {
  return command
    .option('--peer <id>', 'only circuits with an end whose peer id begins so')
    .option('--network <name>', 'only of this network: its name, or the beginning of its blinded id');
}

// `relay` has an option --json too, and takes it.
const wantsJson = (self: Command): boolean => self.optsWithGlobals<{ json?: true }>().json === true;

function circuitsCommand(relay: Command): void {
  const command = addFilter(
    relay
      .command('circuits')
      .alias('sessions') // its name of the last release
      .summary('list the circuits over this relay')
      .description(
        'Lists the circuits over the running relay: their ends and network, whether the callee was asked or has ' +
          'a standing policy, age and remaining lifetime, ' +
          'what went in each direction since the relay set them up, the present rate, and dropped packets.',
      ),
  )
    .option('--sort <key>', `largest first: ${SORT_KEYS.join(', ')} (of expiry the soonest)`, 'rate')
    .option('--limit <n>', 'print at most so many')
    .option('--interval <seconds>', 'time the rate is taken over', '1')
    .option('--json', 'print as JSON')
    .action(async (options: CircuitsOptions, self: Command) => {
      const key = oneOf('sort', options.sort, SORT_KEYS);
      const limit = limitOf(options.limit);
      const interval = intervalOf(options.interval, 0.1, '2');
      const rated = await Context.of(self).withDaemon(async (client) => {
        const before = await ask(client);
        await setTimeout(interval);
        return withRates(before, await ask(client));
      });
      const rows = sorted(filtered(rated, options), key).slice(0, limit);
      if (wantsJson(self)) printJson(rows);
      else print(describeCircuits(rows));
    });
  explain(
    command,
    [
      'omerta relay circuits',
      'omerta relay circuits --sort drops --limit 10',
      'omerta relay circuits --network home --json',
    ],
    { 2: 'wrong option, or the daemon is no relay', 3: true, 4: true },
  );
}

function topCommand(relay: Command): void {
  const command = addFilter(
    relay
      .command('top')
      .summary('watch what goes over this relay')
      .description(
        'Shows who uses the running relay most, renewed until Ctrl-C: packets and bytes per second by ' +
          'circuit, identity or network. By identity a circuit counts for both of its ends.',
      ),
  )
    .option('--by <group>', GROUPS.join(', '), 'circuit')
    .option('--interval <seconds>', 'between two tables', '2')
    .option('--limit <n>', 'at most so many rows (default: what fits on the terminal)')
    .option('--once', 'one table, then end')
    .option('--json', 'one line of JSON for each table')
    .action(async (options: TopOptions, self: Command) => {
      const group = oneOf('by', options.by, GROUPS);
      const limit = limitOf(options.limit);
      const interval = intervalOf(options.interval, 0.1, '2');
      await Context.of(self).withDaemon(async (client) => {
        let before = await ask(client);
        do {
          await setTimeout(interval);
          const after = await ask(client);
          const rated = filtered(withRates(before, after), options);
          before = after;
          show(rated, group, limit, wantsJson(self));
        } while (options.once !== true);
      });
    });
  explain(
    command,
    ['omerta relay top', 'omerta relay top --by identity --interval 5', 'omerta relay top --once --json'],
    { 2: 'wrong option, or the daemon is no relay', 3: true, 4: true },
  );
}

function show(rated: readonly RatedCircuit[], group: Group, limit: number, json: boolean): void {
  const live = !json && process.stdout.isTTY;
  const rows = totals(rated, group).slice(
    0,
    limit === Infinity && live ? Math.max(1, process.stdout.rows - SCREEN_MARGIN) : limit,
  );
  if (json) print(JSON.stringify({ by: group, circuits: rated.length, rows }));
  else print(`${live ? CLEAR_SCREEN : ''}${summary(rated)}\n${describeTotals(rows, group)}`);
}

export function relayCircuitsCommands(relay: Command): void {
  circuitsCommand(relay);
  topCommand(relay);
}
