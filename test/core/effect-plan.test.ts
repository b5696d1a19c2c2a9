import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { carryOut, type EffectEngine, type EffectWorld } from '../../ts/core/runtime/carry-out.js';
import type { Effect } from '../../ts/core/runtime/effect.js';
import { planEffects, type EffectBatch } from '../../ts/core/runtime/effect-plan.js';
import type { WireguardBinding } from '../../ts/contract/engine.js';
import { NO_PATH_TIMES } from '../../ts/contract/path-control.js';
import { UNCHARGED } from '../../ts/wire/leg.js';

const address = { ip: new Uint8Array(16), port: 9 };
const bytes = (): Uint8Array => new Uint8Array(1); // each effect's own, so that it can be told by identity
const key = fc.constantFrom('p', 'q', 'r');
const id = fc.integer({ min: 1, max: 4 });

/** Each kind of effect; `satisfies` asks for a new one as soon as there is one. */
const kinds = {
  'send-frame': fc
    .constant(address)
    .map((to): Effect => ({ type: 'send-frame', to: { ...to }, frame: bytes() })),
  'send-control': key.map((peer): Effect => ({ type: 'send-control', peer, payload: bytes() })),
  'set-peer': key.map((sessionKey): Effect => ({
    type: 'set-peer',
    peer: {
      sessionKey,
      presharedKey: undefined,
      allowedIps: [],
      endpoint: undefined,
      persistentKeepalive: 0,
    },
  })),
  'set-ports': fc.nat(2).map((count): Effect => ({
    type: 'set-ports',
    ports: Array.from({ length: count }, () => address),
  })),
  'set-paths': key.map((peer): Effect => ({
    type: 'set-paths',
    paths: { peer, paths: [], ...NO_PATH_TIMES },
  })),
  'set-shaping': key.map((peer): Effect => ({
    type: 'set-shaping',
    shaping: { peer, paddedSizes: [], paddingBudget: undefined },
  })),
  'send-probe': key.map((peer): Effect => ({
    type: 'send-probe',
    probe: { peer, token: bytes(), to: { remote: { address }, local: undefined }, size: 0 },
  })),
  'remove-peer': key.map((peer): Effect => ({ type: 'remove-peer', peer })),
  handshake: key.map((peer): Effect => ({ type: 'handshake', peer })),
  'install-leg': id.map((legId): Effect => ({
    type: 'install-leg',
    leg: {
      id: legId,
      key: bytes(),
      epoch: 0,
      action: 'deliver',
      source: address,
      next: undefined,
      lifetimeMs: undefined,
      charging: UNCHARGED,
    },
  })),
  'remove-leg': id.map((legId): Effect => ({ type: 'remove-leg', id: legId })),
  'set-limits': id.map((index): Effect => ({
    type: 'set-limits',
    index,
    limits: { identity: undefined, leg: undefined } as never,
  })),
  'set-account-limit': id.map((index): Effect => ({
    type: 'set-account-limit',
    kind: 'identity',
    index,
    limit: undefined,
  })),
  'reset-account': id.map((index): Effect => ({ type: 'reset-account', kind: 'identity', index })),
  'set-host-limit': fc.constant(undefined).map((limit): Effect => ({ type: 'set-host-limit', limit })),
  'set-prefix-limit': fc.constant(undefined).map((limit): Effect => ({ type: 'set-prefix-limit', limit })),
  'set-wireguard-bindings': fc.nat(2).map((count): Effect => ({
    type: 'set-wireguard-bindings',
    bindings: Array.from({ length: count }, (): WireguardBinding => ({
      publicKey: bytes(),
      address,
      charging: UNCHARGED,
    })),
  })),
  'count-legs': id.map((query): Effect => ({ type: 'count-legs', query, legs: [query] })),
  'count-paths': key.map((peer): Effect => ({ type: 'count-paths', peer })),
  pong: fc.constant(1).map((): Effect => ({ type: 'pong', identity: bytes(), token: bytes() })),
  receipts: fc.constant(1).map((): Effect => ({ type: 'receipts', token: bytes(), reports: [] })),
  'signed-receipts': fc
    .constant(1)
    .map((): Effect => ({ type: 'signed-receipts', token: bytes(), receipts: [] })),
  'exit-guests': fc.constant(1).map((): Effect => ({ type: 'exit-guests', guests: [] })),
  'route-guests': fc.constant(1).map((): Effect => ({ type: 'route-guests', guests: [] })),
  'routes-in-use': fc.constant(1).map((): Effect => ({ type: 'routes-in-use', routes: [] })),
  'exit-in-use': fc.constant(1).map((): Effect => ({ type: 'exit-in-use', use: undefined })),
  persist: key.map((name): Effect => ({ type: 'persist', key: name, value: bytes() })),
  notify: key.map((event): Effect => ({
    type: 'notify',
    notice: { level: 'info', event, fields: { event } },
  })),
} satisfies Record<Effect['type'], fc.Arbitrary<Effect>>;

const effects = fc.array(fc.oneof(...Object.values(kinds)), { maxLength: 40 });

/** What a batch holds of an effect: the object itself where it is handed on as it is. */
function itemOf(effect: Effect): unknown {
  switch (effect.type) {
    case 'install-leg':
      return effect.leg;
    case 'set-peer':
    case 'remove-peer':
    case 'handshake':
      return effect.peer;
    case 'set-wireguard-bindings':
      return effect.bindings;
    case 'set-ports':
      return effect.ports;
    case 'set-paths':
      return effect.paths;
    case 'set-shaping':
      return effect.shaping;
    case 'send-probe':
      return effect.probe;
    case 'notify':
      return effect.notice;
    case 'remove-leg':
      return effect.id;
    default:
      return effect;
  }
}

const BATCH_OF: Record<Effect['type'], EffectBatch['type']> = {
  'send-frame': 'send-frames',
  'send-control': 'send-control',
  'set-peer': 'set-peers',
  'set-shaping': 'set-shaping',
  'set-ports': 'set-ports',
  'set-paths': 'set-paths',
  'send-probe': 'send-probes',
  'remove-peer': 'remove-peers',
  handshake: 'handshakes',
  'install-leg': 'install-legs',
  'remove-leg': 'remove-legs',
  'set-limits': 'change-limits',
  'set-account-limit': 'change-limits',
  'reset-account': 'change-limits',
  'set-host-limit': 'change-limits',
  'set-prefix-limit': 'change-limits',
  'set-wireguard-bindings': 'set-wireguard-bindings',
  'count-legs': 'count-legs',
  'count-paths': 'count-paths',
  'exit-guests': 'exit-changes',
  'exit-in-use': 'exit-changes',
  'route-guests': 'exit-changes',
  'routes-in-use': 'exit-changes',
  pong: 'answers',
  receipts: 'answers',
  'signed-receipts': 'answers',
  persist: 'persist',
  notify: 'notices',
};

/** Between two removals, what must not come behind what. */
const ORDER: readonly EffectBatch['type'][] = [
  'change-limits',
  'install-legs',
  'set-peers',
  'set-shaping',
  'set-ports',
  'set-paths',
  'set-wireguard-bindings',
  'exit-changes',
  'handshakes',
  'send-frames',
  'send-probes',
  'send-control',
  'answers',
  'notices',
  'count-legs',
  'count-paths',
];

/** Each says all there is to be. */
const LAST_COUNTS = ['set-wireguard-bindings', 'set-ports'] as const;

const isRemoval = (type: string): boolean => type.startsWith('remove-');

describe('effect plan', () => {
  test('nothing is lost, nothing is done twice, and what is of one kind keeps its order', () => {
    fc.assert(
      fc.property(effects, (given) => {
        const plan = planEffects(given);
        for (const type of new Set(Object.values(BATCH_OF))) {
          if (LAST_COUNTS.some((each) => each === type)) continue;
          const wanted = given.filter((effect) => BATCH_OF[effect.type] === type).map(itemOf);
          const planned = plan
            .filter((batch) => batch.type === type)
            .flatMap(({ items }) => items as unknown[]);
          assert.equal(planned.length, wanted.length);
          for (const [index, item] of planned.entries()) assert.equal(item, wanted[index]);
        }
        assert.ok(plan.every(({ items }) => items.length > 0));
      }),
    );
  });

  for (const type of LAST_COUNTS)
    test(`of ${type} between two removals the last one stands, an empty one too`, () => {
      fc.assert(
        fc.property(effects, (given) => {
          const planned = planEffects(given)
            .filter((batch) => batch.type === type)
            .flatMap(({ items }) => items as unknown[]);
          const wanted: unknown[] = [];
          let last: unknown;
          for (const effect of [...given, { type: 'remove-leg', id: 0 } as const]) {
            if (effect.type === type) last = itemOf(effect);
            else if (isRemoval(effect.type) && last !== undefined) {
              wanted.push(last);
              last = undefined;
            }
          }
          assert.equal(planned.length, wanted.length);
          for (const [index, item] of planned.entries()) assert.equal(item, wanted[index]);
        }),
      );
    });

  test('all that is kept is kept first, in one batch', () => {
    fc.assert(
      fc.property(effects, (given) => {
        const plan = planEffects(given).map(({ type }) => type);
        assert.ok(plan.lastIndexOf('persist') <= 0);
      }),
    );
  });

  test('between removals limits come before legs, legs before peers, and all of them before what is sent', () => {
    fc.assert(
      fc.property(effects, (given) => {
        let before = -1;
        for (const { type } of planEffects(given)) {
          if (type === 'persist') continue;
          if (isRemoval(type)) before = -1;
          else {
            assert.ok(ORDER.indexOf(type) > before, type);
            before = ORDER.indexOf(type);
          }
        }
      }),
    );
  });

  test('no removal is overtaken, neither by what was asked before it nor by what was asked after it', () => {
    fc.assert(
      fc.property(effects, (given) => {
        // For each effect the number of runs of removals behind it, and the same for each item planned.
        const runsBefore = new Map<unknown, number>();
        let runs = 0;
        let removing = false;
        for (const effect of given) {
          if (effect.type === 'persist') continue;
          if (isRemoval(effect.type) && !removing) runs++;
          removing = isRemoval(effect.type);
          const item = itemOf(effect);
          if (typeof item === 'object') runsBefore.set(item, runs);
        }
        runs = 0;
        removing = false;
        for (const { type, items } of planEffects(given)) {
          if (type === 'persist') continue;
          if (isRemoval(type) && !removing) runs++;
          removing = isRemoval(type);
          for (const item of items) if (typeof item === 'object') assert.equal(runsBefore.get(item), runs);
        }
      }),
    );
  });

  test('what one action throws keeps no other from being done', () => {
    fc.assert(
      fc.property(effects, fc.integer({ min: 0, max: 10 }), (given, failing) => {
        const whole = run(given, -1);
        const { calls, failures } = run(given, failing);
        assert.deepEqual(calls, whole.calls);
        assert.equal(failures, failing < whole.attempts ? 1 : 0);
      }),
    );
  });

  test('the paths of a peer are set although another peer’s are refused', () => {
    const set = (peer: string): Effect => ({
      type: 'set-paths',
      paths: { peer, paths: [], ...NO_PATH_TIMES },
    });
    const { calls, failures } = run([set('one'), set('other')], 0);
    assert.deepEqual(calls, ['setPaths', 'setPaths']);
    assert.equal(failures, 1);
  });

  test('legs are counted in their place, and what the count leads to comes after all of the plan', () => {
    const send = (peer: string): Effect => ({ type: 'send-control', peer, payload: bytes() });
    const { calls } = run(
      [{ type: 'count-legs', query: 7, legs: [7] }, { type: 'remove-leg', id: 7 }, send('later')],
      -1,
    );
    assert.deepEqual(calls, ['legCounters', 'removeLegs', 'sendControl', 'counted']);
  });
});

/** Carries effects out on an engine that only writes down; the action number `failing` throws. */
function run(
  given: readonly Effect[],
  failing: number,
): { calls: string[]; attempts: number; failures: number } {
  const calls: string[] = [];
  let attempts = 0;
  let failures = 0;
  const engine: EffectEngine = new Proxy({} as EffectEngine, {
    get: (_target, name) =>
      name === 'paths' || name === 'shaping'
        ? engine
        : () => {
            calls.push(String(name));
            return [];
          },
  });
  const world: EffectWorld = {
    engine,
    write: () => calls.push('write'),
    answer: () => calls.push('answer'),
    notice: () => calls.push('notice'),
    exitChanged: () => calls.push('exitChanged'),
    counted: () => calls.push('counted'),
    pathsCounted: () => calls.push('pathsCounted'),
    attempt: (_what, action) => {
      try {
        action();
        if (attempts++ === failing) throw new Error('refused');
      } catch {
        failures++;
      }
    },
  };
  carryOut(given, world);
  return { calls, attempts, failures };
}
