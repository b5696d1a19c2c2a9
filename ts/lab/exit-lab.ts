// npm run lab -- exit: ordinary programs by way of an exit, over a relay and directly; what stays on the hosts; and what
// leaks beside it without the guard and with it.

import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { EXIT_OUTSIDE, exitReportOf, ExitWorld, hostState, LAN, WEB, type ExitMember } from './exit-world.js';
import { privateRows, stackRows } from './exit-lab-private.js';
import { LeakProbes } from './leak-table.js';
import { UsageError } from './options.js';
import { formatMs, Report } from './report.js';
import { World } from './world.js';

const GRANT_MS = 90_000;

const say = (text: string): void => console.error(`· ${text}`);

async function type(on: ExitMember, ...words: string[]): Promise<void> {
  await on.omerta.command(['exit', ...words]);
}

/** Milliseconds until the guest reaches the web server. @throws Error when it does not */
async function reached(made: ExitWorld): Promise<number> {
  const begin = performance.now();
  while (performance.now() - begin < GRANT_MS) {
    if ((await made.fetch(WEB.ipv4, 80, 1)) !== undefined) return performance.now() - begin;
    await setTimeout(50);
  }
  throw new Error(`the guest does not reach the web server by the exit: ${made.guest.omerta.log}`);
}

async function members(made: ExitWorld): Promise<string> {
  const { mesh } = (await made.guest.omerta.request({ command: 'status' })) as {
    mesh: { networks: { members: { peerId: string; path: string }[] }[] };
  };
  return mesh.networks[0]?.members.find(({ peerId }) => peerId === made.exit.peerId)?.path ?? 'none';
}

/** curl, ping and names by the exit. */
async function programs(made: ExitWorld, way: 'relay' | 'direct', report: Report): Promise<void> {
  say(`the guest uses the exit (${way})`);
  const begin = performance.now();
  await type(made.guest, 'use', made.exit.peerId);
  await reached(made);
  report.note(`${way}: omerta exit use until curl has its answer`, formatMs(performance.now() - begin));
  for (let tries = 0; way === 'direct' && tries < 300 && (await members(made)) !== way; tries++)
    await setTimeout(50);
  const path = await members(made);
  report.judge(`${way}: path between guest and exit`, path, way, path === way);
  for (const [family, address, outside] of [
    ['IPv4', WEB.ipv4, EXIT_OUTSIDE.ipv4],
    ['IPv6', WEB.ipv6, EXIT_OUTSIDE.ipv6],
  ] as const) {
    const seen = (await made.fetch(address)) ?? 'nobody';
    report.judge(`${way}: curl, ${family}: the web server sees`, seen, outside, seen === outside);
    const answered = await made.ping(address);
    report.judge(`${way}: ping, ${family}`, answered ? 'answered' : 'not answered', 'answered', answered);
  }
  const named = (await made.fetch('shop.example')) ?? 'nobody';
  const isExit = named === EXIT_OUTSIDE.ipv4 || named === EXIT_OUTSIDE.ipv6;
  report.judge(`${way}: curl by name, resolved by the exit`, named, 'the exit', isExit);
}

async function limits(made: ExitWorld, report: Report): Promise<void> {
  say('where it does not forward to');
  for (const [what, address, port] of [
    ['the exit\u2019s LAN', LAN.ipv4, 80],
    ['its LAN inside a NAT64 address', '64:ff9b::192.168.7.2', 80],
    ['its LAN inside a 6to4 address', '2002:c0a8:702::1', 80],
    ['its own address', EXIT_OUTSIDE.ipv4, 80],
    ['TCP port 25', WEB.ipv4, 25],
  ] as const) {
    const answer = await made.fetch(address, port, 1);
    report.judge(
      `denied: ${what}`,
      answer === undefined ? 'not reached' : 'reached',
      'not reached',
      answer === undefined,
    );
  }
  await made.exit.omerta.request({ command: 'exit-revoke', subject: { peer: made.guest.peerId } });
  const answer = await made.fetch(WEB.ipv4, 80, 1);
  report.judge(
    'right taken back',
    answer === undefined ? 'not reached' : 'reached',
    'not reached',
    answer === undefined,
  );
  await type(made.exit, 'serve', '--allow', made.guest.peerId, '--resolver', WEB.ipv4);
}

/** The LAN behind the exit, as a route and without an exit. */
async function routes(made: ExitWorld, report: Report): Promise<void> {
  say('a LAN behind a member');
  const before = { guest: await hostState(made.guest.node), exit: await hostState(made.exit.node) };
  await made.exit.omerta.command(['route', 'advertise', LAN.prefix, '--allow', made.guest.peerId]);
  const begin = performance.now();
  await made.guest.omerta.command(['route', 'accept', LAN.prefix, '--from', made.exit.peerId]);
  let seen: string | undefined;
  while (seen === undefined && performance.now() - begin < GRANT_MS) seen = await made.fetch(LAN.ipv4, 80, 1);
  report.note('route: omerta route accept until curl has its answer', formatMs(performance.now() - begin));
  const gateway = '192.168.7.1';
  report.judge('route: curl: the LAN sees', seen ?? 'nobody', gateway, seen === gateway);
  for (const [what, reached, wanted] of [
    ['ping to the LAN', await made.ping(LAN.ipv4), true],
    ['ping to what else is behind the member', await made.ping(WEB.ipv4), false],
  ] as const)
    report.judge(
      `route: ${what}`,
      reached ? 'answered' : 'not answered',
      wanted ? 'answered' : 'not answered',
      reached === wanted,
    );
  for (const on of ['guest', 'exit'] as const) {
    await made[on].omerta.command(['route', 'off']);
    judgeLeft(report, on, 'omerta route off', differences(before[on], await hostState(made[on].node)));
  }
}

function judgeLeft(report: Report, on: string, command: string, left: readonly string[]): void {
  const text = left.length === 0 ? 'nothing' : left.join(', ');
  report.judge(`left on the ${on} after ${command}`, text, 'nothing', left.length === 0);
}

/** What of a host is not as it was. */
function differences(before: Record<string, string>, now: Record<string, string>): string[] {
  return Object.keys(before).filter((part) => before[part] !== now[part]);
}

async function leaks(world: World, made: ExitWorld, report: Report): Promise<void> {
  say('what leaks, without the guard and with it');
  const probes = await LeakProbes.start(world, {
    machine: made.guest.node,
    router: made.home,
    inner: made.guest.ipv4,
    relay: made.relay.node.address,
  });
  try {
    const open = await probes.round();
    await type(made.guest, 'use', made.exit.peerId, '--paranoid');
    await reached(made);
    const states: [string, Awaited<ReturnType<LeakProbes['round']>>][] = [['in use', await probes.round()]];
    await made.guest.omerta.kill();
    states.push(['killed', await probes.round()]);
    for (const leak of probes.leaks) {
      const without = open.leaked.includes(leak);
      const guarded = states.filter(([, { leaked }]) => leaked.includes(leak)).map(([state]) => state);
      report.judge(
        `leak, ${leak.kind}: ${leak.probe}`,
        `${without ? 'seen' : 'not seen'} / ${guarded.length === 0 ? 'not seen' : `seen ${guarded.join(', ')}`}`,
        'seen / not seen',
        without && guarded.length === 0,
      );
    }
    const others = states.reduce((sum, round) => sum + round[1].others.length, 0);
    report.judge('leak, anything else with the guard', `${others} packets`, '0 packets', others === 0);
  } finally {
    probes.stop();
  }
}

/** @returns the exit code */
export async function exitLab(argv: readonly string[]): Promise<number> {
  let values;
  try {
    ({ values } = parseArgs({ args: [...argv], options: { json: { type: 'boolean', default: false } } }));
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  const report = new Report();
  for (const way of ['direct', 'relay'] as const) {
    const world = await World.create();
    try {
      const made = await ExitWorld.start(world, {
        direct: way === 'direct',
        exitNat: way === 'direct' ? 'port-restricted' : 'symmetric',
      });
      const before = { guest: await hostState(made.guest.node), exit: await hostState(made.exit.node) };
      await type(made.exit, 'serve', '--allow', made.guest.peerId, '--resolver', WEB.ipv4);
      await programs(made, way, report);
      if (way === 'direct') continue;
      await limits(made, report);
      const status = await exitReportOf(made.exit);
      report.note('packets dropped to denied ranges', String(status.serving?.dropped.denied ?? 0));
      await type(made.guest, 'off');
      await type(made.exit, 'off');
      for (const on of ['guest', 'exit'] as const)
        judgeLeft(report, on, 'omerta exit off', differences(before[on], await hostState(made[on].node)));
      await routes(made, report);
      await type(made.exit, 'serve', '--allow', made.guest.peerId, '--resolver', WEB.ipv4);
      await leaks(world, made, report);
    } finally {
      world.remove();
    }
  }
  for (const rows of [privateRows, stackRows]) {
    const world = await World.create();
    try {
      await rows(world, report);
    } finally {
      world.remove();
    }
  }
  if (values.json) console.log(JSON.stringify({ met: !report.failed, results: report.results }, null, 2));
  else console.log(`\n${report.table()}`);
  return report.failed ? 1 : 0;
}
