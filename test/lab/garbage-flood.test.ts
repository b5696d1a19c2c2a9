// Datagrams that look like initiations and are for nobody: 30 Mbit/s of them, from the very prefix a member
// joins from. By the kernel path as by the sockets they cost the member nothing.

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { startGarbageFlood } from '../../ts/lab/garbage-flood.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { prepareForXdp, xdpUnavailable } from '../../ts/lab/xdp.js';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';

const DEADLINE_MS = 30_000;
/** Datagrams a second: 30 Mbit/s with their headers. */
const RATE = 20_000;

const WAYS = [
  { through: 'its sockets', skip: labUnavailable([]), kernel: false, relayArguments: ['--accel', 'native'] },
  {
    through: 'the kernel',
    skip: labUnavailable(['ethtool', 'bpftool']) ?? xdpUnavailable(),
    kernel: true,
    relayArguments: ['--accel', 'xdp'],
  },
] as const;

for (const { through, skip, kernel, relayArguments } of WAYS)
  describe(`a relay that garbage reaches through ${through}`, { skip: skip ?? false }, () => {
    it('refuses all of it for its MAC1, and no member by a rate', async (t) => {
      const world = await World.create();
      try {
        const relay = new OmertaNode(world, await world.addNode('relay'), 'relay');
        const attacker = await world.addNode('attacker');
        const member = new OmertaNode(world, await world.addNode('member'), 'member');
        if (kernel) await prepareForXdp(world, [relay.node, attacker, member.node]);
        const banner = (await relay.start('relay', '--status', 'off', ...relayArguments)) as {
          networks: readonly [{ invite: string }];
        };
        await member.command(['network', 'join', '-'], banner.networks[0].invite);
        const status = async (): Promise<DaemonStatus> =>
          (await relay.request({ command: 'status' })) as DaemonStatus;
        const until = async (done: (now: DaemonStatus) => boolean): Promise<DaemonStatus> => {
          const deadline = performance.now() + DEADLINE_MS;
          let now = await status();
          while (!done(now) && performance.now() < deadline) {
            await setTimeout(10);
            now = await status();
          }
          return now;
        };
        const { port } = await status();
        const flood = startGarbageFlood(attacker, relay.node.address, port, RATE);
        const flooded = await until(({ counters }) => (counters['drop_bad_mac1'] ?? 0) > RATE / 2);
        assert.ok((flooded.counters['drop_bad_mac1'] ?? 0) > RATE / 2, JSON.stringify(flooded.counters));

        const start = performance.now();
        await member.start('up', '--foreground', '--status', 'off');
        const { mesh, counters } = await until((now) => now.mesh.relay?.registrations === 1);
        const joined = performance.now() - start;
        const sent = await flood.stop();
        t.diagnostic(`${Math.round(joined)} ms to join beside ${sent} datagrams of garbage`);
        assert.equal(mesh.relay?.registrations, 1, member.log);
        // An initiation that is refused is sent again 5 s later.
        assert.equal(counters['drop_handshake_rate'], 0, `${joined} ms`);
        assert.ok((counters['drop_bad_mac1'] ?? 0) >= (flooded.counters['drop_bad_mac1'] ?? 0));
      } finally {
        world.remove();
      }
    });
  });
