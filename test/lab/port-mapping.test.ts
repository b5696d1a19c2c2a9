// The shipped binary behind a gateway that maps ports (Debian's miniupnpd): two members whose NATs cannot be
// crossed otherwise talk directly, the mapping is renewed, made again and given up, and a gateway that lies
// changes nothing.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import { Miniupnpd, MINIUPNPD, type MiniupnpdOptions } from '../../ts/lab/miniupnpd.js';
import { joinFrom, startRelay, wayTold, type PlacedMember } from '../../ts/lab/nat-matrix.js';
import { PingWatch } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Nat } from '../../ts/lab/world.js';

const unavailable =
  labUnavailable(['ping']) ?? (existsSync(MINIUPNPD) ? undefined : 'miniupnpd is not installed');
const skip = unavailable === undefined ? false : unavailable;
const PATIENCE_MS = 15_000;

const status = z.object({
  portMapping: z.object({
    state: z.string(),
    protocol: z.string().optional(),
    external: z.string().optional(),
    expiresInSeconds: z.number().optional(),
    attempts: z.array(z.object({ protocol: z.string(), failure: z.string() })),
  }),
  mesh: z.object({ mapped: z.object({ address: z.string(), reach: z.string() }).optional() }),
});

async function statusOf({ omerta }: PlacedMember): Promise<z.infer<typeof status>> {
  return status.parse(await omerta.request({ command: 'status' }));
}

async function until(
  what: string,
  holds: () => Promise<boolean>,
  member: PlacedMember,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await holds())) {
    if (performance.now() > deadline)
      assert.fail(`${what}: ${JSON.stringify(await statusOf(member))}\n${member.omerta.log}`);
    await sleep(50);
  }
}

const isMapped = async (member: PlacedMember): Promise<boolean> =>
  (await statusOf(member)).portMapping.state === 'mapped';

/** A peer id that is no member's. */
const NOBODY = encodePeerId(new Uint8Array(32).fill(7));
const BOTH: MiniupnpdOptions = { natPmpAndPcp: true, upnp: true };

describe('a port mapping', { skip }, () => {
  let world: World;
  let invite: string;
  let nats = 0;

  beforeEach(async () => {
    world = await World.create();
    const started = await startRelay(world);
    ({ invite } = started);
    await Miniupnpd.reach(started.relay.node);
  });
  afterEach(() => {
    world.remove();
  });

  const behind = async (
    options: MiniupnpdOptions | undefined,
    portMapping?: 'pcp' | 'nat-pmp' | 'upnp' | 'off',
  ): Promise<{ member: PlacedMember; nat: Nat; gateway: Miniupnpd | undefined }> => {
    const name = `m${++nats}`;
    const nat = await world.addNat(`${name}-nat`, 'symmetric');
    const gateway = options && (await Miniupnpd.start(world, nat, options));
    const member = await joinFrom(world, 'symmetric', name, invite, {
      nat,
      ...(portMapping && { portMapping }),
    });
    return { member, nat, gateway };
  };

  for (const protocol of ['pcp', 'nat-pmp'] as const)
    it(`by ${protocol} is made by a member that is closed but for its exit, which nobody serves`, async () => {
      const { member } = await behind(BOTH, protocol);
      await until('the port is mapped', () => isMapped(member), member);
      const use = { exits: [NOBODY], paranoid: true, allowLan: false, include: [], exclude: [], hops: 1 };
      await member.omerta.request({ command: 'exit-use', use });
      const { code } = await member.omerta.node.run('ping', ['-n', '-c1', '-W1', '198.51.100.10']);
      assert.notEqual(code, 0, 'closed');
      await member.omerta.kill();
      await member.omerta.start('up', '--foreground');
      await until('the port is mapped again', () => isMapped(member), member);
      await member.omerta.request({ command: 'exit-off', serve: true, use: true });
    });

  for (const protocol of ['pcp', 'nat-pmp', 'upnp'] as const)
    it(`by ${protocol} has two members behind symmetric NATs of random ports talk directly, and is gone after down`, async () => {
      const left = await behind(BOTH, protocol);
      const right = await behind(BOTH, protocol);
      const { gateway } = left;
      assert.ok(gateway !== undefined);
      for (const { member } of [left, right]) await until('not mapped', () => isMapped(member), member);
      const { portMapping, mesh } = await statusOf(left.member);
      assert.deepEqual(
        [portMapping.protocol, portMapping.external, mesh.mapped],
        [protocol, `${gateway.address}:51900`, { address: `${gateway.address}:51900`, reach: 'public' }],
      );
      const own = `${left.member.omerta.node.address}:51900`;
      assert.deepEqual(await gateway.redirections(), [{ externalPort: 51_900, to: own }]);
      const watch = PingWatch.start(left.member.omerta.node, right.member.ipv6);
      try {
        const direct = async (): Promise<boolean> => (await wayTold(left.member, right.member)) === 'direct';
        await until('not direct', direct, left.member);
        assert.ok(await watch.steady(500, PATIENCE_MS));
        assert.equal(watch.seen().lost, 0);
      } finally {
        watch.close();
      }
      await left.member.omerta.node.mustRun(
        process.execPath,
        left.member.omerta.commandLine('down').filter((each) => each !== '--json'),
      );
      assert.deepEqual(await gateway.redirections(), []);
    });

  it('is renewed before it runs out', async () => {
    const { member, gateway } = await behind({ ...BOTH, longestLifetime: 8 }, 'pcp');
    await until('not mapped', () => isMapped(member), member);
    const end = performance.now() + 18_000;
    while (performance.now() < end) {
      const { portMapping } = await statusOf(member);
      assert.equal(portMapping.state, 'mapped');
      assert.ok((portMapping.expiresInSeconds ?? 0) >= 2, JSON.stringify(portMapping));
      // miniupnpd may renew by taking its rule away and making it anew: for less than it would be gone without.
      await until('no redirection', async () => (await gateway?.redirections())?.length === 1, member, 1000);
      await sleep(250);
    }
    assert.doesNotMatch(member.omerta.log, /port-mapping-ended/);
  });

  it('is made again when the gateway has started anew, long before it would be renewed', async () => {
    const { member, gateway } = await behind(BOTH, 'pcp');
    assert.ok(gateway !== undefined);
    await until('not mapped', () => isMapped(member), member);
    await sleep(3000); // an epoch that goes back is one of at least 2 s
    await gateway.kill();
    assert.deepEqual(await gateway.redirections(), []);
    await gateway.run();
    await until('not mapped again', async () => (await gateway.redirections()).length === 1, member);
  });

  it('is not asked for where it is switched off', async () => {
    const { member, gateway } = await behind(BOTH, 'off');
    await sleep(2000);
    assert.equal((await statusOf(member)).portMapping.state, 'off');
    assert.deepEqual(await gateway?.redirections(), []);
  });

  it('is asked for by UPnP where the gateway knows neither PCP nor NAT-PMP, and none is where there is nobody to ask', async () => {
    const one = await behind({ natPmpAndPcp: false, upnp: true });
    const other = await behind(undefined);
    await until('not mapped', () => isMapped(one.member), one.member);
    const { portMapping } = await statusOf(one.member);
    assert.equal(portMapping.protocol, 'upnp');
    assert.deepEqual(
      portMapping.attempts.map(({ protocol }) => protocol),
      ['pcp', 'nat-pmp'],
    );
    const none = async (): Promise<boolean> => (await statusOf(other.member)).portMapping.state === 'none';
    await until('not given up', none, other.member);
  });

  it('that a gateway lies about is told to nobody', async () => {
    const { member } = await behind({ ...BOTH, externalIp: '11.44.55.66' }, 'nat-pmp');
    await until('not mapped', () => isMapped(member), member);
    const unconfirmed = async (): Promise<boolean> =>
      (await statusOf(member)).mesh.mapped?.reach === 'unconfirmed';
    await until('not doubted', unconfirmed, member);
    const other = await behind(undefined, 'off');
    // What is sent to the address that was named would be counted on its way out.
    const rule = 'ip daddr 11.44.55.66 counter';
    await other.nat.nft(`table ip watch { chain out { type filter hook forward priority 0; ${rule}; }; }\n`);
    const watch = PingWatch.start(other.member.omerta.node, member.ipv6);
    try {
      assert.ok(await watch.steady(2000, PATIENCE_MS));
    } finally {
      watch.close();
    }
    assert.equal(await wayTold(other.member, member), 'relay');
    assert.match(await other.nat.mustRun('nft', ['list', 'table', 'ip', 'watch']), /packets 0 /);
  });
});
