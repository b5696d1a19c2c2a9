// omerta route: LANs behind members.

import { setTimeout as sleep } from 'node:timers/promises';
import { performance } from 'node:perf_hooks';
import { Option, type Command } from 'commander';
import { ControlClient } from '../../daemon/control/control-client.js';
import type { ControlCommand } from '../../daemon/control/control-request.js';
import { whyNoLan } from '../../core/exit/lan-prefix.js';
import { networkOf } from '../../exit/denied-ranges.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import type { RouteReport } from '../../status/model/route-report.js';
import { containsIp, formatPrefix, parsePrefix } from '../../wire/prefix.js';
import { Context, print, printJson, requestStatus } from '../context.js';
import { describeRoutes } from '../describe-route.js';
import { peerIdOf, prefixesOf } from '../exit-options.js';
import { explain } from '../help.js';
import { repeatable } from '../repeatable.js';

/** Changing the host takes a dozen programs. */
const HOST_TIMEOUT_MS = 30_000;
/** So long `accept` waits for the member to answer; it is asked again after it. */
const ANSWER_WAIT_MS = 5000;
const POLL_MS = 100;

interface Json {
  readonly json?: true;
}

async function ask(client: ControlClient, command: ControlCommand): Promise<RouteReport> {
  return (await client.request(command, HOST_TIMEOUT_MS)) as RouteReport;
}

function show(report: RouteReport, json: true | undefined): void {
  if (json === true) printJson(report);
  else print(describeRoutes(report));
}

/** Prefixes of LANs without bits beyond their lengths. @throws OperatorError */
function lansOf(texts: readonly string[]): string[] {
  return prefixesOf('prefix', texts).map((text) => {
    const prefix = parsePrefix(text);
    const why = prefix === undefined ? 'it is not a prefix' : whyNoLan(prefix);
    if (prefix !== undefined && why === undefined) return formatPrefix(networkOf(prefix));
    throw new OperatorError(
      ExitCode.usage,
      'prefix',
      `${text} is no LAN behind a member: ${why ?? ''}`,
      'Type for example: omerta route advertise 192.168.7.0/24',
    );
  });
}

interface AdvertiseOptions extends Json {
  readonly allow?: readonly string[];
  readonly network?: readonly string[];
}

function advertiseCommand(route: Command): void {
  const command = route
    .command('advertise')
    .summary('let members reach a LAN behind this machine')
    .description(
      'Forwards what members with the right to it send to these LANs, translated to this machine\u2019s address there: nothing is ' +
        'changed on the LAN. Nobody has the right by default, and each member says itself which of the prefixes it accepts. ' +
        'What is typed replaces what was typed before.',
    )
    .argument('<prefix...>', 'LANs this machine reaches, such as 192.168.7.0/24')
    .addOption(repeatable('--allow <peer>', 'a member that may reach them (repeatable)'))
    .addOption(repeatable('--network <name>', 'every member of this network may (repeatable)'))
    .option('--json', 'print as JSON')
    .action(async (texts: readonly string[], options: AdvertiseOptions, self: Command) => {
      const prefixes = lansOf(texts);
      await Context.of(self).withDaemon(async (client) => {
        const status = await requestStatus(client);
        const advertise = {
          prefixes,
          allow: (options.allow ?? []).map((peer) => peerIdOf(status, peer)),
          networks: [...(options.network ?? [])],
        };
        show(await ask(client, { command: 'route-advertise', advertise }), options.json);
      });
    });
  explain(
    command,
    [
      'omerta route advertise 192.168.7.0/24 --allow laptop',
      'omerta route advertise 192.168.7.0/24 fd00:7::/64 --network home',
      'omerta route off --advertise',
    ],
    { 1: 'the host cannot be set up for it, as without nftables', 2: true, 3: true, 4: true, 5: true },
  );
}

function acceptCommand(route: Command): void {
  const command = route
    .command('accept')
    .summary('reach a LAN behind a member')
    .description(
      'Sends what is for these prefixes to the member they are behind, once that grants it; until then, and while it is away, ' +
        'to nobody. Prefixes that are on-link here stay on the link. Of one prefix accepted of two members, the first that grants it has it.',
    )
    .argument('<prefix...>', 'prefixes the member advertises, or parts of them')
    .addOption(
      new Option('--from <peer>', 'the member they are behind (default: the only one that advertises them)'),
    )
    .option('--json', 'print as JSON')
    .action(async (texts: readonly string[], options: Json & { readonly from?: string }, self: Command) => {
      const prefixes = lansOf(texts);
      await Context.of(self).withDaemon(async (client) => {
        const { from } = options;
        const peer =
          from === undefined
            ? onlyOffer(await ask(client, { command: 'route-list', ask: true }), prefixes)
            : peerIdOf(await requestStatus(client), from);
        const accept = prefixes.map((prefix) => ({ prefix, from: peer }));
        await ask(client, { command: 'route-accept', accept });
        show(await answered(client, peer), options.json);
      });
    });
  explain(
    command,
    [
      'omerta route accept 192.168.7.0/24',
      'omerta route accept 192.168.7.0/24 --from office',
      'omerta route list',
    ],
    { 1: 'the host cannot be set up for it', 2: true, 3: true, 4: true, 5: true },
  );
}

/** The report once this member has granted or refused, or it is plain that it will not soon. */
async function answered(client: ControlClient, peer: string): Promise<RouteReport> {
  const begin = performance.now();
  for (;;) {
    const report = await ask(client, { command: 'route-list', ask: false });
    const isAsked = report.accepted.some(({ peerId, state }) => peerId === peer && state === 'asking');
    if (!isAsked || performance.now() - begin > ANSWER_WAIT_MS) return report;
    await sleep(POLL_MS);
  }
}

/** Who alone advertises all of these. @throws OperatorError */
function onlyOffer({ offers }: RouteReport, prefixes: readonly string[]): string {
  const holds = (offered: readonly string[], text: string): boolean => {
    const wanted = parsePrefix(text);
    return offered.some((each) => {
      const prefix = parsePrefix(each);
      return (
        wanted !== undefined &&
        prefix !== undefined &&
        prefix.length <= wanted.length &&
        containsIp(prefix, wanted.ip)
      );
    });
  };
  const found = offers.filter(({ answer }) => {
    const offered = answer !== undefined && 'prefixes' in answer ? answer.prefixes : [];
    return prefixes.every((prefix) => holds(offered, prefix));
  });
  const [only] = found;
  if (only !== undefined && found.length === 1) return only.peerId;
  const what = prefixes.join(' ');
  throw new OperatorError(
    ExitCode.usage,
    '--from',
    only === undefined
      ? `no member advertises ${what} to this machine`
      : `${found.map(({ name, peerId }) => name || peerId).join(' and ')} advertise ${what}`,
    only === undefined
      ? 'See what is advertised: omerta route list; or name a member that will: --from PEER'
      : `Say which: omerta route accept ${what} --from ${only.name || only.peerId}`,
  );
}

function offCommand(route: Command): void {
  const command = route
    .command('off')
    .summary('end advertising and accepting')
    .description(
      'Ends both, one of them, or the prefixes that are named, and takes back what was changed on the host. Works without a ' +
        'running daemon too, for what a killed one left.',
    )
    .argument('[prefix...]', 'only these are accepted no more')
    .option('--advertise', 'only what is advertised')
    .option('--accept', 'only what is accepted')
    .option('--json', 'print as JSON')
    .action(
      async (
        texts: readonly string[],
        options: Json & { readonly advertise?: true; readonly accept?: true },
        self: Command,
      ) => {
        const prefixes = prefixesOf('prefix', texts).map(networkText);
        const all = prefixes.length === 0 && options.advertise === options.accept;
        const off = {
          advertise: all || options.advertise === true,
          accept: prefixes.length > 0 ? prefixes : all || options.accept === true,
        };
        const context = Context.of(self);
        const client = await ControlClient.connectIfRunning(context.state.socket);
        if (client === undefined) {
          await offWithoutDaemon(context, off);
          if (options.json === true) printJson({ off: true });
          else print('off; no daemon runs');
          return;
        }
        try {
          show(await ask(client, { command: 'route-off', ...off }), options.json);
        } finally {
          client.close();
        }
      },
    );
  explain(command, ['omerta route off', 'omerta route off 192.168.7.0/24', 'omerta route off --advertise'], {
    1: 'something of the host could not be taken back',
    2: true,
    3: true,
    4: true,
  });
}

/** Nothing is forwarded without a daemon, so what is on the host for LANs goes. */
async function offWithoutDaemon(
  { state }: Context,
  { advertise, accept }: { readonly advertise: boolean; readonly accept: boolean | readonly string[] },
): Promise<void> {
  if (!state.exists()) return;
  const { ExitHost } = await import('../../exit/exit-host.js');
  const { loadRouteSettings, NO_ROUTES, saveRouteSettings } =
    await import('../../daemon/state/route-settings.js');
  const host = new ExitHost({ journal: state.exitJournal, now: () => performance.now() });
  if (host.isChanged) await host.clearRoutes();
  let settings;
  try {
    settings = loadRouteSettings(state);
  } catch {
    settings = NO_ROUTES; // unreadable: this is what is typed to get rid of it
  }
  saveRouteSettings(state, {
    ...(!advertise && settings.advertise && { advertise: settings.advertise }),
    accept:
      accept === true
        ? []
        : settings.accept.filter(({ prefix }) => accept === false || !accept.includes(prefix)),
  });
}

const networkText = (text: string): string => {
  const prefix = parsePrefix(text);
  return prefix === undefined ? text : formatPrefix(networkOf(prefix));
};

function listCommand(route: Command): void {
  const command = route
    .command('list')
    .summary('show what is advertised and accepted')
    .description(
      'Shows the LANs behind this machine and who reaches them, those it accepts and by whom they are reached, and asks the members ' +
        'whose records say that a LAN is behind them which ones are for this machine.',
    )
    .option('--json', 'print as JSON')
    .action(async ({ json }: Json, self: Command) => {
      await Context.of(self).withDaemon(async (client) =>
        show(await ask(client, { command: 'route-list', ask: true }), json),
      );
    });
  explain(command, ['omerta route list', 'omerta route list --json'], { 3: true, 4: true });
}

export function routeCommand(program: Command): void {
  const route = program
    .command('route')
    .summary('reach LANs behind members')
    .description(
      'A member can forward to a LAN behind it. On that machine: omerta route advertise 192.168.7.0/24 --allow PEER. ' +
        'On the machine that is to reach it: omerta route accept 192.168.7.0/24. Both hold after a restart, until omerta route off.',
    );
  advertiseCommand(route);
  acceptCommand(route);
  offCommand(route);
  listCommand(route);
  explain(
    route,
    [
      'omerta route advertise 192.168.7.0/24 --allow laptop',
      'omerta route accept 192.168.7.0/24',
      'omerta route list',
      'omerta route off',
    ],
    { 1: true, 2: true, 3: true, 4: true, 5: true },
  );
}
