import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { describe, it } from 'node:test';
import { decodeInvite } from '../../ts/core/protocol/invite.js';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { startStrangerFlood } from '../../ts/lab/stranger-flood.js';
import { World } from '../../ts/lab/world.js';

const DEADLINE_MS = 20_000;
const ROUNDS = 20;

describe('a flood of strangers', { skip: labUnavailable(['ping']) ?? false }, () => {
  it('keeps no client from the control plane, nor another stranger from being admitted', async () => {
    const world = await World.create();
    try {
      const pair = await MeshPair.start(world, () => undefined);
      const attacker = await world.addNode('attacker');
      const invite = readFileSync(join(pair.relay.state, 'networks/home.invite'), 'utf8').trim();
      const [relay] = decodeInvite(invite).bootstraps;
      assert.ok(relay);
      const status = async (): Promise<DaemonStatus> =>
        (await pair.relay.command(['status'])) as DaemonStatus;
      const refused = async (): Promise<number> => (await status()).counters['drop_control_rate'] ?? 0;
      const { pid, port, mesh } = await status();
      const residentKiB = (): number =>
        Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

      const flood = startStrangerFlood(attacker, pair.relay.node.address, port, relay.sessionKey);
      try {
        const deadline = performance.now() + DEADLINE_MS;
        while ((await refused()) < 10_000 && performance.now() < deadline) await setTimeout(50);
        assert.ok((await refused()) >= 10_000, 'the flood is far above the budget');

        // What a refresh is: a request in the session with the relay, and its answer. The socket is shared
        // with the flood, so a datagram may be lost and is repeated; none may be given up.
        for (let round = 0; round < ROUNDS; round++) {
          const receipts = (await pair.left.omerta.command(['receipts'])) as readonly { verdict: string }[];
          assert.equal(receipts.length, 1, `round ${round}`);
        }
        assert.ok((await pair.left.omerta.command(['ping', mesh.peerId, '-c', '3'])) !== undefined);

        const third = await world.addNode('third');
        const stranger = new OmertaNode(world, third, 'third');
        await stranger.command(['network', 'join', '-'], invite);
        await stranger.command(['up']);
        const admitted = async (): Promise<boolean> => (await status()).mesh.relay?.registrations === 3;
        const patience = performance.now() + DEADLINE_MS;
        while (!(await admitted()) && performance.now() < patience) await setTimeout(100);
        assert.ok(await admitted(), 'the third node is registered');

        const before = residentKiB();
        const count = await refused();
        while ((await refused()) < count + 50_000 && performance.now() < patience + DEADLINE_MS)
          await setTimeout(100);
        const grown = residentKiB() - before;
        assert.ok(grown < 8192, `resident memory grew by ${grown} KiB`);
      } finally {
        await flood.stop();
      }
    } finally {
      world.remove();
    }
  });
});
