// Peer records, standing policies and usage receipts. Input: which of them, then the bytes. What is signed
// by one's own key may say anything: mutations inside are signed anew.

import assert from 'node:assert/strict';
import { decodeCbor, encodeCbor } from '../../../ts/core/protocol/cbor.js';
import { openPeerRecord, RECORD_REFUSALS, signPeerRecord } from '../../../ts/core/protocol/peer-record.js';
import { signMap } from '../../../ts/core/protocol/signed-map.js';
import {
  accepts,
  openStandingPolicy,
  signStandingPolicy,
} from '../../../ts/core/protocol/standing-policy.js';
import { openReceipt, signReceipt } from '../../../ts/core/protocol/usage-receipt.js';
import { nodePrimitives } from '../../../ts/engine/node-primitives.js';
import { concat, sameBytes, utf8 } from '../../../ts/wire/bytes.js';
import { WALL_CLOCK } from '../../core/fixtures.js';
import { mutateValue } from '../harness/cbor-mutation.js';
import { node, policy, receipt, record, relay } from '../harness/messages.js';
import type { FuzzTarget } from '../harness/target.js';

const LABELS = ['omerta peer record v1', 'omerta standing policy v1', 'omerta usage receipt v1'].map(utf8);
const SEEDS = [node.identitySeed, node.identitySeed, relay.identitySeed];
const sign = (message: Uint8Array): Uint8Array => nodePrimitives.ed25519Sign(relay.identitySeed, message);

function checkRecord(bytes: Uint8Array): void {
  const opened = openPeerRecord(nodePrimitives, bytes, WALL_CLOCK);
  if (typeof opened === 'string') {
    assert.ok(RECORD_REFUSALS.includes(opened));
    return;
  }
  assert.deepEqual(opened.bytes, bytes);
  if (sameBytes(opened.identity, node.identity))
    assert.deepEqual(signPeerRecord(nodePrimitives, node.identitySeed, opened).bytes, bytes);
}

function checkPolicy(bytes: Uint8Array): void {
  const ends = { identity: node.identity, relay: relay.identity };
  const opened = openStandingPolicy(nodePrimitives, bytes, ends, WALL_CLOCK);
  if (typeof opened === 'string') return;
  assert.deepEqual(signStandingPolicy(nodePrimitives, node.identitySeed, opened).bytes, bytes);
  for (const caller of [new Uint8Array(32), ...opened.identities])
    assert.equal(
      accepts(opened, caller, new Uint8Array(16)),
      opened.identities.some((each) => sameBytes(each, caller)) ||
        opened.networks.some((each) => sameBytes(each, new Uint8Array(16))),
    );
}

function checkReceipt(bytes: Uint8Array): void {
  const opened = openReceipt(nodePrimitives, bytes);
  if (typeof opened === 'string') return;
  if (sameBytes(opened.relay, relay.identity)) assert.deepEqual(signReceipt(opened, sign), bytes);
}

const CHECKS = [checkRecord, checkPolicy, checkReceipt];
const tagged = (kind: number, bytes: Uint8Array): Uint8Array => concat(Uint8Array.of(kind), bytes);

const target: FuzzTarget = {
  seeds: () => [
    ...[record, policy, receipt].map((bytes, kind) => tagged(kind, bytes)),
    tagged(0, encodeCbor([])),
    tagged(0, encodeCbor([0, 0])),
    tagged(0, encodeCbor([encodeCbor(0), new Uint8Array(64)])),
  ],
  mutate(input, random) {
    const kind = (input[0] ?? 0) % LABELS.length;
    const outer = decodeCbor(input.subarray(1), 2048);
    const body: unknown = Array.isArray(outer) ? outer[0] : undefined;
    const fields = body instanceof Uint8Array ? decodeCbor(body, 2048) : undefined;
    const seed = SEEDS[kind];
    const label = LABELS[kind];
    if (!(fields instanceof Map) || seed === undefined || label === undefined) return undefined;
    const changed = mutateValue(fields, random);
    if (!(changed instanceof Map)) return undefined;
    return tagged(
      kind,
      signMap(label, changed as Map<number, unknown>, (message) => nodePrimitives.ed25519Sign(seed, message)),
    );
  },
  run(input) {
    CHECKS[(input[0] ?? 0) % CHECKS.length]?.(input.slice(1));
  },
};
export default target;
