// LANs behind members, end to end: rights, prefixes that two members have, what is on-link, beside an exit and its guard,
// over restarts, from the configuration; and that nothing of it stays on either host.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { EXIT_OUTSIDE, ExitWorld, hostState, LAN, WEB, type ExitMember } from '../../ts/lab/exit-world.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import type { RouteReport } from '../../ts/status/model/route-report.js';
import { until } from '../wg/wg-lab.js';

const LAN6 = 'fd00:7::/64';
/** Answers with the address it was asked from. */
const SERVER = `
  import { createServer } from 'node:http';
  createServer((request, response) => response.end(request.socket.remoteAddress + '\\n')).listen(80, '::');
`;
/** What the servers on the LANs see guests by. */
const BY_OFFICE = '192.168.7.1';
const BY_BRANCH = '192.168.7.5';

describe('routes to LANs', { skip: labUnavailable(['curl', 'ping']) ?? false, timeout: 900_000 }, () => {
  let world: World;
  let made: ExitWorld;
  let guest: ExitMember;
  /** Both have a LAN 192.168.7.0/24 with a server 192.168.7.2. */
  let office: ExitMember;
  let branch: ExitMember;
  let untouched: Readonly<Record<'guest' | 'office' | 'branch', Record<string, string>>>;

  const type = async (
    on: ExitMember,
    ...words: string[]
  ): Promise<{ code: number; text: string; said: string }> => {
    const { code, stdout, stderr } = await on.node.run(process.execPath, on.omerta.commandLine(...words));
    return { code, text: stdout, said: stderr };
  };
  const must = async (on: ExitMember, ...words: string[]): Promise<RouteReport> => {
    const { code, text, said } = await type(on, ...words);
    assert.equal(code, 0, `omerta ${words.join(' ')}: ${said}`);
    return JSON.parse(text) as RouteReport;
  };
  const report = async (on: ExitMember): Promise<RouteReport> =>
    (await on.omerta.request({ command: 'route-list', ask: false })) as RouteReport;
  /** Who advertises nothing any more says so, and then his record does. */
  const states = async (): Promise<string> =>
    (await report(guest)).accepted
      .map(({ state, isActive }) => (isActive ? 'in use' : state === 'not-served' ? 'not-offered' : state))
      .join();
  const become = (wanted: string): Promise<void> =>
    until(`the accepted routes are ${wanted}`, async () => (await states()) === wanted, 90_000);
  const seenBy = (wanted: string | undefined): Promise<void> =>
    until(
      `the LAN sees ${wanted ?? 'nobody'}`,
      async () => (await made.fetch(LAN.ipv4, 80, 1)) === wanted,
      90_000,
    );
  const mainRoutes = async (on: Node): Promise<string> =>
    (await on.run('ip', ['route', 'show', 'table', 'main', 'proto', '109'])).stdout;
  const all = async (): Promise<typeof untouched> => ({
    guest: await hostState(guest.node),
    office: await hostState(office.node),
    branch: await hostState(branch.node),
  });

  before(async () => {
    world = await World.create();
    made = await ExitWorld.start(world);
    ({ guest, exit: office } = made);
    branch = await made.addMember(world, 'branch');
    const lan = await world.addBareNode('lan2');
    await world.connect([branch.node, 'eth2', [`${BY_BRANCH}/24`]], [lan, 'eth0', [`${LAN.ipv4}/24`]]);
    lan.spawn(process.execPath, ['--input-type=module', '-e', SERVER], { stdio: 'ignore' });
    untouched = await all();
  });
  after(() => world.remove());

  it('are nobody\u2019s by default, and lead nowhere while they are not granted', async () => {
    const alone = await type(guest, 'route', 'accept', LAN.prefix);
    assert.equal(alone.code, 2);
    assert.match(alone.said, /no member advertises 192\.168\.7\.0\/24 to this machine.*route list/);
    await must(guest, 'route', 'accept', LAN.prefix, LAN6, '--from', 'exit');
    await become('not-offered,not-offered');
    assert.match(await mainRoutes(guest.node), /^unreachable 192\.168\.7\.0\/24 /);
    await must(office, 'route', 'advertise', LAN.prefix, LAN6);
    await become('denied,denied');
    assert.equal(await made.fetch(LAN.ipv4, 80, 1), undefined);
  });

  it('carry curl and ping of who has the right, and lead to the LAN alone', async () => {
    await must(office, 'route', 'advertise', LAN.prefix, LAN6, '--allow', guest.peerId);
    await become('in use,in use');
    await seenBy(BY_OFFICE);
    assert.equal(await made.fetch(LAN.ipv6), 'fd00:7::1');
    assert.deepEqual([await made.ping(LAN.ipv4), await made.ping(LAN.ipv6)], [true, true]);
    // Not to the advertiser itself by its address there, nor to anything else it reaches.
    assert.deepEqual([await made.ping(BY_OFFICE), await made.ping(WEB.ipv4)], [false, false]);
    // What the guest has not accepted goes its own way, and the Internet too.
    assert.ok(await made.fetch(made.outside.address));
    const { advertised } = await report(office);
    assert.deepEqual(
      advertised?.guests.map(({ peerId }) => peerId),
      [guest.peerId],
    );
    // Somebody takes the routes of the interface away: they are made again, and the log says so.
    const led = await mainRoutes(guest.node);
    await guest.node.ip('route flush dev omerta0');
    assert.notEqual(await mainRoutes(guest.node), led);
    await until('routes are made again', async () => (await mainRoutes(guest.node)) === led, 60_000);
    await until('the log says so', () => guest.omerta.log.includes('exit-host-restored'));
    await seenBy(BY_OFFICE);
    // A member without the right is told so, and reaches nothing.
    const denied = await type(branch, 'route', 'accept', 'fd00:7::/96', '--from', office.peerId);
    assert.equal(denied.code, 0, denied.said);
    await until(
      'the branch is denied',
      async () => (await report(branch)).accepted[0]?.state === 'denied',
      60_000,
    );
    await must(branch, 'route', 'off');
  });

  it('that two members have are the first\u2019s, and the second\u2019s when that one ends', async () => {
    await must(branch, 'route', 'advertise', LAN.prefix, '--network', 'home');
    await until('both are offered', async () => {
      const { offers } = (await guest.omerta.request({ command: 'route-list', ask: true })) as RouteReport;
      return offers.filter(({ answer }) => answer !== undefined && 'prefixes' in answer).length === 2;
    });
    const both = await type(guest, 'route', 'accept', LAN.prefix);
    assert.equal(both.code, 2);
    assert.match(both.said, /(exit and branch|branch and exit) advertise 192\.168\.7\.0\/24.*--from/);
    await must(guest, 'route', 'accept', LAN.prefix, '--from', 'branch');
    await become('in use,in use,standby');
    await seenBy(BY_OFFICE);
    const { text } = await guest.node
      .run(
        process.execPath,
        guest.omerta.commandLine('route', 'list').filter((word) => word !== '--json'),
      )
      .then(({ stdout }) => ({ text: stdout }));
    assert.match(text, /192\.168\.7\.0\/24 +by exit +in use; also by branch/);
    assert.match(
      text,
      /192\.168\.7\.0\/24 +by branch +standby: another it was accepted of has it; also by exit/,
    );
    await must(office, 'route', 'off');
    await become('not-offered,not-offered,in use');
    await seenBy(BY_BRANCH);
    assert.equal(await made.fetch(LAN.ipv6, 80, 1), undefined);
    // A part of it by another member: the longer prefix has it.
    await must(office, 'route', 'advertise', '192.168.7.0/25', '--allow', guest.peerId);
    await must(guest, 'route', 'accept', '192.168.7.0/25', '--from', 'exit');
    await become('not-offered,not-offered,in use,in use');
    await seenBy(BY_OFFICE);
    await must(guest, 'route', 'off', '192.168.7.0/25');
    await seenBy(BY_BRANCH);
    await must(branch, 'route', 'off');
    await must(office, 'route', 'advertise', LAN.prefix, LAN6, '--allow', guest.peerId);
    await become('in use,in use,not-offered');
    await seenBy(BY_OFFICE);
  });

  it('do not cut off who is on the link with such addresses', async () => {
    const { node } = guest;
    await node.ip(
      'link add here type veth peer name there',
      'link set there up',
      'link set here up',
      'address add 192.168.7.77/24 dev here',
    );
    await until('no route leads there', async () => (await mainRoutes(node)) === '', 30_000);
    const { stdout } = await node.run('ip', ['route', 'get', LAN.ipv4]);
    assert.match(stdout, / dev here /);
    assert.equal((await report(guest)).accepted[0]?.isOnLink, true);
    await node.ip('link delete here');
    await seenBy(BY_OFFICE);
  });

  it('go on beside an exit and inside its guard, by the member they were accepted of', async () => {
    await must(branch, 'exit', 'serve', '--allow', guest.peerId, '--lan', LAN.prefix);
    await must(guest, 'exit', 'use', 'branch', '--paranoid');
    await seenBy(BY_OFFICE); // and not the LAN of the exit
    assert.deepEqual([await made.ping(LAN.ipv4), await made.ping(LAN.ipv6)], [true, true]);
    // While it is not granted it leads nowhere, and not by the exit.
    await must(office, 'route', 'off');
    await become('not-offered,not-offered,not-offered');
    assert.equal(await made.fetch(LAN.ipv4, 80, 1), undefined);
    await must(office, 'route', 'advertise', LAN.prefix, LAN6, '--allow', guest.peerId);
    await become('in use,in use,not-offered');
    await seenBy(BY_OFFICE);
    await must(guest, 'exit', 'off');
    await must(branch, 'exit', 'off');
    await seenBy(BY_OFFICE);
    // One member for both: two rights, which end one by one.
    await must(office, 'exit', 'serve', '--allow', guest.peerId);
    await must(guest, 'exit', 'use', 'exit');
    assert.equal(await made.fetch(WEB.ipv4), EXIT_OUTSIDE.ipv4);
    await seenBy(BY_OFFICE);
    await must(office, 'exit', 'off');
    await must(guest, 'exit', 'off');
    await seenBy(BY_OFFICE);
    assert.equal(await made.ping(WEB.ipv4), false);
  });

  it('hold over SIGKILL and restarts of both, and `down` leaves nothing', async () => {
    await guest.omerta.kill();
    assert.equal(await made.fetch(LAN.ipv4, 80, 1), undefined);
    await guest.omerta.start('up', '--foreground');
    await seenBy(BY_OFFICE);
    await office.omerta.kill();
    await office.omerta.start('up', '--foreground');
    await seenBy(BY_OFFICE);
    for (const on of [guest, office])
      await on.node.mustRun(
        process.execPath,
        on.omerta.commandLine('down').filter((word) => word !== '--json'),
      );
    assert.deepEqual(await all(), untouched);
    for (const on of [office, guest]) await on.omerta.start('up', '--foreground');
    await seenBy(BY_OFFICE);
  });

  it('are said by the configuration, in place of what was typed', async () => {
    guest.omerta.configure(`[[routes.accept]]\nprefix = "192.168.7.0/25"\nfrom = "${office.peerId}"`);
    assert.equal((await type(guest, 'reload')).code, 0);
    await become('in use');
    await seenBy(BY_OFFICE);
    assert.equal(await made.fetch(LAN.ipv6, 80, 1), undefined);
    const typed = await type(guest, 'route', 'off');
    assert.equal(typed.code, 2);
    assert.match(typed.said, /routes\.accept of .*omerta\.toml says it.*omerta reload/);
    office.omerta.configure(`[routes]\nadvertise = ["${LAN.prefix}"]\nnetworks = ["home"]`);
    assert.equal((await type(office, 'reload')).code, 0);
    await seenBy(BY_OFFICE);
    for (const [text, said] of [
      [
        '[routes]\nadvertise = ["0.0.0.0/0"]',
        /config routes\.advertise\.0: expected a list of prefixes of LANs/,
      ],
      ['[routes]\nadvertise = ["10.0.0.0/8"]\nnetworks = ["work"]', /config routes\.networks: "work" is not/],
      ['[routes]\nallow = []\nnetworks = ["home"]', /config routes\.advertise: expected a list of prefixes/],
    ] as const) {
      office.omerta.configure(text);
      const refused = await type(office, 'reload');
      assert.equal(refused.code, 2, text);
      assert.match(refused.said, said);
    }
    await seenBy(BY_OFFICE);
    for (const on of [guest, office]) {
      on.omerta.configure('');
      assert.equal((await type(on, 'reload')).code, 0);
    }
    await become('in use,in use,not-offered');
    await seenBy(BY_OFFICE);
  });

  it('that cannot be are refused by name, and `off` leaves nothing, with a daemon and without', async () => {
    for (const [words, said] of [
      [['advertise', '0.0.0.0/0'], /shorter than \/8: use an exit/],
      [['advertise', '100.64.0.0/16'], /members have their addresses there/],
      [['accept', '192.168.7.0'], /no member advertises|advertise/],
      [['accept', '198.51.100.0/24', '--from', 'exit'], /a bootstrap: the mesh would be sent into itself/],
      [['accept', LAN.prefix, '--from', guest.peerId], /does not reach a LAN by itself/],
      [['off', '10.0.0.0/8'], /10\.0\.0\.0\/8 is not accepted/],
    ] as const) {
      const { code, said: text } = await type(guest, 'route', ...words);
      if (words[1] === '192.168.7.0') {
        // One address of what one member alone advertises.
        assert.equal(code, 0, text);
        await must(guest, 'route', 'off', '192.168.7.0/32');
        continue;
      }
      assert.equal(code, 2, words.join(' '));
      assert.match(text, said);
    }
    await must(guest, 'route', 'off');
    assert.deepEqual((await all()).guest, untouched.guest);
    await must(guest, 'route', 'accept', LAN.prefix);
    await seenBy(BY_OFFICE);
    await guest.omerta.kill();
    await office.omerta.kill();
    assert.notDeepEqual((await all()).guest, untouched.guest);
    for (const on of [guest, office]) assert.equal((await type(on, 'route', 'off')).code, 0);
    assert.deepEqual(await all(), untouched);
  });
});
