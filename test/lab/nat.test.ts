import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { natBehaviour, type NatBehaviour } from '../../ts/lab/nat-behaviour.js';
import type { NatKind } from '../../ts/lab/nat.js';
import { ProbeSocket } from '../../ts/lab/probe-socket.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';

const EXPECTED: Record<NatKind, NatBehaviour> = {
  'full-cone': { mapping: 'endpoint-independent', filtering: 'endpoint-independent' },
  'address-restricted': { mapping: 'endpoint-independent', filtering: 'address-dependent' },
  'port-restricted': { mapping: 'endpoint-independent', filtering: 'address-and-port-dependent' },
  symmetric: { mapping: 'address-and-port-dependent', filtering: 'address-and-port-dependent' },
};

describe('NAT kinds, judged by UDP probes', { skip: labUnavailable() ?? false }, () => {
  let world: World;
  let first: Node;
  let second: Node;

  before(async () => {
    world = await World.create();
    first = await world.addNode('first');
    second = await world.addNode('second');
  });
  after(() => world.remove());

  for (const kind of Object.keys(EXPECTED) as NatKind[]) {
    it(`a ${kind} NAT has ${EXPECTED[kind].mapping} mapping and ${EXPECTED[kind].filtering} filtering`, async () => {
      const nat = await world.addNat(`nat-${kind}`, kind);
      const client = await world.addNode(`in-${kind}`, { behind: nat });
      assert.deepEqual(await natBehaviour(client, first, second, 40_000), EXPECTED[kind]);
    });
  }

  it('a public node is seen under its own address and port and filters nothing', async () => {
    const client = await world.addNode('open');
    assert.deepEqual(await natBehaviour(client, first, second, 40_000), EXPECTED['full-cone']);
  });

  it('a port-restricted NAT behind another is seen as one', async () => {
    const carrier = await world.addNat('carrier', 'port-restricted');
    const nat = await world.addNat('home', 'port-restricted', { behind: carrier });
    const client = await world.addNode('in-home', { behind: nat });
    assert.deepEqual(await natBehaviour(client, first, second, 40_000), EXPECTED['port-restricted']);
  });

  it('a NAT that hairpins takes packets from one client to another by their outside addresses, others do not', async () => {
    for (const hairpins of [true, false]) {
      const nat = await world.addNat(`hairpin-${hairpins ? 'yes' : 'no'}`, 'port-restricted', { hairpins });
      const name = (which: string): string => `${which}-${hairpins ? 'yes' : 'no'}`;
      const one = await ProbeSocket.open(await world.addNode(name('one'), { behind: nat }), 40_001);
      const two = await ProbeSocket.open(await world.addNode(name('two'), { behind: nat }), 40_002);
      const outside = await ProbeSocket.open(first, 7000);
      // Both, and one after the other: before it has a mapping, nothing comes in to a client.
      for (const socket of [one, two]) {
        const text = `of port ${socket.port}`;
        socket.send(first.address, 7000, text);
        assert.notEqual(await outside.receive(text, 10_000), undefined);
      }
      one.send(nat.address, 40_002, 'hello');
      const seen = await two.receive('hello', hairpins ? 10_000 : 300);
      // RFC 4787, REQ-9: from the sender's outside address and port.
      assert.deepEqual(
        seen === undefined ? undefined : [seen.from, seen.port],
        hairpins ? [nat.address, 40_001] : undefined,
      );
      await Promise.all([one, two, outside].map((socket) => socket.close()));
    }
  });

  it('two clients behind one port-restricted NAT reach the same stranger and get their own replies', async () => {
    const nat = await world.addNat('shared', 'port-restricted');
    const clients = [
      await world.addNode('one', { behind: nat }),
      await world.addNode('two', { behind: nat }),
    ];
    const server = await ProbeSocket.open(first, 7000);
    const sockets = await Promise.all(clients.map((client) => ProbeSocket.open(client, 40_000)));
    for (const [index, socket] of sockets.entries()) {
      socket.send(first.address, 7000, `from ${index}`);
      const seen = await server.receive(`from ${index}`, 10_000);
      assert.equal(seen?.from, nat.address);
      server.send(seen.from, seen.port, `to ${index}`);
      assert.notEqual(await socket.receive(`to ${index}`, 10_000), undefined);
    }
    await Promise.all([server, ...sockets].map((socket) => socket.close()));
  });
});
