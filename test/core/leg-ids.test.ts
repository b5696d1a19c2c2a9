import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Effect } from '../../ts/core/runtime/effect.js';
import { LegIds } from '../../ts/core/runtime/leg-ids.js';
import { Turn } from '../../ts/core/runtime/turn.js';
import { firstIdOfHome, legHome, MAX_SLOTS } from '../../ts/wire/leg-slots.js';
import { UNCHARGED, type Leg } from '../../ts/wire/leg.js';
import { step, turn } from './fixtures.js';

const leg = (id: number): Leg => ({
  ...{ id, key: new Uint8Array(16), epoch: 0, action: 'control' },
  ...{ source: undefined, next: undefined, lifetimeMs: undefined, charging: UNCHARGED },
});

function taken(ids: LegIds, count: number): number[] {
  const at = turn();
  return Array.from({ length: count }, () => ids.create(at).id);
}

/** Where the engine's table puts legs that come in this order. */
function placed(slots: number, ids: readonly number[]): Map<number, number> {
  const idAt = new Map<number, number>([[0, 0]]);
  for (const id of ids) {
    let slot = legHome(id, slots);
    while (idAt.has(slot)) slot = (slot + 1) % slots;
    idAt.set(slot, id);
  }
  return new Map([...idAt].map(([slot, id]) => [id, slot]));
}

describe('the home of a leg id', () => {
  it('is its share of the slots, without rounding', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xffffffff }),
        fc.integer({ min: 1, max: MAX_SLOTS }),
        (id, slots) => {
          assert.equal(legHome(id, slots), Number((BigInt(id) * BigInt(slots)) >> 32n));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it('begins with its first id and ends with the next one’s', () => {
    const slotAndSlots = fc
      .integer({ min: 1, max: MAX_SLOTS })
      .chain((slots) => fc.tuple(fc.integer({ min: 0, max: slots - 1 }), fc.constant(slots)));
    fc.assert(
      fc.property(slotAndSlots, ([slot, slots]) => {
        const [first, next] = [firstIdOfHome(slot, slots), firstIdOfHome(slot + 1, slots)];
        assert.equal(legHome(first, slots), slot);
        assert.equal(legHome(next - 1, slots), slot);
        assert.equal(next === 2 ** 32, slot === slots - 1);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('leg ids', () => {
  it('have homes of their own until the table is full, the contact leg’s aside', () => {
    for (const slots of [1, 2, 3, 64, 1000, 8192]) {
      const ids = taken(new LegIds(slots), slots - 1);
      const homes = new Set(ids.map((id) => legHome(id, slots)));
      assert.equal(homes.size, slots - 1);
      assert.ok(!homes.has(0));
    }
  });

  it('are given out in a full table too, no two alike', () => {
    const ids = taken(new LegIds(4), 1000);
    assert.equal(new Set(ids).size, 1000);
    assert.ok(!ids.includes(0));
  });

  it('are random among those with a free home', () => {
    const slots = 16;
    const ids = taken(new LegIds(slots), slots - 1);
    const others = taken(new LegIds(slots), slots - 1);
    assert.ok(ids.every((id) => !others.includes(id)));
    // The last home of a full table as well: of its 2^28 ids none is preferred.
    const inHome = Array.from({ length: 200 }, () => {
      const last = taken(new LegIds(slots), slots - 1).at(-1) ?? 0;
      return (last - firstIdOfHome(legHome(last, slots), slots)) / (2 ** 32 / slots);
    });
    for (const quarter of [0, 1, 2, 3])
      assert.ok(inHome.filter((part) => Math.floor(part * 4) === quarter).length > 20);
  });

  it('free their homes when they are removed', () => {
    const slots = 1000;
    const ids = new LegIds(slots);
    const live = taken(ids, slots - 1);
    for (let round = 0; round < 5000; round++) {
      const at = turn();
      const gone = live.splice((round * 7919) % live.length, 1)[0] ?? 0;
      ids.remove(gone, at);
      assert.deepEqual(at.effects, [{ type: 'remove-leg', id: gone }] satisfies Effect[]);
      live.push(ids.create(at).id);
    }
    assert.equal(new Set(live.map((id) => legHome(id, slots))).size, slots - 1);
  });

  it('are removed once', () => {
    const ids = new LegIds(8);
    const [id = 0] = taken(ids, 1);
    const at = turn();
    ids.remove(id, at);
    ids.remove(id, at);
    ids.remove(id ^ 1, at);
    assert.equal(at.effects.length, 1);
  });

  it('from the store are reserved, at home where that is free, else where the engine places them', () => {
    const slots = 64;
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 0xffffffff }), { maxLength: slots - 1 }),
        fc.integer({ min: 0, max: 2 ** 20 }),
        (stored, seed) => {
          const ids = new LegIds(slots);
          const at = turn();
          for (const id of stored) ids.install(leg(id), at);
          for (const id of stored) ids.install(leg(id), at); // refreshed: nothing more is reserved
          const fresh = taken(ids, slots - 1 - stored.length);
          const slotOf = placed(slots, [...stored, ...fresh]);
          for (const id of fresh) assert.equal(slotOf.get(id), legHome(id, slots));
          // One goes; the place it had is the only one left.
          const gone = stored[seed % stored.length];
          if (gone === undefined) return;
          ids.remove(gone, at);
          const [next = 0] = taken(ids, 1);
          assert.equal(legHome(next, slots), slotOf.get(gone));
          assert.ok(!stored.includes(next));
        },
      ),
      { numRuns: 200 },
    );
  });

  it('an id that lies elsewhere is not given out while its home is free again', () => {
    const slots = 4;
    const ids = new LegIds(slots);
    const home = firstIdOfHome(2, slots);
    const at = turn();
    for (const id of [home, home + 1]) ids.install(leg(id), at);
    ids.remove(home, at);
    const drawn = new Uint8Array(4);
    new DataView(drawn.buffer).setUint32(0, home + 1, true);
    let draws = 0;
    const same = new Turn({ ...step(), random: (length) => (draws++ === 0 ? drawn : step().random(length)) });
    assert.notEqual(ids.create(same).id, home + 1);
  });
});
