// A stock wireguard-go client that reaches a member by the relay's port goes over to an address of the member's own,
// of either family, and back: as a laptop does that comes home and leaves again. The session goes on:
// the relay knows the client by the address of its handshake, which is the same.

import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { PingWatch } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { StockWireguard } from '../../ts/lab/stock-wireguard.js';
import { World } from '../../ts/lab/world.js';

const PORT = 51900;
/** Inside, of the client; an unused address of the overlay's range. */
const CLIENT = '100.64.9.1';
const PATIENCE_MS = 30_000;
/** Of a move: what was on its way, and what a busy machine needs. */
const MOST_LOST = 100;

const status = z.object({
  wireguard: z.object({ publicKey: z.string() }),
  mesh: z.object({ networks: z.tuple([z.object({ ipv4: z.string() })]) }),
});

describe(
  'a stock client of a member',
  { skip: labUnavailable(['ping', 'wg', 'wireguard-go']) ?? false },
  () => {
    let world: World;
    let relay: OmertaNode;
    let member: OmertaNode;
    let client: StockWireguard;
    let memberKey: string;
    let inside: string;

    before(async () => {
      world = await World.create();
      const relayNode = await world.addNode('relay');
      relay = new OmertaNode(world, relayNode, 'relay');
      appendFileSync(join(relay.state, 'omerta.toml'), '\n[relay]\nwireguard_bindings = 4\n');
      const { networks } = z
        .object({ networks: z.tuple([z.object({ invite: z.string() })]) })
        .parse(await relay.start('relay'));
      client = await StockWireguard.start(world, await world.addNode('client'), 'm', CLIENT);
      member = new OmertaNode(world, await world.addNode('member'), 'member', { direct: true });
      appendFileSync(
        join(member.state, 'omerta.toml'),
        `\n[wireguard]\nrelay = true\npeers = [{ public_key = "${client.publicKey}", allowed_ips = ["${CLIENT}/32"] }]\n`,
      );
      await member.command(['network', 'join', '-'], networks[0].invite);
      await member.start('up', '--foreground');
      const told = status.parse(await member.request({ command: 'status' }));
      memberKey = told.wireguard.publicKey;
      inside = told.mesh.networks[0].ipv4;
      await client.node.ip(`route add ${inside}/32 dev ${client.name}`);
      await client.set(
        'peer',
        memberKey,
        'endpoint',
        `${relayNode.address}:${PORT}`,
        'allowed-ips',
        `${inside}/32`,
      );
    });
    after(() => {
      world.remove();
      client.remove();
    });

    /** Packets that the relay's interface took in while pings went on for a second, by ping. */
    const relayed = async (): Promise<number> => {
      const before = await relay.node.received('eth0');
      await sleep(1000);
      return ((await relay.node.received('eth0')).packets - before.packets) / 50;
    };

    /** An answer that was on its way from where the member was before takes the client back to there: it is told again. */
    const goesOver = async (endpoint: string): Promise<void> => {
      const deadline = performance.now() + PATIENCE_MS;
      let told = '';
      do {
        assert.ok(performance.now() < deadline, `at ${told}, not at ${endpoint}`);
        await client.set('peer', memberKey, 'endpoint', endpoint);
        await sleep(100);
        told = (await client.node.mustRun('wg', ['show', client.name, 'endpoints'])).trim();
      } while (!told.endsWith(`\t${endpoint}`));
    };

    it('goes from the relay’s port to the member itself and back, by both families, within one session', async () => {
      const watch = PingWatch.start(client.node, inside);
      try {
        assert.ok(await watch.steady(2000, PATIENCE_MS), `${relay.log}\n${member.log}`);
        assert.ok((await relayed()) > 1, 'it goes over the relay');
        const handshake = await client.handshakeAt(memberKey);
        const { address, address6 = '' } = member.node;
        const hosts = [address, relay.node.address, `[${address6}]`, relay.node.address];
        for (const [place, host] of hosts.entries()) {
          const { lost } = watch.seen();
          await goesOver(`${host}:${PORT}`);
          assert.ok(await watch.steady(2000, PATIENCE_MS), `${host}: ${member.log}`);
          const gone = watch.seen().lost - lost;
          assert.ok(gone <= MOST_LOST, `${host}: ${gone} pings were lost`);
          const share = await relayed();
          if (place % 2 === 0) assert.ok(share < 0.5, `${host}: ${share} packets a ping came by the relay`);
          else assert.ok(share > 1, `${host}: ${share} packets a ping came by the relay`);
        }
        assert.equal(await client.handshakeAt(memberKey), handshake, 'in another session');
      } finally {
        watch.close();
      }
    });
  },
);
