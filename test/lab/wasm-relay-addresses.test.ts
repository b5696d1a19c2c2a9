// The fallback engine on a host with several addresses: node:dgram cannot name the source of a datagram.

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { SECOND, SECOND6, STATEFUL_FIREWALL } from './second-addresses.js';

const LATE = '198.51.100.201';

interface Status {
  readonly mesh: { readonly bootstraps: readonly { readonly state: string; readonly address?: string }[] };
}

describe(
  'a relay with the wasm engine and several addresses',
  { skip: labUnavailable(['nft']) ?? false, timeout: 120_000 },
  () => {
    let world: World;
    let relayNode: Node;
    let relay: OmertaNode;

    /** The invite of the relay as it would be with these addresses to announce. */
    const inviteAt = async (...addresses: readonly string[]): Promise<string> => {
      await relay.kill();
      const announce = addresses.flatMap((at) => ['--announce', at]);
      const { networks } = (await relay.start('relay', '--engine', 'wasm', ...announce)) as {
        networks: readonly { invite: string }[];
      };
      return networks[0]?.invite ?? '';
    };

    const isAdmitted = async (name: string, invite: string): Promise<void> => {
      const node = await world.addNode(name);
      await node.nft(STATEFUL_FIREWALL);
      const member = new OmertaNode(world, node, name);
      await member.command(['network', 'join', '-'], invite);
      await member.start('up', '--foreground');
      for (let tries = 0; tries < 150; tries++) {
        const { mesh } = (await member.command(['status'])) as Status;
        if (mesh.bootstraps.some(({ state }) => state === 'registered')) return;
        await setTimeout(100);
      }
      assert.fail(
        `${name} was not admitted: ${JSON.stringify(await member.command(['status']))}\n${member.log}`,
      );
    };

    before(async () => {
      world = await World.create();
      relayNode = await world.addNode('relay');
      await relayNode.ip(
        `address add ${SECOND}/24 dev eth0`,
        `address add ${SECOND6}/64 dev eth0 nodad preferred_lft 0`,
      );
      relay = new OmertaNode(world, relayNode, 'relay');
    });
    after(() => world.remove());

    it('admits a member at its second IPv4 address', async () => {
      await isAdmitted('second4', await inviteAt(`${SECOND}:51900`));
    });

    it('admits a member at its second IPv6 address', async () => {
      await isAdmitted('second6', await inviteAt(`[${SECOND6}]:51900`));
    });

    it('admits a member at an address it was given while it ran', async () => {
      const invite = await inviteAt(`${LATE}:51900`);
      await relayNode.ip(`address add ${LATE}/24 dev eth0`);
      await isAdmitted('late', invite);
    });
  },
);
