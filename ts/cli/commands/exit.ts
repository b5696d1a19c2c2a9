// omerta exit: the Internet by way of another member, and for others by way of this one.

import { setTimeout as sleep } from 'node:timers/promises';
import { performance } from 'node:perf_hooks';
import { Option, type Command } from 'commander';
import type { ControlCommand } from '../../daemon/control/control-request.js';
import { ControlClient } from '../../daemon/control/control-client.js';
import type { ExitState } from '../../core/runtime/exit-change.js';
import type { ExitRevoked } from '../../daemon/lifecycle/exits.js';
import type { ExitRightLeft } from '../../daemon/lifecycle/granted-rights.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { formatWireguardKey } from '../../host/wireguard-key.js';
import { fromHex } from '../../wire/bytes.js';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import { wordExitState, type ExitReport } from '../../status/model/exit-report.js';
import { Context, print, printJson, requestStatus } from '../context.js';
import { describeExit, describeOffers } from '../describe-exit.js';
import { durationOf } from '../duration-option.js';
import { addressesOf, hopsOf, peerIdOf, prefixesOf, subjectOf } from '../exit-options.js';
import { explain } from '../help.js';
import { repeatable } from '../repeatable.js';

/** So long `use` waits for one of the exits to grant; the request goes on after it. */
const GRANT_WAIT_MS = 20_000;
/** A record that says that it serves an exit may be on its way. */
const RECORD_WAIT_MS = 5000;
const POLL_MS = 200;
/** Changing the host takes a dozen programs. */
const HOST_TIMEOUT_MS = 30_000;

interface Json {
  readonly json?: true;
}

async function ask(client: ControlClient, command: ControlCommand): Promise<ExitReport> {
  return (await client.request(command, HOST_TIMEOUT_MS)) as ExitReport;
}

function show(report: ExitReport, json: true | undefined): void {
  if (json === true) printJson(report);
  else print(describeExit(report, Date.now()));
}

interface ServeOptions extends Json {
  readonly allow?: readonly string[];
  readonly network?: readonly string[];
  readonly lan?: readonly string[];
  readonly ipv4Only?: true;
  readonly ipv6Only?: true;
  readonly chain?: true;
  readonly dns: boolean;
  readonly resolver?: readonly string[];
  readonly backend: string;
}

function serveCommand(exit: Command): void {
  const command = exit
    .command('serve')
    .summary('let others leave by this machine')
    .description(
      'Forwards what members with the right to it send to the Internet, translated to this machine\u2019s addresses. ' +
        'Nobody has the right by default. What is typed replaces what was typed before, but for rights given by grant. ' +
        'Private and special ranges, this machine\u2019s own networks and TCP port 25 are never forwarded to, unless named with --lan.',
    )
    .addOption(repeatable('--allow <peer>', 'a member that may leave by this machine (repeatable)'))
    .addOption(repeatable('--network <name>', 'every member of this network may (repeatable)'))
    .addOption(
      repeatable('--lan <prefix>', 'a private network behind this machine that is forwarded to (repeatable)'),
    )
    .option('--ipv4-only', 'forward no IPv6')
    .option('--ipv6-only', 'forward no IPv4')
    .option(
      '--chain',
      'forward by the exit this machine uses itself, for those who agree to that with --hops',
    )
    .option('--no-dns', 'do not resolve names for guests')
    .addOption(
      repeatable(
        '--resolver <address>',
        'ask this resolver for them, not those of /etc/resolv.conf (repeatable)',
      ),
    )
    .addOption(
      new Option(
        '--backend <kind>',
        'kernel: an interface of the machine; namespace: a gateway, without root (omerta up --no-tun); stack: a TCP/IP stack ' +
          'of its own, without any right (omerta up --stack); auto: what there is',
      )
        .choices(['auto', 'kernel', 'namespace', 'stack'])
        .default('auto'),
    )
    .option('--json', 'print as JSON')
    .action(async (options: ServeOptions, self: Command) => {
      const { ipv4Only = false, ipv6Only = false } = options;
      if (ipv4Only && ipv6Only)
        throw new OperatorError(
          ExitCode.usage,
          '--ipv4-only',
          'it leaves nothing together with --ipv6-only',
          'Leave out one of them, or both',
        );
      const lan = prefixesOf('--lan', options.lan);
      await Context.of(self).withDaemon(async (client) => {
        const status = await requestStatus(client);
        requireBackend(status, options.backend);
        const serve = {
          allow: (options.allow ?? []).map((peer) => peerIdOf(status, peer)),
          networks: [...(options.network ?? [])],
          lan,
          ipv4: !ipv6Only,
          ipv6: !ipv4Only,
          chain: options.chain === true,
          dns: options.dns,
          resolvers: addressesOf('--resolver', options.resolver),
        };
        show(await ask(client, { command: 'exit-serve', serve }), options.json);
      });
    });
  explain(
    command,
    [
      'omerta exit serve --allow laptop',
      'omerta exit serve --network home --lan 192.168.7.0/24',
      'omerta exit off --serve',
    ],
    { 1: 'the host cannot be set up for it, as without nftables', 2: true, 3: true, 4: true, 5: true },
  );
}

/** What forwards follows from how the member was started. @throws OperatorError */
function requireBackend({ exit, noPrivateNetwork: closed }: DaemonStatus, wanted: string): void {
  const present = exit?.backend ?? 'kernel';
  if (wanted === 'auto' || wanted === present) return;
  const opened = closed === undefined || wanted !== 'namespace' ? '' : `${closed.remedy}, then `;
  throw new OperatorError(
    ExitCode.failure,
    '--backend',
    FORWARDS[present],
    `To change it: ${opened}omerta down, then ${STARTED_BY[wanted] ?? 'omerta up'}`,
  );
}

const FORWARDS = {
  kernel: 'the interface of this member is one of the machine, so the kernel forwards',
  namespace: 'the interface of this member is in a private network, so a gateway forwards',
  stack: 'this member has no interface, so a TCP/IP stack of its own forwards',
  guest: 'this member is a virtual machine’s, and forwards for nobody',
} as const;

/** By backend. */
const STARTED_BY: Readonly<Record<string, string>> = {
  kernel: 'sudo omerta up',
  namespace: 'omerta up --no-tun',
  stack: 'omerta up --stack',
};

interface UseOptions extends Json {
  readonly allowLan?: true;
  readonly paranoid?: true;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
  readonly hops: string;
}

function useCommand(exit: Command): void {
  const command = exit
    .command('use')
    .summary('leave by another member')
    .description(
      'Sends everything this machine sends by the first of these members that grants it. When that one is silent, ' +
        'the next is used; while none grants, nothing leaves, also on the LAN: an SSH session that comes in from elsewhere ' +
        'than the mesh ends. `omerta exit off` and `omerta down` end it; after a restart it is used again.',
    )
    .argument('<peer...>', 'members that serve an exit, in the order they are tried')
    .option(
      '--paranoid',
      'close this machine by nftables as well: nothing but the tunnel, also when the daemon is killed or down; only omerta exit off ends it',
    )
    .option('--allow-lan', 'reach what is on this machine\u2019s own networks directly')
    .addOption(repeatable('--include <prefix>', 'send only this by the exit (repeatable)'))
    .addOption(repeatable('--exclude <prefix>', 'send this directly (repeatable)'))
    .option('--hops <n>', 'exits the traffic may go by one after the other', '1')
    .option('--json', 'print as JSON')
    .action(async (peers: readonly string[], options: UseOptions, self: Command) => {
      const hops = hopsOf(options.hops);
      const include = prefixesOf('--include', options.include);
      const exclude = prefixesOf('--exclude', options.exclude);
      await Context.of(self).withDaemon(async (client) => {
        const status = await requestStatus(client);
        const exits = [...new Set(peers.map((peer) => peerIdOf(status, peer)))];
        const use = {
          exits,
          hops,
          allowLan: options.allowLan === true,
          include,
          exclude,
          paranoid: options.paranoid === true,
        };
        await ask(client, { command: 'exit-use', use });
        const report = await granted(client);
        show(report, options.json);
        requireGranted(report);
      });
    });
  explain(
    command,
    [
      'omerta exit use home-server',
      'omerta exit use home-server office --allow-lan',
      'omerta exit use home-server --include 203.0.113.0/24',
      'omerta exit off',
    ],
    {
      1: 'the host cannot be set up for it, or another program routes everything already',
      2: true,
      3: true,
      4: true,
      5: 'no exit grants yet: nothing leaves until one does',
    },
  );
}

/** @throws OperatorError that says why nothing leaves. */
function requireGranted(report: ExitReport): void {
  if (report.error !== undefined)
    throw new OperatorError(ExitCode.failure, 'exit', report.error, 'See docs/exit.md, "When it fails"');
  if (report.using?.active !== undefined) return;
  const [first] = report.using?.exits ?? [];
  const why = first && wordExitState(first.state);
  throw new OperatorError(
    ExitCode.unreachable,
    'exit',
    `none grants${why === undefined ? '' : ` (${first?.name ?? ''}: ${why.what})`}; it is asked again, and until then nothing leaves`,
    why?.next ?? 'To leave directly again: omerta exit off',
  );
}

/**
 * What --exit PEER of other commands means: as `omerta exit use PEER` before it, where nothing else is in use.
 * @throws OperatorError
 */
export async function leaveBy(client: ControlClient, peer: string): Promise<void> {
  const status = await requestStatus(client);
  const wanted = peerIdOf(status, peer);
  const { using } = await ask(client, { command: 'exit-status' });
  const [first] = using?.exits ?? [];
  if (first === undefined) {
    const use = { exits: [wanted], hops: 1, allowLan: false, include: [], exclude: [], paranoid: false };
    await ask(client, { command: 'exit-use', use });
  } else if (first.peerId !== wanted)
    throw new OperatorError(
      ExitCode.usage,
      '--exit',
      `another exit is in use (${first.name === '' ? first.peerId : first.name}), and one member leaves by one`,
      `To change it for all programs: omerta exit use ${peer}`,
    );
  requireGranted(await granted(client));
}

/** The report once an exit is in use, or it is plain that none will be soon. */
async function granted(client: ControlClient): Promise<ExitReport> {
  const begin = performance.now();
  const mayCome = (state: ExitState, waited: number): boolean =>
    waited <
    (state === 'not-offered'
      ? RECORD_WAIT_MS
      : state === 'asking' || state === 'unknown'
        ? GRANT_WAIT_MS
        : 0);
  for (;;) {
    const report = await ask(client, { command: 'exit-status' });
    const waited = performance.now() - begin;
    const exits = report.using?.exits ?? [];
    if (report.using?.active !== undefined || !exits.some(({ state }) => mayCome(state, waited)))
      return report;
    await sleep(POLL_MS);
  }
}

function offCommand(exit: Command): void {
  const command = exit
    .command('off')
    .summary('end serving and using')
    .description(
      'Ends both, or one of them, and takes back every change of the host: routes, rules, nftables and kernel parameters. ' +
        'Works without a running daemon too, for what a killed one left.',
    )
    .option('--serve', 'only what is served')
    .option('--use', 'only what is used')
    .option('--json', 'print as JSON')
    .action(async (options: Json & { readonly serve?: true; readonly use?: true }, self: Command) => {
      const both = options.serve === options.use;
      const context = Context.of(self);
      const client = await ControlClient.connectIfRunning(context.state.socket);
      if (client === undefined) {
        await offWithoutDaemon(context, {
          serve: both || options.serve === true,
          use: both || options.use === true,
        });
        if (options.json === true) printJson({ off: true });
        else print('off; no daemon runs');
        return;
      }
      try {
        const off = { serve: both || options.serve === true, use: both || options.use === true };
        show(await ask(client, { command: 'exit-off', ...off }), options.json);
      } finally {
        client.close();
      }
    });
  explain(command, ['omerta exit off', 'omerta exit off --use'], {
    1: 'something of the host could not be taken back',
    2: true,
    4: true,
  });
}

/** Nothing is served without a daemon, so that goes from the host; what is closed goes when that is to end. */
async function offWithoutDaemon(
  { state }: Context,
  which: { readonly serve: boolean; readonly use: boolean },
): Promise<void> {
  if (!state.exists()) return;
  const { ExitHost } = await import('../../exit/exit-host.js');
  const { loadExitSettings, saveExitSettings } = await import('../../daemon/state/exit-settings.js');
  const host = new ExitHost({ journal: state.exitJournal, now: () => performance.now() });
  if (host.isChanged) await (which.use ? host.clear() : host.clearServing());
  let settings;
  try {
    settings = loadExitSettings(state);
  } catch {
    settings = { grants: [] }; // unreadable: this is what is typed to get rid of it
  }
  const { serve, use, grants } = settings;
  saveExitSettings(state, {
    grants: which.serve ? [] : grants,
    ...(!which.serve && serve && { serve }),
    ...(!which.use && use && { use }),
  });
}

function grantCommand(exit: Command): void {
  const command = exit
    .command('grant')
    .summary('give a right to leave by this machine')
    .description(
      'Lets a member, or whoever holds a session key, leave by this machine for a time. It is asked for again and again ' +
        'while it is used, so the right ends by itself. Takes effect once `omerta exit serve` was typed.',
    )
    .argument('<key>', 'a member, a peer id, or a session key (44 characters, as WireGuard writes them)')
    .option('--for <time>', 'how long: 90s, 15min, 2h, 7d (default: until it is revoked)')
    .option('--json', 'print as JSON')
    .action(async (key: string, options: Json & { readonly for?: string }, self: Command) => {
      const lasts = options.for === undefined ? undefined : durationOf('--for', options.for);
      await Context.of(self).withDaemon(async (client) => {
        const subject = subjectOf(await requestStatus(client), key);
        const grant = { subject, ...(lasts !== undefined && { until: Date.now() + lasts }) };
        show(await ask(client, { command: 'exit-grant', grant }), options.json);
      });
    });
  explain(command, ['omerta exit grant laptop --for 2h', 'omerta exit grant omerta1… --for 7d'], {
    2: true,
    3: true,
    4: true,
    5: true,
  });
}

function wordRight(right: ExitRightLeft): { readonly what: string; readonly next: string } {
  if ('network' in right)
    return {
      what: `network ${right.network}`,
      next: `Serve without --network ${right.network}: omerta exit serve`,
    };
  if ('file' in right)
    return {
      what: `[exit] of ${right.file}`,
      next: 'Take it out of allow there, then type: omerta reload',
    };
  const key = 'key' in right ? formatWireguardKey(fromHex(right.key) ?? new Uint8Array(32)) : right.peer;
  return {
    what: 'key' in right ? 'its session key' : 'its peer id',
    next: `Type: omerta exit revoke ${key}`,
  };
}

function revokeCommand(exit: Command): void {
  const command = exit
    .command('revoke')
    .summary('take a right back')
    .description(
      'Takes a right back that was given by grant or with --allow; packets of its holder stop at once.',
    )
    .argument('<key>', 'a member, a peer id, or a session key')
    .option('--json', 'print as JSON')
    .action(async (key: string, { json }: Json, self: Command) => {
      await Context.of(self).withDaemon(async (client) => {
        const subject = subjectOf(await requestStatus(client), key);
        const { found, left } = (await client.request(
          { command: 'exit-revoke', subject },
          HOST_TIMEOUT_MS,
        )) as ExitRevoked;
        if (json === true) printJson({ found, left });
        const others = left.map(wordRight);
        if (others.length > 0)
          throw new OperatorError(
            found ? ExitCode.failure : ExitCode.usage,
            'exit',
            `${found ? 'that right is taken back, but' : `"${key}" has no right of its own, but`} it still may leave by ${others.map(({ what }) => what).join(' and by ')}`,
            others.map(({ next }) => next).join('; '),
          );
        if (!found)
          throw new OperatorError(
            ExitCode.usage,
            'exit',
            `"${key}" has no right of its own`,
            'See who has: omerta exit status',
          );
        if (json !== true) print('revoked');
      });
    });
  explain(command, ['omerta exit revoke laptop'], {
    1: 'taken back, but another right is left',
    2: true,
    3: true,
    4: true,
    5: true,
  });
}

function reportCommand(
  exit: Command,
  name: 'status' | 'list',
  summary: string,
  description: string,
  describe: (report: ExitReport) => string,
): void {
  const command = exit
    .command(name)
    .summary(summary)
    .description(description)
    .option('--json', 'print as JSON')
    .action(async ({ json }: Json, self: Command) => {
      await Context.of(self).withDaemon(async (client) => {
        const report = await ask(client, { command: 'exit-status' });
        if (json === true) printJson(name === 'list' ? report.offers : report);
        else print(describe(report));
      });
    });
  explain(command, [`omerta exit ${name}`, `omerta exit ${name} --json`], { 3: true, 4: true });
}

export function exitCommand(program: Command): void {
  const exit = program
    .command('exit')
    .summary('leave by another member, or let others leave by this one')
    .description(
      'An exit is a member that forwards to the Internet for others. On the exit: omerta exit serve --allow PEER. ' +
        'On the machine that is to leave by it: omerta exit use PEER. Both hold after a restart, until omerta exit off.',
    );
  serveCommand(exit);
  useCommand(exit);
  offCommand(exit);
  reportCommand(
    exit,
    'list',
    'list members that serve an exit',
    'Lists the members whose records say that they serve an exit; whether this machine has the right is found out by using it.',
    describeOffers,
  );
  reportCommand(
    exit,
    'status',
    'show what is served and used',
    'Shows who may leave by this machine, who does, since when and for how much; and by whom this machine leaves, or why not.',
    (report) => describeExit(report, Date.now()),
  );
  grantCommand(exit);
  revokeCommand(exit);
  explain(
    exit,
    [
      'omerta exit serve --allow laptop',
      'omerta exit use home-server',
      'omerta exit status',
      'omerta exit off',
    ],
    {
      1: true,
      2: true,
      3: true,
      4: true,
      5: true,
    },
  );
}
