// omerta path: every way to a member, what probes have shown of it, and why it is not in use.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ControlClient } from '../../daemon/control/control-client.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import type { ShapingCounts } from '../../contract/shaping-control.js';
import type { MemberStatus } from '../../core/runtime/mesh-status.js';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import { Context, print, printJson, requestStatus } from '../context.js';
import { describeWays } from '../describe-paths.js';
import { explain } from '../help.js';
import { intervalOf } from '../interval-option.js';
import { onlyPeer, selectPeer } from '../select-peer.js';

interface PathOptions {
  readonly watch?: true;
  readonly interval: string;
  readonly json?: true;
}

const CLEAR_SCREEN = '\u001b[H\u001b[J';

interface Member {
  readonly member: MemberStatus;
  /** What came of shaping what is sent to it. */
  readonly shaped: ShapingCounts | undefined;
}

/** @throws OperatorError for who is a bootstrap alone. */
function memberOf(status: DaemonStatus, wanted: string | undefined): Member {
  const { peerId } = wanted === undefined ? onlyPeer(status, 'omerta path') : selectPeer(status, wanted);
  const member = status.mesh.networks
    .flatMap(({ members }) => members)
    .find((each) => each.peerId === peerId);
  const session = status.sessions.find(({ sessionKey }) => sessionKey === member?.sessionKey);
  if (member !== undefined) return { member, shaped: session?.shaping };
  throw new OperatorError(
    ExitCode.usage,
    'peer',
    'a bootstrap that is no member: it is reached by its own address alone',
    'Name a member; see: omerta peers',
  );
}

async function showPath(
  client: ControlClient,
  wanted: string | undefined,
  options: PathOptions,
): Promise<void> {
  const interval = intervalOf(options.interval, 0.1, '0.5');
  const first = memberOf(await requestStatus(client), wanted);
  const live = options.json !== true && process.stdout.isTTY;
  for (let told = first; ; told = memberOf(await requestStatus(client), first.member.peerId)) {
    const { member, shaped } = told;
    const { peerId, name, path, indirect, search, barred, ways, shaping } = member;
    const facts = {
      peerId,
      name,
      path,
      indirect,
      search,
      barred,
      ways,
      shaping: shaping && { ...shaping, ...shaped },
    };
    if (options.watch !== true) {
      if (options.json === true) printJson(facts);
      else print(describeWays(member, shaped));
      return;
    }
    if (options.json === true) print(JSON.stringify(facts));
    else print(`${live ? CLEAR_SCREEN : ''}${describeWays(member, shaped)}${live ? '' : '\n'}`);
    await sleep(interval);
  }
}

export function pathCommand(program: Command): void {
  const command = program
    .command('path')
    .summary('show every way to a member')
    .description(
      'Shows every way to a member: direct ones by address and interface, and those over relays, with what probes ' +
        'have shown of each (round trip, loss, how large a datagram it takes), which is in use, which takes over, and ' +
        'why the others are not used. PEER is named as for ping.',
    )
    .argument('[peer]', 'whose ways')
    .option('--watch', 'again and again, until Ctrl-C')
    .option('--interval <seconds>', 'between two tables of --watch', '1')
    .option('--json', 'print as JSON; with --watch one line each time')
    .action(async (peer: string | undefined, options: PathOptions, self: Command) => {
      await Context.of(self).withDaemon((client) => showPath(client, peer, options));
    });
  explain(
    command,
    ['omerta path laptop', 'omerta path laptop --watch', "omerta path laptop --json | jq '.ways[].reason'"],
    {
      2: true,
      3: true,
      4: true,
      5: 'the peer is not known',
    },
  );
}
