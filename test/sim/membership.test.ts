// Who a relay tells of a network, and opens circuits in it for: those who have shown that they know its key.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import {
  decodeMessage,
  encodeMessage,
  type ControlMessage,
  type RequestMessage,
} from '../../ts/core/protocol/control-message.js';
import { blindedNetworkId, membershipKey } from '../../ts/core/protocol/network.js';
import { NatBehaviour, signPeerRecord } from '../../ts/core/protocol/peer-record.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { toHex } from '../../ts/wire/bytes.js';
import { bootstrapOf, ip, meshWorld, PingRound, type MeshWorld } from './mesh-world.js';

/** What a node is sent by control messages, from now on. */
function overhear(node: SimNode): ControlMessage[] {
  const heard: ControlMessage[] = [];
  const { mesh } = node;
  const handle = mesh.handleEngineEvent.bind(mesh);
  mesh.handleEngineEvent = (event, step) => {
    const frame = event.type === 'control' ? decodeControlFrame(new Uint8Array(event.payload)) : undefined;
    const envelope = frame && decodeMessage(frame.body);
    if (envelope !== undefined) heard.push(envelope.message);
    return handle(event, step);
  };
  return heard;
}

/** What a node sends by control messages, from now on. */
function watch(node: SimNode): ControlMessage[] {
  const sent: ControlMessage[] = [];
  const { engine } = node;
  const send = engine.sendControl.bind(engine);
  engine.sendControl = (messages) => {
    for (const { payload } of messages) {
      const frame = decodeControlFrame(new Uint8Array(payload));
      const envelope = frame && decodeMessage(frame.body);
      if (envelope !== undefined) sent.push(envelope.message);
    }
    send(messages);
  };
  return sent;
}

let request = 70_000;
function say(node: SimNode, { relay, simulation }: MeshWorld, message: RequestMessage): void {
  const payload = encodeMessage({ request: ++request, message });
  node.apply([{ type: 'send-control', peer: toHex(relay.sessionKey), payload }]);
  simulation.run(200);
}

/** Two members, and a client of their relay who knows the blinded id of their network alone, and says it is in it. */
function withOutsider(): { made: MeshWorld; a: SimNode; b: SimNode; outsider: SimNode; blinded: Uint8Array } {
  const made = meshWorld({ seed: 21, count: 2 });
  const { simulation, relay, network, members } = made;
  const [a, b] = members;
  assert.ok(a && b);
  const outsider = simulation.node({
    name: 'outsider',
    address: { ip: ip('203.0.113.9'), port: 51820 },
    networks: [
      {
        ...network,
        id: simulation.prng.bytes(16),
        key: simulation.prng.bytes(32),
        bootstraps: [bootstrapOf(relay)],
      },
    ],
    latencyMs: 5,
  });
  for (const node of [relay, a, b, outsider]) node.start();
  simulation.run(3000);
  const blinded = blindedNetworkId(nodePrimitives, network);
  const { config, identity, sessionKey, step } = outsider;
  const record = signPeerRecord(nodePrimitives, config.identitySeed, {
    identity,
    sessionKey,
    networks: [blinded],
    addresses: [{ round: 0, tenures: [] }],
    endpoints: [],
    relays: [],
    nat: NatBehaviour.unknown,
    capabilities: [],
    sequence: step.wallClock + 10,
    notAfter: Math.floor(step.wallClock / 1000) + 3600,
    name: 'outsider',
  });
  say(outsider, made, { type: 'register', record: record.bytes, boot: new Uint8Array(8).fill(1) });
  return { made, a, b, outsider, blinded };
}

const known = (node: SimNode): string[] =>
  (node.mesh.status(node.step).networks[0]?.members ?? []).map(({ name }) => name).toSorted();

describe('who knows only what a relay calls a network', () => {
  it('is told nobody of it, and told of to nobody', () => {
    const { made, a, b, outsider, blinded } = withOutsider();
    const heard = overhear(outsider);
    say(outsider, made, { type: 'lookup', network: blinded, after: 0, depth: 0 });
    assert.deepEqual(heard, [{ type: 'refused', reason: 'not-a-member', what: 'lookup' }]);
    made.simulation.run(60_000);
    assert.deepEqual([known(a), known(b)], [['node-1'], ['node-0']]);
  });

  it('has no circuit opened in it, and none to it', () => {
    const { made, a, outsider, blinded } = withOutsider();
    const heard = overhear(outsider);
    const leg = { id: 5, key: new Uint8Array(16), epoch: 0 };
    say(outsider, made, { type: 'circuit-open', callee: a.identity, network: blinded, leg });
    assert.deepEqual(heard, [{ type: 'refused', reason: 'not-a-member', what: 'circuit-open' }]);
    const answers = overhear(a);
    say(a, made, { type: 'circuit-open', callee: outsider.identity, network: blinded, leg });
    assert.deepEqual(answers, [{ type: 'refused', reason: 'callee-offline', what: 'circuit-open' }]);
  });

  it('is no member by a signature of its own making, by another network\u2019s, or by one overheard of a member', () => {
    const { made, a, outsider } = withOutsider();
    const { network, relay } = made;
    const { publicKey: key } = membershipKey(nodePrimitives, network);
    relay.kill();
    relay.store.clear();
    const sent = watch(a);
    relay.start();
    made.simulation.run(30_000);
    const overheard = sent.find(({ type }) => type === 'join-network');
    assert.ok(overheard?.type === 'join-network');
    assert.deepEqual(overheard.key, key);
    const { config, identity, sessionKey, step } = outsider;
    const record = signPeerRecord(nodePrimitives, config.identitySeed, {
      identity,
      sessionKey,
      networks: [blindedNetworkId(nodePrimitives, network)],
      addresses: [{ round: 0, tenures: [] }],
      endpoints: [],
      relays: [],
      nat: NatBehaviour.unknown,
      capabilities: [],
      sequence: step.wallClock + 20,
      notAfter: Math.floor(step.wallClock / 1000) + 3600,
      name: 'outsider',
    });
    say(outsider, made, { type: 'register', record: record.bytes, boot: new Uint8Array(8).fill(2) });
    const heard = overhear(outsider);
    const refused = (reason: string): unknown => ({ type: 'refused', reason, what: 'join-network' });
    say(outsider, made, overheard);
    say(outsider, made, { type: 'join-network', key, signature: new Uint8Array(64) });
    const own = nodePrimitives.ed25519PublicKey(new Uint8Array(32).fill(9));
    say(outsider, made, { type: 'join-network', key: own, signature: overheard.signature });
    assert.deepEqual(heard, [refused('not-a-member'), refused('not-a-member'), refused('not-served')]);
  });
});

describe('a member', () => {
  it('remembers nothing of networks it did not ask its bootstrap about', () => {
    const made = meshWorld({ seed: 23, count: 1 });
    const { simulation, relay, members } = made;
    const [a] = members;
    assert.ok(a);
    for (const node of [relay, a]) node.start();
    simulation.run(3000);
    const heard = overhear(relay);
    const network = new Uint8Array(16).fill(9);
    const message = { type: 'records-changed', network, from: 0, records: [], gone: [], version: 4 } as const;
    const payload = encodeMessage({ request: 5, message });
    relay.apply([{ type: 'send-control', peer: toHex(a.sessionKey), payload }]);
    simulation.run(200);
    assert.deepEqual(heard, [{ type: 'refused', reason: 'not-a-member', what: 'records-changed' }]);
  });

  it('is one still at a relay that was restarted, and need not show it again', () => {
    const made = meshWorld({ seed: 22, count: 2 });
    const { simulation, relay, members } = made;
    const [a, b] = members;
    assert.ok(a && b);
    for (const node of [relay, a, b]) node.start();
    simulation.run(3000);
    relay.kill();
    simulation.run(500);
    const sent = watch(a);
    relay.start();
    simulation.run(20_000);
    assert.ok(sent.some(({ type }) => type === 'lookup'));
    assert.ok(!sent.some(({ type }) => type === 'join-network'));
    assert.ok(new PingRound(made, [[a, b]]).complete(5000) !== undefined);
  });
});
