// omerta ping: round trips inside the encrypted session with a peer.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { ControlClient } from '../../daemon/control/control-client.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import type { MemberStatus } from '../../core/runtime/mesh-status.js';
import type { DaemonStatus } from '../../status/model/daemon-status.js';
import { activeWay, standbyWay, wordBarred, wordIndirect, wordWay } from '../../status/model/path-wording.js';
import { wordCircuitFailure, wordUplinkError, type Wording } from '../../status/model/wording.js';
import { Context, print, printJson, requestStatus } from '../context.js';
import { printable } from '../describe-status.js';
import { explain } from '../help.js';
import { intervalOf } from '../interval-option.js';
import { onlyPeer, selectPeer } from '../select-peer.js';

interface PingOptions {
  readonly count: string;
  readonly interval: string;
  readonly json?: boolean;
}

const TIMEOUT_MS = 5000;

function waysTo({ mesh }: DaemonStatus, peerId: string): MemberStatus | undefined {
  return mesh.networks.flatMap((network) => network.members).find((member) => member.peerId === peerId);
}

/** By which way the answers came, what takes over, and why it is no direct one. */
function describeWay({ ways, path, indirect }: MemberStatus): string {
  const [active, standby] = [activeWay(ways), standbyWay(ways)];
  return [
    `path: ${active === undefined ? path : wordWay(active)}`,
    ...(standby === undefined ? [] : [`standby: ${wordWay(standby)}`]),
    ...(indirect === undefined ? [] : [`not direct: ${wordIndirect(indirect).what}`]),
  ].join('; ');
}

function countOf(value: string): number {
  if (/^\d{1,6}$/.test(value) && Number(value) >= 1) return Number(value);
  throw new OperatorError(
    ExitCode.usage,
    '--count',
    `"${value}" is not a whole number from 1 to 999999`,
    'Type for example: -c 4',
  );
}

/** What this node knows of the reason: no circuit to the member, or none of its relays is at hand. */
function whyUnanswered({ mesh }: DaemonStatus, peerId: string): Wording | undefined {
  const members = mesh.networks.flatMap((network) => network.members);
  const member = members.find((each) => each.peerId === peerId);
  const barred = member && wordBarred(member);
  if (barred !== undefined) return barred;
  const refused = member?.refused;
  if (refused !== undefined) return wordCircuitFailure(refused);
  if (mesh.bootstraps.some(({ state }) => state === 'registered')) return undefined;
  const lastError = mesh.bootstraps.find((bootstrap) => bootstrap.lastError !== undefined)?.lastError;
  return lastError && wordUplinkError(lastError);
}

async function ping(client: ControlClient, wanted: string | undefined, options: PingOptions): Promise<void> {
  const count = countOf(options.count);
  const interval = intervalOf(options.interval, 0.01, '0.5');
  const json = options.json === true;
  const status = await requestStatus(client);
  const peer = wanted === undefined ? onlyPeer(status, 'omerta ping') : selectPeer(status, wanted);
  const label = printable(
    peer.name === '' ? peer.peerId : `${peer.name} (${peer.addresses[0] ?? peer.peerId})`,
  );
  const times: (number | null)[] = [];
  for (let sequence = 1; sequence <= count; sequence++) {
    if (sequence > 1) await sleep(interval);
    const result = (await client.request(
      { command: 'ping', peer: peer.peerId, timeoutMs: TIMEOUT_MS },
      TIMEOUT_MS + 2000,
    )) as { rttMs: number | null };
    times.push(result.rttMs);
    if (!json)
      print(
        result.rttMs === null
          ? `${label}: seq=${sequence} no answer within ${TIMEOUT_MS / 1000} s`
          : `${label}: seq=${sequence} time=${result.rttMs.toFixed(3)} ms`,
      );
  }
  const answered = times.filter((time) => time !== null);
  const mean = answered.reduce((sum, time) => sum + time, 0) / answered.length;
  const ways = waysTo(await requestStatus(client), peer.peerId);
  if (json)
    printJson({
      peerId: peer.peerId,
      name: peer.name,
      sent: count,
      received: answered.length,
      rttMs: times,
      path: ways?.path ?? null,
      way: activeWay(ways?.ways ?? []) ?? null,
    });
  else if (answered.length > 0)
    print(
      `${count} sent, ${answered.length} received, ` +
        `min/avg/max = ${Math.min(...answered).toFixed(3)}/${mean.toFixed(3)}/${Math.max(...answered).toFixed(3)} ms`,
    );
  if (!json && answered.length > 0 && ways !== undefined) print(printable(describeWay(ways)));
  if (answered.length === 0) {
    const why = whyUnanswered(await requestStatus(client), peer.peerId);
    throw new OperatorError(
      ExitCode.unreachable,
      'peer',
      `${label} did not answer (${count} sent)${why === undefined ? '' : `: ${why.what}`}`,
      why?.next ?? 'See the ways to it: omerta path',
    );
  }
}

export function pingCommand(program: Command): void {
  const command = program
    .command('ping')
    .summary('measure the round trip to a peer')
    .description(
      'Measures the round trip to a peer inside the encrypted session, over the path in use. ' +
        'PEER is a name, a peer id, the unique beginning of either, or an overlay address; it may be ' +
        'left out when there is only one.',
    )
    .argument('[peer]', 'whom to ping')
    .option('-c, --count <n>', 'how many pings', '4')
    .option('--interval <seconds>', 'seconds between pings', '1')
    .option('--json', 'print the result as JSON')
    .action(async (peer: string | undefined, options: PingOptions, self: Command) => {
      await Context.of(self).withDaemon((client) => ping(client, peer, options));
    });
  explain(
    command,
    ['omerta ping laptop', 'omerta ping 100.64.1.2 -c 10 --interval 0.2', 'omerta ping -c 1 --json'],
    {
      2: true,
      3: true,
      4: true,
      5: 'the peer is not known, or no ping was answered',
    },
  );
}
