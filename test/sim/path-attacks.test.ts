import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  ADDRESS_SHARE,
  HOST_SHARE,
  PROBES_PER_ADDRESS,
  PROBES_PER_HOST,
} from '../../ts/core/path/unproven-budget.js';
import { OPEN_POLICY } from '../../ts/core/path/path-policy.js';
import { DEFAULT_PORT_SEARCH } from '../../ts/core/path/port-search-limits.js';
import { CandidateKind, MAX_CONTACT_CANDIDATES } from '../../ts/core/protocol/contact-candidate.js';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import { decodeMessage, encodeMessage } from '../../ts/core/protocol/control-message.js';
import type { Attachment } from '../../ts/sim/kernel/internet.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { sameBytes } from '../../ts/wire/bytes.js';
import { formatSocketAddress, type SocketAddress } from '../../ts/wire/socket-address.js';
import { ip } from './mesh-world.js';
import { keyOf, PairWorld } from '../../ts/sim/mesh/pair-world.js';

const VICTIM = ip('203.0.113.7');

/** Hosts that only listen: every datagram to one address, by its port. */
function listen(
  world: PairWorld,
  ports: readonly number[],
): { bytes: number; readonly heard: Map<number, number> } {
  const found = { bytes: 0, heard: new Map<number, number>() };
  for (const port of ports) {
    const attachment: Attachment = {
      address: { ip: VICTIM, port },
      nat: undefined,
      firewall: undefined,
      latencyMs: 5,
      out: undefined,
      in: undefined,
      receive: (_from, datagram) => {
        found.bytes += datagram.length;
        found.heard.set(port, (found.heard.get(port) ?? 0) + 1);
      },
    };
    world.simulation.internet.attach(attachment);
  }
  return found;
}

/** A member says, by a request of its own, that it is at these addresses. */
function nameAddresses(
  from: SimNode,
  to: SimNode,
  request: number,
  addresses: readonly SocketAddress[],
): void {
  const candidates = addresses.map((address) => ({ kind: CandidateKind.host, address }));
  const payload = encodeMessage({ request, message: { type: 'contact', candidates } });
  const begin = encodeMessage({ request: 0, message: { type: 'contact-begin' } });
  from.engine.sendControl([payload, begin].map((each) => ({ peer: keyOf(to), payload: each })));
}

describe('a member that names a victim as its address', () => {
  test('gets few packets sent there, however often it says so and at however many ports', () => {
    const world = new PairWorld(1, 'port-R', 'public');
    const ports = Array.from({ length: 1000 }, (_, n) => 1000 + n);
    const victim = listen(world, ports);
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    for (let round = 0; round < 300; round++) {
      const named = Array.from({ length: MAX_CONTACT_CANDIDATES }, (_, n) => ({
        ip: VICTIM,
        port: 1000 + ((round * MAX_CONTACT_CANDIDATES + n) % ports.length),
      }));
      nameAddresses(world.b, world.a, 1_000_000 + round, named);
      world.simulation.run(200);
    }
    const packets = [...victim.heard.values()];
    assert.ok(packets.length > 0, 'it was tried at all');
    // A minute has passed: the budget of one window, and what the next one has begun with.
    const total = packets.reduce((sum, count) => sum + count, 0);
    assert.ok(total <= 2 * PROBES_PER_HOST, packets.join(' '));
    assert.ok(Math.max(...packets) <= 2 * PROBES_PER_ADDRESS);
    assert.equal(victim.bytes, total * 80, 'none is padded');
    assert.ok(world.a.mesh.pathBudget.refused > 0);
    assert.equal(world.pathOf(world.a), 'direct', 'the path that was proven goes on');
  });

  test('gets no more sent there by asking for tests of who is let in', () => {
    const world = new PairWorld(5, 'port-R', 'public');
    const ports = Array.from({ length: 300 }, (_, n) => 1000 + n);
    const victim = listen(world, ports);
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    for (let round = 0; round < 3000; round++) {
      const address = { ip: VICTIM, port: 1000 + (round % ports.length) };
      const payload = encodeMessage({
        request: 1_000_000 + round,
        message: { type: 'filtering-test', address },
      });
      world.b.engine.sendControl([{ peer: keyOf(world.a), payload }]);
      world.simulation.run(10);
    }
    const packets = [...victim.heard.values()];
    assert.ok(packets.length > 0, 'it is sent to at all');
    assert.ok(packets.reduce((sum, count) => sum + count, 0) <= HOST_SHARE, packets.join(' '));
    assert.ok(Math.max(...packets) <= ADDRESS_SHARE);
    assert.ok(victim.bytes <= HOST_SHARE * 80);
    assert.ok(world.a.mesh.pathBudget.refused > 0);
  });

  test("gets one search's worth sent to its ports in ten minutes, one packet a port, however often it asks", () => {
    const world = new PairWorld(
      6,
      'symmetric',
      'port-R',
      true,
      {},
      {
        ...OPEN_POLICY,
        search: { ...DEFAULT_PORT_SEARCH, enabled: false }, // it asks for none by itself
      },
    );
    const heard = new Map<number, number>();
    world.start();
    assert.ok(world.firstPacket() !== undefined);
    world.cut('both'); // the member itself is found by no search
    const { blocked } = world.simulation.internet;
    world.simulation.internet.blocked = (from, to, bytes) => {
      if (sameBytes(to.ip, VICTIM)) heard.set(to.port, (heard.get(to.port) ?? 0) + 1);
      return blocked(from, to, bytes);
    };
    const address = { ip: VICTIM, port: 4500 };
    for (let round = 0; round < 40; round++) {
      nameAddresses(world.a, world.b, 1_000_000 + 2 * round, [address]);
      world.simulation.run(3000);
      const request = encodeMessage({
        request: 1_000_001 + 2 * round,
        message: { type: 'port-search', address, ports: 512 },
      });
      const begin = encodeMessage({ request: 0, message: { type: 'port-search-begin' } });
      world.a.engine.sendControl([{ peer: keyOf(world.b), payload: request }]);
      world.simulation.run(500);
      world.a.engine.sendControl([{ peer: keyOf(world.b), payload: begin }]);
      world.simulation.run(9500);
    }
    const { probes } = DEFAULT_PORT_SEARCH;
    const searched = [...heard].filter(([port]) => port !== address.port).map(([, count]) => count);
    assert.ok(searched.length > probes / 2, `${searched.length}: it is searched at all`);
    assert.ok(searched.length <= probes + 32, `${searched.length} ports`);
    assert.ok(Math.max(...searched) <= 2, 'a later search may come by one again');
  });

  test('does not have its victim register at relays with every contact it begins', () => {
    const world = new PairWorld(4, 'port-R', 'port-R');
    world.start();
    world.cut('both');
    assert.ok(world.firstPacket() !== undefined);
    let registrations = 0;
    const { engine } = world.a;
    const sendControl = engine.sendControl.bind(engine);
    engine.sendControl = (messages) => {
      for (const { payload } of messages) {
        const frame = decodeControlFrame(payload);
        if (frame !== undefined && decodeMessage(frame.body)?.message.type === 'register') registrations++;
      }
      sendControl(messages);
    };
    for (let round = 0; round < 500; round++) {
      nameAddresses(world.b, world.a, 1_000_000 + round, [{ ip: VICTIM, port: 53 }]);
      world.simulation.run(20);
    }
    // 10 s, and one relay or two.
    assert.ok(registrations > 0, 'relays are asked at all');
    assert.ok(registrations <= 24, `${registrations}`);
  });

  test('is not reached there: nothing but a probe goes to an address that did not answer', () => {
    const world = new PairWorld(2, 'port-R', 'port-R');
    const victim = listen(world, [53]);
    world.start();
    // Nobody is reached directly but at the victim.
    world.cut('both');
    assert.ok(world.firstPacket() !== undefined);
    nameAddresses(world.b, world.a, 1, [{ ip: VICTIM, port: 53 }]);
    for (let ping = 0; ping < 500; ping++) {
      world.a.ping(world.b.identity);
      world.simulation.run(10);
    }
    world.simulation.run(1000);
    assert.equal(world.pathOf(world.a), 'relay');
    assert.ok((victim.heard.get(53) ?? 0) <= PROBES_PER_ADDRESS);
    assert.equal(victim.bytes, (victim.heard.get(53) ?? 0) * 80);
    assert.equal(world.a.pongs.length, 501);
  });
});

describe('somebody on the way', () => {
  test('who sends what he took again, from anywhere, moves nothing and is answered nothing', () => {
    const world = new PairWorld(3, 'public', 'public');
    const taken: { readonly to: SocketAddress; readonly datagram: Uint8Array }[] = [];
    const { internet } = world.simulation;
    const send = internet.send.bind(internet);
    internet.send = (sender, to, datagram) => {
      taken.push({ to, datagram: datagram.slice() });
      send(sender, to, datagram);
    };
    const streams = world.talk(20);
    for (const stream of streams) stream.stop();
    world.simulation.run(1000);
    const answered: string[] = [];
    const attacker: Attachment = {
      address: { ip: ip('203.0.113.66'), port: 9 },
      nat: undefined,
      firewall: undefined,
      latencyMs: 1,
      out: undefined,
      in: undefined,
      receive: (from) => answered.push(formatSocketAddress(from)),
    };
    internet.attach(attacker);
    const direct = new Set([world.a, world.b].map(({ address }) => formatSocketAddress(address)));
    // Transport messages only: relays answer cookies and admissions by rules of their own.
    for (const { to, datagram } of taken.slice())
      if (datagram[0] === 4 && direct.has(formatSocketAddress(to))) send(attacker, to, datagram);
    world.simulation.run(3000);
    assert.ok(taken.length > 100);
    assert.deepEqual(answered, []);
    assert.ok(world.bothDirect);
  });
});
