import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { toHex } from '../../ts/wire/bytes.js';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import { decodeMessage, encodeMessage } from '../../ts/core/protocol/control-message.js';
import type { ReceiptReport } from '../../ts/core/runtime/receipt-report.js';
import { openReceipt, signReceipt } from '../../ts/core/protocol/usage-receipt.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import type { SimNode } from '../../ts/sim/mesh/simulation.js';
import { allKnowAll, meshWorld, PingRound, type MeshWorld } from './mesh-world.js';

/** Two members with a circuit, and `count` pings over it. */
function pair(count: number): { world: MeshWorld; a: SimNode; b: SimNode } {
  const world = meshWorld({ seed: 31, count: 2 });
  world.relay.start();
  for (const node of world.members) node.start();
  assert.notEqual(
    world.simulation.runUntil(() => allKnowAll(world.members), 5000),
    undefined,
  );
  const [a, b] = world.members;
  assert.ok(a && b);
  assert.notEqual(new PingRound(world, [[a, b]]).complete(3000), undefined);
  pings(world, a, b, count);
  return { world, a, b };
}

function pings({ simulation }: MeshWorld, a: SimNode, b: SimNode, count: number): void {
  for (let i = 0; i < count; i++) {
    a.ping(b.identity);
    simulation.run(10);
  }
  simulation.run(1000);
}

/** The one receipt a node fetches. */
function fetched(world: MeshWorld, node: SimNode, of?: SimNode): ReceiptReport {
  node.receipts.length = 0;
  node.apply(node.mesh.fetchReceipts(of?.identity, new Uint8Array(8), node.step));
  world.simulation.runUntil(() => node.receipts.length > 0, 25_000);
  const [report] = node.receipts;
  assert.ok(report !== undefined && node.receipts.length === 1, `${node.receipts.length} receipts`);
  return report;
}

describe('usage receipts', () => {
  it('match what either end counted, and say the same to both', () => {
    const { world, a, b } = pair(200);
    const [left, right] = [fetched(world, a, b), fetched(world, b)];
    for (const { verdict, differences, receipt, relay } of [left, right]) {
      assert.equal(verdict, 'matches', differences.join());
      assert.deepEqual(relay, world.relay.identity);
      assert.deepEqual(receipt?.caller, a.identity);
      assert.deepEqual(receipt.callee, b.identity);
    }
    assert.ok((left.claimed?.sent.packets ?? 0) >= 200);
    assert.deepEqual(left.claimed?.sent, left.own?.sent);
    assert.deepEqual(left.claimed?.received, left.own?.received);
    assert.deepEqual(left.own?.sent, right.own?.received, 'no packet was lost here');
    assert.deepEqual(right.claimed?.received, left.claimed?.sent);
    assert.equal(left.circuit, right.circuit);
  });

  it('are the ones the relay’s operator can print', () => {
    const { world, a, b } = pair(20);
    const { relay } = world;
    const { receipt } = fetched(world, a);
    const print = (of: SimNode | undefined, limit: number): Uint8Array[] => {
      relay.signedReceipts.length = 0;
      relay.apply(relay.mesh.signReceipts(of?.identity, limit, new Uint8Array(8), relay.step));
      return [...relay.signedReceipts];
    };
    const [printed] = print(undefined, 10);
    assert.ok(printed);
    const opened = openReceipt(nodePrimitives, printed);
    assert.ok(typeof opened !== 'string');
    assert.deepEqual({ ...opened, issued: 0, seconds: 0 }, { ...receipt, issued: 0, seconds: 0 });
    assert.equal(print(b, 10).length, 1);
    assert.equal(print(undefined, 0).length, 0);
    assert.equal(print(relay, 10).length, 0, 'of an end that has none');
  });

  it('of a relay that pads its counts differ, at the end that is charged', () => {
    const { world, a, b } = pair(500);
    const { engine } = world.relay;
    const honest = engine.legCounters.bind(engine);
    engine.legCounters = (ids) =>
      honest(ids).map(
        (counts) => counts && { ...counts, packets: counts.packets + 100, bytes: counts.bytes },
      );
    for (const [end, of] of [
      [a, b],
      [b, a],
    ] as const) {
      const { verdict, differences } = fetched(world, end, of);
      assert.equal(verdict, 'differs');
      assert.ok(differences.includes('more-than-sent'));
    }
  });

  it('changed on the way, or of another relay or circuit, are invalid', () => {
    const { world, a, b } = pair(5);
    const { receipt, bytes } = fetched(world, a, b);
    assert.ok(receipt !== undefined && bytes !== undefined);
    const other = new Uint8Array(32).fill(9);
    const tampered = bytes.slice();
    tampered[100] = (tampered[100] ?? 0) ^ 1;
    const sign = (message: Uint8Array): Uint8Array =>
      nodePrimitives.ed25519Sign(world.relay.config.identitySeed, message);
    const answers: readonly (readonly [string, Uint8Array])[] = [
      ['tampered', tampered],
      [
        'signed by another',
        signReceipt({ ...receipt, relay: nodePrimitives.ed25519PublicKey(other) }, (message) =>
          nodePrimitives.ed25519Sign(other, message),
        ),
      ],
      ['of another circuit', signReceipt({ ...receipt, circuit: new Uint8Array(16) }, sign)],
      ['the wrong way round', signReceipt({ ...receipt, caller: b.identity, callee: a.identity }, sign)],
    ];
    for (const [name, answer] of answers) {
      a.receipts.length = 0;
      const effects = a.mesh.fetchReceipts(undefined, new Uint8Array(8), a.step);
      // The first question is to the own engine; then comes the request, whose number is answered.
      const [count] = effects;
      assert.ok(count?.type === 'count-legs');
      const sent = a.mesh.handleLegCounts(count.query, a.engine.legCounters(count.legs), a.step);
      const [request] = sent;
      assert.ok(request?.type === 'send-control');
      const number = requestNumber(request.payload);
      const payload = encodeMessage({ request: number, message: { type: 'receipt-given', receipt: answer } });
      a.apply(
        a.mesh.handleEngineEvent({ type: 'control', peer: toHex(world.relay.sessionKey), payload }, a.step),
      );
      assert.equal(a.receipts[0]?.verdict, 'invalid', name);
    }
  });

  it('after a restart of the relay count from there', () => {
    const { world, a, b } = pair(300);
    world.simulation.run(20_000);
    world.relay.kill();
    world.relay.start();
    pings(world, a, b, 50);
    const { verdict, receipt, own } = fetched(world, a, b);
    assert.equal(verdict, 'restarted');
    assert.ok((receipt?.toCallee.packets ?? 0) < (own?.sent.packets ?? 0));
  });

  it('are not given to those who are no end of the circuit', () => {
    const { world, a, b } = pair(1);
    const { circuit } = fetched(world, a, b);
    const third = world.simulation.node({
      name: 'third',
      address: {
        ip: new Uint8Array([...new Array<number>(10).fill(0), 255, 255, 203, 0, 113, 5]),
        port: 51820,
      },
      networks: [world.network],
      latencyMs: 5,
    });
    third.start();
    world.simulation.run(2000);
    const message = { type: 'receipt', circuit: Uint8Array.from(Buffer.from(circuit, 'hex')) } as const;
    third.apply([
      {
        type: 'send-control',
        peer: toHex(world.relay.sessionKey),
        payload: encodeMessage({ request: 5, message }),
      },
    ]);
    world.simulation.run(500);
    const { relay } = world.relay.mesh.status(world.relay.step);
    assert.equal(relay?.refusals['unknown-circuit'], 1);
  });

  it('of a relay that does not answer are reported as such', () => {
    const { world, a } = pair(1);
    world.relay.kill();
    assert.equal(fetched(world, a).verdict, 'unanswered');
  });
});

/** The request number of a control payload that holds a message. */
function requestNumber(payload: Uint8Array): number {
  const envelope = decodeMessage(decodeControlFrame(payload)?.body ?? payload);
  assert.ok(envelope);
  return envelope.request;
}
