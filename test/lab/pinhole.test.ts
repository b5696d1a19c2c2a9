// The shipped binary behind a router whose IPv6 firewall lets nothing in unasked (Debian's miniupnpd opens it by PCP).

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { MINIUPNPD, Miniupnpd, outside6, ROUTER6, type MiniupnpdOptions } from '../../ts/lab/miniupnpd.js';
import { joinFrom, startRelay, type PlacedMember } from '../../ts/lab/nat-matrix.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';

const unavailable =
  labUnavailable(['ping']) ?? (existsSync(MINIUPNPD) ? undefined : 'miniupnpd is not installed');
const PATIENCE_MS = 30_000;
const PREFIX = '2001:db8:1::';
const OWN = `${PREFIX}2`;

describe('a hole in the IPv6 firewall of a router', { skip: unavailable ?? false }, () => {
  let world: World;
  let relay: Node;
  let invite: string;

  beforeEach(async () => {
    world = await World.create();
    const started = await startRelay(world);
    relay = started.relay.node;
    ({ invite } = started);
  });
  afterEach(() => {
    world.remove();
  });

  const behind = async (
    options: Partial<MiniupnpdOptions> = {},
    portMapping?: 'pcp' | 'off',
  ): Promise<{ member: PlacedMember; gateway: Miniupnpd }> => {
    const nat = await world.addNat('router', 'port-restricted');
    const gateway = await Miniupnpd.start(world, nat, {
      natPmpAndPcp: true,
      upnp: false,
      prefix6: PREFIX,
      ...options,
    });
    await relay.ip(`route add ${PREFIX}/64 via ${outside6(nat)}`);
    const member = await joinFrom(world, 'port-restricted', 'inside', invite, {
      nat,
      ...(portMapping && { portMapping }),
      prepare: async (node) => {
        await node.ip(
          `address add ${OWN}/64 dev eth0 nodad`,
          `route add default via ${ROUTER6} dev eth0`,
          `address delete ${node.address}/24 dev eth0`,
        );
      },
    });
    return { member, gateway };
  };

  const statusOf = async ({ omerta }: PlacedMember): Promise<DaemonStatus> =>
    (await omerta.request({ command: 'status' })) as DaemonStatus;

  const until = async (what: string, member: PlacedMember, holds: () => Promise<boolean>): Promise<void> => {
    const deadline = performance.now() + PATIENCE_MS;
    while (!(await holds())) {
      if (performance.now() > deadline)
        assert.fail(`${what}: ${JSON.stringify((await statusOf(member)).pinhole)}\n${member.omerta.log}`);
      await sleep(50);
    }
  };
  const isOpen = async (member: PlacedMember): Promise<boolean> =>
    (await statusOf(member)).pinhole?.state === 'mapped';

  /** Whether what a stranger sends to the member's port arrives there. */
  async function letsIn(member: PlacedMember): Promise<boolean> {
    const dropped = async (): Promise<number> =>
      (await statusOf(member)).counters['drop_unknown_protocol'] ?? 0;
    const before = await dropped();
    const send = `const s = require('node:dgram').createSocket('udp6'); s.send('nobody knows this', 51900, '${OWN}', () => s.close())`;
    for (let tries = 0; tries < 20; tries++) {
      await relay.mustRun(process.execPath, ['-e', send]);
      await sleep(100);
      if ((await dropped()) > before) return true;
    }
    return false;
  }

  it('is made by PCP, told by omerta nat, lets strangers in, and is gone after down', async () => {
    const { member, gateway } = await behind();
    await until('not open', member, () => isOpen(member));
    const { pinhole } = await statusOf(member);
    const own = `[${OWN}]:51900`;
    assert.deepEqual([pinhole?.protocol, pinhole?.internal, pinhole?.external], ['pcp', own, own]);
    assert.deepEqual(await gateway.pinholes(), [own]);
    assert.ok(await letsIn(member));
    const told = member.omerta.commandLine('nat').filter((each) => each !== '--json');
    assert.match(
      await member.omerta.node.mustRun(process.execPath, told),
      /IPv6 firewall +\[2001:db8:1::2\]:51900 is let in by PCP/,
    );
    await member.omerta.node.mustRun(
      process.execPath,
      member.omerta.commandLine('down').filter((each) => each !== '--json'),
    );
    assert.deepEqual(await gateway.pinholes(), []);
  });

  it('is renewed before it runs out', async () => {
    const { member, gateway } = await behind({ longestLifetime: 8 });
    await until('not open', member, () => isOpen(member));
    const end = performance.now() + 18_000;
    while (performance.now() < end) {
      const { pinhole } = await statusOf(member);
      assert.equal(pinhole?.state, 'mapped');
      assert.equal((await gateway.pinholes()).length, 1);
      await sleep(250);
    }
  });

  it('is not asked for where that is switched off, and nothing comes in', async () => {
    const { member, gateway } = await behind({}, 'off');
    await sleep(1000);
    assert.equal((await statusOf(member)).pinhole?.state, 'off');
    assert.deepEqual(await gateway.pinholes(), []);
    assert.equal(await letsIn(member), false);
  });
});
