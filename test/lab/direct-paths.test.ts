// The shipped binary behind NATs: two members go from the relay to a direct path where the NATs allow it, and
// back to the relay when the direct path dies.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  expectedWay,
  joinFrom,
  NatMatrix,
  PLACES,
  startRelay,
  wayTold,
  type Cell,
} from '../../ts/lab/nat-matrix.js';
import { matrixRows } from '../../ts/lab/matrix-report.js';
import { PingWatch } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';

const unavailable = labUnavailable(['ping']);
const skip = unavailable === undefined ? false : unavailable;
/** Generous: what is measured here is whether, not how fast. */
const PATIENCE_MS = 20_000;

describe('what two places allow', () => {
  it('is a direct path but where one mapping depends on the destination and the other filter on the port', () => {
    const relayed = PLACES.flatMap((from) =>
      PLACES.filter((to) => expectedWay(from, to) === 'relay').map((to) => `${from} ${to}`),
    );
    assert.deepEqual(relayed, [
      'port-restricted symmetric',
      'symmetric port-restricted',
      'symmetric symmetric',
    ]);
  });

  it('is missed by one run that stayed on the relay, or lost a ping', () => {
    const cell: Cell = {
      from: 'public',
      to: 'public',
      expected: 'direct',
      way: 'direct',
      firstReplyMs: 20,
      directMs: 60,
      pings: 90,
      lost: 0,
      relayedShare: 0,
    };
    const [met] = matrixRows([cell, cell]);
    assert.deepEqual([met?.met, met?.runs, met?.direct], [true, 2, 2]);
    assert.equal(matrixRows([cell, { ...cell, way: 'relay', directMs: undefined }])[0]?.met, false);
    assert.equal(matrixRows([cell, { ...cell, lost: 1 }])[0]?.met, false);
  });
});

describe('members behind NATs', { skip }, () => {
  let world: World;

  before(async () => {
    world = await World.create();
  });
  after(() => {
    world.remove();
  });

  it('talk directly through two port-restricted NATs, after a search where one is symmetric, and lose nothing', async () => {
    const matrix = await NatMatrix.start(world, ['port-restricted', 'symmetric']);
    const direct = await matrix.measure('port-restricted', 'port-restricted');
    assert.deepEqual([direct.way, direct.lost], ['direct', 0]);
    const searched = await matrix.measure('port-restricted', 'symmetric');
    assert.equal(searched.lost, 0);
    // It finds a port in 98 of 100; by the relay it goes from the first packet on.
    assert.ok(
      searched.way !== 'none' && (searched.searched ?? 0) > 0,
      `${searched.way}, ${searched.searched} packets`,
    );
  });
});

describe('a direct path that dies', { skip }, () => {
  let world: World;

  before(async () => {
    world = await World.create();
  });
  after(() => {
    world.remove();
  });

  it('is left for the relay, and taken again when it lives', async () => {
    const { invite } = await startRelay(world);
    const left = await joinFrom(world, 'port-restricted', 'left', invite);
    const right = await joinFrom(world, 'full-cone', 'right', invite);
    const { nat } = left;
    const far = right.nat?.address;
    assert.ok(nat !== undefined && far !== undefined);
    const watch = PingWatch.start(left.omerta.node, right.ipv6);
    const told = async (way: string): Promise<void> => {
      const deadline = performance.now() + PATIENCE_MS * 2;
      while ((await wayTold(left, right)) !== way) {
        assert.ok(performance.now() < deadline, `the way is not ${way}: ${left.omerta.log}`);
        await sleep(50);
      }
    };
    try {
      await told('direct');
      const cut = performance.now();
      await nat.nft(
        [
          'table ip cut {',
          'chain forward {',
          'type filter hook forward priority 0;',
          `ip daddr ${far} drop`,
          `ip saddr ${far} drop`,
          '}',
          '}',
          '',
        ].join('\n'),
      );
      await told('relay');
      assert.ok(await watch.steady(1000, PATIENCE_MS), 'nothing gets through by the relay');
      const { milliseconds } = watch.outage(cut);
      assert.ok(milliseconds < 5000, `out of service for ${milliseconds} ms`);
      await nat.nft('delete table ip cut\n');
      const before = watch.seen().lost;
      await told('direct');
      assert.ok(await watch.steady(1000, PATIENCE_MS));
      assert.equal(watch.seen().lost, before);
    } finally {
      watch.close();
    }
  });
});
