import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  FOLLOW_LINGER_MS,
  FOLLOWED_BOUNDS,
  FollowedNetworks,
} from '../../ts/core/relay/followed-networks.js';
import { BoundedTable } from '../../ts/core/runtime/bounded-table.js';
import { TimerQueue } from '../../ts/core/runtime/timer-queue.js';

describe('a bounded table', () => {
  const table = (): BoundedTable<string, number, 'prefix'> =>
    new BoundedTable(() => ({ total: 3, shares: { prefix: 2 } }));

  it('turns down who has used up his share, and keeps nothing of it; others have the rest', () => {
    const made = table();
    assert.equal(made.set('a', 1, { prefix: 'p' }), undefined);
    assert.equal(made.set('b', 2, { prefix: 'p' }), undefined);
    assert.equal(made.set('c', 3, { prefix: 'p' }), 'prefix');
    assert.equal(made.has('c'), false);
    assert.equal(made.set('c', 3, { prefix: 'q' }), undefined);
    assert.equal(made.set('d', 4, { prefix: 'r' }), 'total');
    assert.deepEqual(
      [...made],
      [
        ['a', 1],
        ['b', 2],
        ['c', 3],
      ],
    );
  });

  it('gives a share back when an entry goes, or is handed to another', () => {
    const made = table();
    made.set('a', 1, { prefix: 'p' });
    made.set('b', 2, { prefix: 'p' });
    made.hand('b', { prefix: 'q' });
    assert.equal(made.heldBy('prefix', 'p'), 1);
    assert.equal(made.set('c', 3, { prefix: 'p' }), undefined);
    assert.equal(made.delete('a'), true);
    assert.equal(made.set('d', 4, { prefix: 'p' }), undefined);
    assert.equal(made.delete('a'), false);
  });
});

describe('room in a bounded table', () => {
  const table = (): BoundedTable<string, number, 'site' | 'network'> =>
    new BoundedTable(() => ({ total: 4, shares: { site: 3, network: 4 } }), {
      within: ['network'],
      payer: ({ site }) => site,
    });

  it('is made by who came first of the owner with most, for one that has fewer', () => {
    const made = table();
    for (const key of ['a', 'b', 'c']) made.set(key, 0, { site: 's', network: key });
    made.set('d', 0, { site: 't', network: 'd' });
    assert.equal(made.displaced({ site: 'u', network: 'e' }, 'total'), 'a');
    assert.equal(made.displaced({ site: 't', network: 'e' }, 'total'), 'a');
    assert.equal(made.displaced({ site: 's', network: 'e' }, 'total'), undefined, 'not by himself');
    assert.equal(made.displaced({ site: 's', network: 'e' }, 'site'), undefined);
    made.delete('a');
    made.set('e', 0, { site: 't', network: 'e' });
    assert.equal(made.displaced({ site: 't', network: 'f' }, 'total'), undefined, 'of equals by nobody');
  });

  it('of a share is made by those who use that share', () => {
    const made = table();
    for (const key of ['a', 'b', 'c']) made.set(key, 0, { site: 's', network: key === 'c' ? 'n' : 'm' });
    made.set('d', 0, { site: 't', network: 'n' });
    assert.equal(made.displaced({ site: 'u', network: 'n' }, 'network'), undefined);
    made.hand('b', { site: 's', network: 'n' });
    assert.equal(made.displaced({ site: 'u', network: 'n' }, 'network'), 'c', 'the first in that share');
  });
});

describe('followed networks', () => {
  const wish = (prefix: string, site = prefix): Parameters<FollowedNetworks['wish']>[2] => ({
    depth: 0,
    until: undefined,
    payer: { prefix, site },
  });

  it('of one prefix are a share of all, whoever of it wishes them', () => {
    const followed = new FollowedNetworks();
    const { prefix } = FOLLOWED_BOUNDS.shares;
    for (let index = 0; index < prefix; index++)
      assert.equal(followed.wish(`n${index}`, `client-${index}`, wish('p')), true);
    assert.equal(followed.wish('one more', 'client', wish('p')), false);
    assert.equal(followed.wish('n0', 'client', wish('p')), true, 'what is followed already costs nothing');
    assert.equal(followed.wish('one more', 'client', wish('q')), true);
  });

  it('of one site are a share of all, however many prefixes it has', () => {
    const followed = new FollowedNetworks();
    const { prefix, site } = FOLLOWED_BOUNDS.shares;
    for (let index = 0; index < site; index++)
      assert.ok(followed.wish(`n${index}`, `client-${index}`, wish(`p${Math.floor(index / prefix)}`, 's')));
    assert.equal(followed.wish('one more', 'client', wish('another', 's')), false);
    assert.equal(followed.wish('one more', 'client', wish('another', 't')), true);
  });

  it('end with the last wish', () => {
    const followed = new FollowedNetworks();
    followed.wish('n', 'a', wish('p'));
    followed.wish('n', 'b', { ...wish('q'), until: 1000 });
    followed.release('a', 500);
    assert.deepEqual(followed.expire(1000), []);
    assert.deepEqual(followed.expire(500 + FOLLOW_LINGER_MS - 1), []);
    assert.deepEqual(followed.expire(500 + FOLLOW_LINGER_MS), ['n']);
    assert.equal(followed.size, 0);
  });

  it('are never asked for by relays for each other when nobody else wishes them', () => {
    const names = ['r1', 'r2', 'r3'];
    const relays = new Map(names.map((name) => [name, new FollowedNetworks()]));
    const round = (now: number): void => {
      for (const [asker, followed] of relays)
        for (const asked of names) {
          const depth = asked === asker ? undefined : followed.depth('n', asked);
          const payer = { neighbour: asker };
          if (depth !== undefined) relays.get(asked)?.wish('n', asker, { depth, until: now + 15, payer });
        }
      for (const followed of relays.values()) followed.expire(now);
    };
    relays.get('r1')?.wish('n', 'client', wish('p'));
    for (let now = 0; now < 100; now += 10) round(now);
    assert.deepEqual(
      names.map((name) => relays.get(name)?.size),
      [1, 1, 1],
    );
    relays.get('r1')?.release('client', 100);
    for (let now = 100; now < 200 + FOLLOW_LINGER_MS; now += 10) round(now);
    assert.deepEqual(
      names.map((name) => relays.get(name)?.size),
      [0, 0, 0],
    );
  });
});

describe('a timer queue', () => {
  it('does not grow with timers that are moved over and over', () => {
    const queue = new TimerQueue<string>();
    queue.set('other', 5);
    for (let at = 1; at <= 10_000; at++) queue.set('moved', 1_000_000 + at);
    assert.ok(queue.entries < 100, `${queue.entries} entries`);
    assert.equal(queue.takeDue(5), 'other');
    assert.equal(queue.next(), 1_010_000);
  });
});
