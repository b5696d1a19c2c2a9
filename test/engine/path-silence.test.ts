import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import type { PathTimes, PeerPath } from '../../ts/contract/path-control.js';
import { PathSet } from '../../ts/engine/wasm/path-set.js';

interface Golden {
  readonly name: string;
  readonly times: PathTimes;
  /** When the active path is to be taken for silent after each; null: not, as things stand. */
  readonly steps: readonly (readonly [at: number, does: string, silentAt: number | null])[];
}

/** native/test/path_silence_test.cc runs the same. */
const GOLDEN = JSON.parse(readFileSync('test/golden/path-silence.json', 'utf8')) as readonly Golden[];
const BOTH = [1, 2].map((id): PeerPath => ({ id, remote: { leg: id }, local: undefined }));

describe('a path', () => {
  for (const { name, times, steps } of GOLDEN)
    test(`falls silent as the native engine has it: ${name}`, () => {
      const set = new PathSet(0);
      let paths = BOTH;
      set.set({ ...times, paths });
      for (const [now, does, silentAt] of steps) {
        assert.ok(set.active);
        if (does === 'sends') set.dataSent(now);
        else if (does === 'answered') assert.equal(set.heard(set.active, now), false);
        else set.set({ ...times, paths: (paths = paths.toReversed()) });
        assert.equal(set.deadline() ?? null, silentAt, `at ${now}, ${does}`);
      }
    });

  test('is found silent while data flows, and heard again', () => {
    const set = new PathSet(0);
    const times = { silentAfterMs: 140, leastRoundTripMs: 80, silentBetweenReportsMs: 50, reportEveryMs: 30 };
    set.set({ ...times, paths: BOTH });
    const { active } = set;
    assert.ok(active);
    for (let at = 0; at < 650; at += 5) {
      set.dataSent(at);
      if (at >= 90 && at <= 600 && at % 30 === 0) set.heard(active, at);
    }
    assert.equal(set.deadline(), 650);
    assert.equal(set.takeSilence(649), undefined);
    assert.equal(set.takeSilence(650), active);
    assert.equal(set.deadline(), undefined);
    assert.equal(set.heard(active, 660), true);
    assert.equal(set.deadline(), 710, 'what is under way is reported on as before');
  });
});
