// Sharing of the host's rate in the wasm engine; native/test/fair_share_test.cc has the same cases.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { FairShare, fairLevel } from '../../ts/engine/wasm/fair-share.js';
import { encodeFrame, FrameKind } from '../../ts/wire/frame.js';
import type { LegEntry } from '../../ts/wire/leg-entry.js';
import type { SocketAddress } from '../../ts/wire/socket-address.js';
import { rateOf } from '../../ts/wire/limits.js';
import { IMPLEMENTATIONS } from '../wire/implementations.js';

describe('the level of a fair share', () => {
  it('gives who asks for less what he asks for, and shares the rest equally', () => {
    assert.equal(fairLevel([10, 20, 70, 100], 100), 35);
    assert.equal(fairLevel([1000, 1, 1, 1, 1, 1, 1, 1, 1, 1], 100), 91);
    assert.equal(fairLevel([500, 500, 500, 500], 100), 25);
    assert.equal(fairLevel([25, 25, 25, 25], 100), 25);
  });

  it('leaves the spare to any one identity when there is enough for all', () => {
    assert.equal(fairLevel([10, 20], 100), 90);
    assert.equal(fairLevel([], 100), 100);
    assert.equal(fairLevel([100], 100), 100);
  });

  it('becomes a factor, one over the share of the host', () => {
    const interval = 1e8;
    const shares = new FairShare();
    const update = (at: number, ...totals: number[]): number =>
      shares.update(totals.map(BigInt), at * interval, 0);
    assert.equal(update(1, 0, 0), 2 * 65536, 'nothing is known yet');
    assert.equal(update(2, 1e8, 1e8), 2 * 65536);
    assert.equal(update(3, 1.1e8, 11e8), Math.ceil((65536 * 10) / 9));
    const withBacklog = shares.update([BigInt(2.1e8 / 1.75), BigInt(21e8)], 4 * interval, interval);
    assert.ok(withBacklog > Math.ceil((65536 * 10) / 9), 'a backlog is worked off');
    assert.equal(update(1000, 30e8, 30e8), 2 * 65536, 'after a long pause');
    shares.reset();
    assert.equal(update(1001, 40e8, 40e8), 2 * 65536, 'after reset');
  });
});

const FROM: SocketAddress = { ip: new Uint8Array(16), port: 1 };
const KEY = new Uint8Array(16);
const HOST_FRAMES = 1000;

function legOf(identity: number): LegEntry {
  return {
    id: identity,
    key: KEY,
    epoch: 0,
    action: 'forward',
    source: FROM,
    next: { id: 1, key: KEY, epoch: 0, address: FROM },
    expiresAt: 0n,
    charging: { identity, network: 0, limits: 0 },
  };
}

const model = IMPLEMENTATIONS.find(({ name }) => name === 'WASM');
assert.ok(model);

/** What each identity got of what it sent in `seconds` after the first, of a host of 1,000 frames/s. */
function carried(framesPerSecond: readonly number[], seconds: number): { sent: number; carried: number }[] {
  assert.ok(model);
  const table = model.make(16, { identities: framesPerSecond.length + 1, networks: 1, classes: 1 });
  const host = rateOf({ packetsPerSecond: HOST_FRAMES, burstMs: 100 }, 'host');
  table.setHostRate(host);
  const shares = new FairShare();
  const senders = framesPerSecond.map((perSecond, index) => {
    table.install(legOf(index + 1));
    const frame = encodeFrame({
      kind: FrameKind.forward,
      hopLimit: 8,
      epoch: 0,
      legId: index + 1,
      key: KEY,
      payload: new Uint8Array(16),
    });
    return { perSecond, next: 1e9 + index * 1000, frame, sent: 0, carried: 0 };
  });
  let deal = 1e9;
  for (;;) {
    const next = senders.reduce((a, b) => (b.next < a.next ? b : a));
    if (next.next > 2e9 + seconds * 1e9) return senders;
    for (; deal <= next.next; deal += 1e8) {
      const demands = senders.map((_, index) => table.account('identity', index + 1).demand);
      const backlog = Math.max(0, Number(table.host().theoreticalArrival) - deal);
      table.setFairShare({ factor: shares.update(demands, deal, backlog), burst: host.burst });
    }
    const counts = next.next > 2e9;
    if (counts) next.sent++;
    const { verdict } = table.judge(FROM, next.frame.slice(), BigInt(Math.round(next.next)));
    if (verdict === 'forward' && counts) next.carried++;
    next.next += 1e9 / next.perSecond;
  }
}

describe('identities that ask for more than the host carries', () => {
  it('one greedy one takes what nine modest ones leave, and they lose nothing', () => {
    const [greedy, ...modest] = carried([10 * HOST_FRAMES, ...Array.from({ length: 9 }, () => 50)], 5);
    for (const each of modest) assert.equal(each.carried, each.sent);
    const left = HOST_FRAMES - 9 * 50;
    assert.ok(greedy && Math.abs(greedy.carried / 5 - left) < left * 0.1, `${greedy?.carried}`);
  });

  it('ten equally greedy ones get equal shares, within a tenth', () => {
    const shares = carried(
      Array.from({ length: 10 }, () => HOST_FRAMES),
      5,
    ).map((each) => each.carried / 5);
    const mean = shares.reduce((a, b) => a + b) / 10;
    assert.ok(Math.abs(mean - 100) < 5, `mean ${mean}`);
    for (const share of shares) assert.ok(Math.abs(share - mean) < mean / 10, `${share}`);
  });

  it('nobody is held back while there is enough for all', () => {
    for (const each of carried([600, 200, 150], 5)) assert.equal(each.carried, each.sent);
  });
});
