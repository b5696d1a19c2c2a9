// The rows of `npm run lab -- exit` without root: programs in a private network, and those of the machine by SOCKS, by an
// exit that is a gateway; and an exit by its engine's own stack.

import { setTimeout } from 'node:timers/promises';
import type { Finished } from './command.js';
import { EXIT_OUTSIDE, ExitWorld, LAN, seenAddress, WEB, type ExitMember } from './exit-world.js';
import { ordinaryUserUnavailable } from './ordinary-user.js';
import type { Report } from './report.js';
import type { World } from './world.js';

const WAIT_MS = 60_000;

function run(on: ExitMember, ...words: string[]): Promise<Finished> {
  const [file = '', ...args] = on.omerta.typed(...words);
  return on.node.run(file, args, { timeoutMs: 60_000 });
}

/** A question for a name, by UDP, of a server beyond the exit. */
const QUESTION = `
  import { Resolver } from 'node:dns/promises';
  const resolver = new Resolver({ timeout: 2000, tries: 3 });
  resolver.setServers([process.argv[1]]);
  console.log((await resolver.resolve4('shop.example')).join());`;

/** The exit by its engine's own stack: the guest has an interface of its machine. */
export async function stackRows(world: World, report: Report): Promise<void> {
  const unavailable = ordinaryUserUnavailable();
  if (unavailable !== undefined) return;
  console.error('· exit by a stack of its own');
  const made = await ExitWorld.start(world, { stack: true });
  const { guest, exit } = made;
  await run(exit, 'exit', 'serve', '--backend', 'stack', '--allow', guest.peerId, '--resolver', WEB.ipv4);
  await run(guest, 'exit', 'use', 'exit');
  const begin = performance.now();
  while (!(await made.leaves()) && performance.now() - begin < WAIT_MS) await setTimeout(100);
  for (const [family, host, outside] of [
    ['IPv4', WEB.ipv4, EXIT_OUTSIDE.ipv4],
    ['IPv6', WEB.ipv6, EXIT_OUTSIDE.ipv6],
  ] as const) {
    const seen = (await made.fetch(host)) ?? '';
    report.judge(`by a stack: curl, ${family}: the web server sees`, seen, outside, seen === outside);
  }
  const answer = await guest.node.run(process.execPath, ['--input-type=module', '-e', QUESTION, exit.ipv4]);
  const named = answer.stdout.trim();
  report.judge('by a stack: a name, asked of the exit', named, WEB.ipv4, named === WEB.ipv4);
  await exit.node.sysctl('net.ipv4.ping_group_range=0 2147483647'); // as systemd sets it
  for (const [family, host] of [
    ['IPv4', WEB.ipv4],
    ['IPv6', WEB.ipv6],
  ] as const) {
    const isAnswered = await made.ping(host);
    report.judge(
      `by a stack: ping, ${family}`,
      isAnswered ? 'answered' : 'not answered',
      'answered',
      isAnswered,
    );
  }
  const lan = (await made.fetch(LAN.ipv4)) === undefined ? 'not reached' : 'reached';
  report.judge('by a stack: denied: the exit’s LAN', lan, 'not reached', lan === 'not reached');
}

export async function privateRows(world: World, report: Report): Promise<void> {
  const unavailable = ordinaryUserUnavailable();
  if (unavailable !== undefined) {
    report.note('without root', `not tried: ${unavailable}`);
    return;
  }
  console.error('· guest and exit without root');
  const made = await ExitWorld.start(world, { ordinary: ['guest', 'exit'] });
  const { guest, exit } = made;
  await run(exit, 'exit', 'serve', '--allow', guest.peerId, '--resolver', WEB.ipv4);
  const exec = async (...words: string[]): Promise<string> =>
    seenAddress((await run(guest, 'exec', '--exit', 'exit', '--', ...words)).stdout);
  const curl = (host: string): Promise<string> => exec('curl', '-sS', '-g', '-m', '3', `http://${host}/`);
  const begin = performance.now();
  while ((await curl(WEB.ipv4)) === '' && performance.now() - begin < WAIT_MS) await setTimeout(100);
  for (const [family, host, outside] of [
    ['IPv4', WEB.ipv4, EXIT_OUTSIDE.ipv4],
    ['IPv6', `[${WEB.ipv6}]`, EXIT_OUTSIDE.ipv6],
  ] as const) {
    const seen = await curl(host);
    report.judge(`without root: exec, curl, ${family}: the web server sees`, seen, outside, seen === outside);
  }
  const outside: readonly string[] = Object.values(EXIT_OUTSIDE);
  const named = await curl('shop.example');
  report.judge(
    'without root: exec, by name, resolved by the exit',
    named,
    'the exit',
    outside.includes(named),
  );
  const answer = await exec(process.execPath, '--input-type=module', '-e', QUESTION, WEB.ipv4);
  report.judge('without root: exec, a datagram and its answer', answer, WEB.ipv4, answer === WEB.ipv4);
  await exit.node.sysctl('net.ipv4.ping_group_range=0 2147483647'); // as systemd sets it
  for (const [family, host] of [
    ['IPv4', WEB.ipv4],
    ['IPv6', WEB.ipv6],
  ] as const) {
    const { code } = await run(guest, 'exec', '--', 'ping', '-n', '-c1', '-W5', host);
    const answered = code === 0 ? 'answered' : 'not answered';
    report.judge(`without root: exec, ping, ${family}`, answered, 'answered', code === 0);
  }
  const [file = '', ...args] = guest.omerta.typed('socks');
  const socks = guest.node.spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => socks.stdout?.once('data', resolve));
  const { stdout } = await guest.node.run('curl', [
    ...['-sS', '-m', '5', '-x', 'socks5h://127.0.0.1:1080'],
    'http://shop.example/',
  ]);
  const bySocks = seenAddress(stdout);
  report.judge('without root: socks, by name', bySocks, 'the exit', outside.includes(bySocks));
  socks.kill('SIGINT');
  const lan = (await curl(LAN.ipv4)) === '' ? 'not reached' : 'reached';
  report.judge('without root: denied: the exit\u2019s LAN', lan, 'not reached', lan === 'not reached');
  await run(guest, 'exit', 'off');
  const closed = seenAddress(
    (await run(guest, 'exec', '--', 'curl', '-sS', '-m', '2', `http://${WEB.ipv4}/`)).stdout,
  );
  report.judge(
    'without root: exec without an exit',
    closed === '' ? 'not reached' : 'reached',
    'not reached',
    closed === '',
  );
}
