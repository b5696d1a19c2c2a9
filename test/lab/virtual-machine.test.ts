// A virtual machine in the mesh: QEMU as a user without rights in an empty namespace, its network device a member's
// engine, which has no right either. It is given its address, reaches members, and the rest of the world by its exit alone.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { EXIT_OUTSIDE, ExitWorld, machineSocket, WEB, type ExitMember } from '../../ts/lab/exit-world.js';
import { Guest, guestUnavailable } from '../../ts/lab/guest.js';
import { GATEWAY, innocentNoise, MachineDevice, rogueFrames } from '../../ts/lab/machine-frames.js';
import { ordinaryUserUnavailable } from '../../ts/lab/ordinary-user.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import type { DaemonStatus, MachineStatus } from '../../ts/status/model/daemon-status.js';
import { addonMissing } from '../engine/addon.js';
import { until } from '../wg/wg-lab.js';

const unavailable =
  labUnavailable(['curl', 'nft', 'ping', 'setpriv']) ??
  ordinaryUserUnavailable() ??
  guestUnavailable() ??
  addonMissing();

describe('a virtual machine in the mesh', { skip: unavailable ?? false, timeout: 300_000 }, () => {
  let world: World;
  let made: ExitWorld;
  let member: ExitMember;
  let exit: ExitMember;
  let machine: Guest | undefined;

  const status = async (): Promise<MachineStatus> => {
    const { guest } = (await member.omerta.request({ command: 'status' })) as DaemonStatus;
    assert.ok(guest !== undefined);
    return guest;
  };
  const sh = (commands: string): Promise<string> => {
    assert.ok(machine !== undefined);
    return machine.sh(commands);
  };
  /** What a web server answers the machine with: the address it was asked from; '' = it was not reached. */
  const fetched = async (address: string): Promise<string> => {
    const answer = await sh(
      `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 4 ${address} 80 2> /dev/null | tail -n 1`,
    );
    return answer.trim().replace(/^::ffff:/, '');
  };
  const typed = async (on: ExitMember, ...words: string[]): Promise<string> => {
    const [file = '', ...args] = on.omerta.typed(...words);
    const { code, stdout, stderr } = await on.node.run(file, args, { timeoutMs: 60_000 });
    assert.equal(code, 0, `omerta ${words.join(' ')}: ${stderr}`);
    return stdout;
  };
  const refused = async (...words: string[]): Promise<string> => {
    const [file = '', ...args] = member.omerta.typed(...words);
    const { code, stderr } = await member.node.run(file, args, { timeoutMs: 60_000 });
    assert.notEqual(code, 0);
    return stderr;
  };

  before(async () => {
    world = await World.create();
    made = await ExitWorld.start(world, { virtual: true });
    ({ guest: member, exit } = made);
    await typed(exit, 'exit', 'serve', '--allow', member.peerId, '--resolver', WEB.ipv4);
  });
  after(() => world.remove());

  it('says that nobody is connected, and refuses what has no meaning for it', async () => {
    assert.match(
      await typed(member, 'status'),
      /tunnel +guest socket \S+vm\.sock: QEMU not connected; dropped nothing/,
    );
    assert.match(await refused('exit', 'serve', '--network', 'home'), /forwards for nobody/);
    assert.match(await refused('exit', 'use', exit.peerId, '--allow-lan'), /--allow-lan/);
    assert.match(await refused('exec', '--', 'true'), /no private network/);
  });

  it('lets no rogue frame out, and the daemon counts each by its kind', async () => {
    const addresses = { ipv4: member.ipv4, ipv6: member.ipv6, member4: exit.ipv4, member6: exit.ipv6 };
    const rogue = rogueFrames(addresses);
    const noise = innocentNoise(addresses);
    const device = await MachineDevice.connect(machineSocket(member.omerta));
    device.send(...rogue.map(({ frame }) => frame), ...noise);
    await until('all are read', async () => (await status()).framesRead === rogue.length + noise.length);
    const { drops, passed, noise: innocent, agrees } = await status();
    const expected: Record<string, number> = {};
    for (const { kind } of rogue) expected[kind] = (expected[kind] ?? 0) + 1;
    assert.deepEqual(Object.entries(drops).sort(), Object.entries(expected).sort());
    assert.deepEqual({ passed, innocent, agrees }, { passed: 0, innocent: noise.length, agrees: true });
    assert.match(await typed(member, 'status'), /QEMU connected; dropped .*arp_scan 2/);
    assert.ok(device.frames.every((frame) => frame.subarray(6, 12).equals(GATEWAY)));
    device.close();
    await until('it is gone', async () => !(await status()).connected);
  });

  it('boots, is given its address by DHCP, and reaches members', async () => {
    const booted = await Guest.bootInMesh(world, machineSocket(member.omerta), member);
    if (typeof booted === 'string') throw new Error(`${booted}\n${member.omerta.log}`);
    machine = booted;
    assert.match(await sh('ip -4 address show dev eth0'), new RegExp(`inet ${member.ipv4}/32 `));
    assert.match(await sh('ip -4 route'), /default via 169\.254\.1\.1 dev eth0/);
    const answers = async (to: string): Promise<boolean> =>
      (await sh(`ping -c 1 -W 2 ${to} > /dev/null && echo answered; true`)) === 'answered\n';
    for (const to of [exit.ipv4, '169.254.1.1']) await until(`${to} answers`, () => answers(to), 60_000);
    // The way of IPv6 is a router advertisement's.
    await until('there is a router', async () =>
      (await sh('ip -6 route')).includes('default via fe80::1 dev eth0'),
    );
    await until(`${exit.ipv6} answers`, () => answers(exit.ipv6), 60_000);
    await until('it answers', async () => {
      const { stdout } = await exit.node.run('ping', ['-n', '-c1', '-W2', member.ipv6]);
      return stdout.includes('1 received');
    });
  });

  it('goes nowhere else without an exit', async () => {
    assert.equal(await fetched(WEB.ipv4), '');
    assert.equal(await fetched(WEB.ipv6), '');
    assert.ok(machine !== undefined);
    const { stdout } = await machine.host.run('ip', ['-brief', 'link']);
    assert.match(stdout, /^lo /, 'QEMU’s namespace has no interface');
    assert.equal(stdout.trim().split('\n').length, 1);
  });

  it('leaves by the exit it uses, and asks it for names', async () => {
    await typed(member, 'exit', 'use', exit.peerId);
    await until('it leaves', async () => (await fetched(WEB.ipv4)) === EXIT_OUTSIDE.ipv4, 60_000);
    await until('IPv6 too', async () => (await fetched(WEB.ipv6)) === EXIT_OUTSIDE.ipv6, 60_000);
    // Its lease tells it the exit's resolver, at the latest when it is renewed.
    const resolver = `nameserver ${exit.ipv4}`;
    await until(resolver, async () => (await sh('cat /etc/resolv.conf')).includes(resolver), 60_000);
    await until('a name is resolved', async () =>
      (await sh('nslookup -type=a shop.example; true')).includes(WEB.ipv4),
    );
    const { agrees, connected, drops } = await status();
    assert.deepEqual({ agrees, connected }, { agrees: true, connected: true });
    for (const kind of ['spoofed_mac', 'spoofed_ip', 'malformed', 'oversized', 'other_type'])
      assert.ok((drops[kind] ?? 0) <= rogueOf(kind), `an honest machine sends nothing ${kind}`);
  });

  it('is closed again when the exit is given up, and gone when QEMU is', async () => {
    await typed(member, 'exit', 'off');
    await until('it is closed', async () => (await fetched(WEB.ipv4)) === '', 60_000);
    await machine?.kill();
    await until('it is gone', async () => !(await status()).connected);
    assert.match(await typed(member, 'status'), /QEMU not connected/);
  });

  /** Of the frames played above. */
  function rogueOf(kind: string): number {
    const addresses = { ipv4: member.ipv4, ipv6: member.ipv6, member4: exit.ipv4, member6: exit.ipv6 };
    return rogueFrames(addresses).filter((rogue) => rogue.kind === kind).length;
  }
});
