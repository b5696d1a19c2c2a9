import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CERTAIN_SAMPLES, ratioOf, verdictOf, type Verdict } from '../../bench/compare/bootstrap.js';
import { seriesOf } from '../../bench/compare/series.js';
import { generator } from '../../ts/lab/seeded-random.js';

const program = fileURLToPath(new URL('../../bench/compare/main.js', import.meta.url));

/** Rounds of about `centre`, normally distributed (Box–Muller). */
function rounds(random: () => number, centre: number, deviation: number): number[] {
  return Array.from({ length: CERTAIN_SAMPLES }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return centre * (1 + deviation * normal);
  });
}

/** How often of 300 comparisons each is said. */
function said(change: number, deviation: number, paired: boolean): Record<Verdict, number> {
  const counts: Record<Verdict, number> = { differs: 0, 'may-differ': 0, same: 0, 'too-noisy': 0 };
  const random = generator(7);
  for (let i = 0; i < 300; i++) {
    const ratio = ratioOf(rounds(random, 100, deviation), rounds(random, 100 * change, deviation), paired);
    assert.ok(ratio);
    counts[verdictOf(ratio)]++;
  }
  return counts;
}

describe('the series of a report', () => {
  it('are named by where they stand, whatever the benchmark', () => {
    const report = {
      rounds: 2,
      skipped: [],
      scenarios: [
        {
          id: 'tcp',
          results: {
            own: [
              { bits: 1, ns: 4 },
              { bits: 2, ns: 5 },
            ],
            other: [],
          },
        },
      ],
    };
    assert.deepEqual(
      [...seriesOf(JSON.stringify(report))],
      [
        ['scenarios · tcp · results · own · bits', [1, 2]],
        ['scenarios · tcp · results · own · ns', [4, 5]],
      ],
    );
    const list = [{ suite: 'AES', size: 64, seal: { aead: [7, 8, 9] } }];
    assert.deepEqual([...seriesOf(JSON.stringify(list))], [['AES 64 · seal · aead', [7, 8, 9]]]);
  });
});

describe('two sets of samples', () => {
  for (const paired of [false, true])
    describe(paired ? 'taken in turn' : 'taken apart', () => {
      it('that do not differ are hardly ever said to, for certain', () => {
        const { differs, 'too-noisy': noisy } = said(1, 0.1, paired);
        assert.ok(differs <= 6, `${differs} of 300`);
        assert.ok(noisy > 150, `${noisy} of 300`);
      });

      it('that differ by much more than they vary are said to, for certain', () => {
        assert.equal(said(1.2, 0.02, paired).differs, 300);
        assert.equal(said(0.8, 0.02, paired).differs, 300);
      });

      it('that hardly vary and hardly differ are called the same', () => {
        const { same } = said(1.005, 0.002, paired);
        assert.equal(same, 300);
      });
    });

  it('are never certain when there are few', () => {
    const verdict = (samples: number): Verdict | undefined => {
      const ratio = ratioOf(Array<number>(samples).fill(1), Array<number>(samples).fill(2), true);
      return ratio && verdictOf(ratio);
    };
    assert.deepEqual([2, 4, 5, 7, 8].map(verdict), [
      'too-noisy',
      'too-noisy',
      'may-differ',
      'may-differ',
      'differs',
    ]);
  });

  it('are compared the same every time', () => {
    const [before, after] = [rounds(generator(1), 1, 0.1), rounds(generator(2), 1, 0.1)];
    assert.deepEqual(ratioOf(before, after, true), ratioOf(before, after, true));
  });

  it('are not compared where one is missing or zero', () => {
    assert.equal(ratioOf([], [1], false), undefined);
    assert.equal(ratioOf([0, 1], [1, 2], false), undefined);
  });
});

describe('compare', () => {
  it('prints what differs, and refuses what is no report', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'omerta-compare-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const write = (name: string, text: string): string => {
      const file = join(folder, name);
      writeFileSync(file, text);
      return file;
    };
    const report = (ns: number): string =>
      JSON.stringify({ fast: Array.from({ length: 9 }, (_, i) => ns + i / 100), constant: Array(9).fill(5) });
    const run = (...files: readonly string[]): ReturnType<typeof spawnSync> => {
      const [before = '', after = ''] = files;
      return spawnSync(process.execPath, [program, '--before', before, '--after', after], {
        encoding: 'utf8',
      });
    };
    const [before, after] = [write('a.json', report(100)), write('b.json', report(150))];
    const { stdout, status } = run(before, after);
    assert.equal(status, 0);
    assert.match(String(stdout), /^differs for certain \(1 of 2\)\n.*\nfast +100 +150 +\+50\.0 %/m);
    assert.match(String(stdout), /^does not differ .*\n.*\nconstant/m);
    const bad = run(before, write('c.txt', 'ns per frame'));
    assert.equal(bad.status, 2);
    assert.match(String(bad.stderr), /c\.txt: .*JSON[\s\S]*--json > FILE/);
    assert.equal(run(before, write('d.json', '{}')).status, 2);
    assert.equal(run(before, join(folder, 'none')).status, 2);
  });
});
