// What `npm run lab -- failover` makes of its runs; they themselves take a quiet machine.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { failoverMet, failoverTable, type FailoverResult } from '../../ts/lab/failover.js';

const result = (name: FailoverResult['name'], ...gaps: readonly (number | undefined)[]): FailoverResult => ({
  name,
  title: name,
  runs: gaps.map((gapMs) => ({ gapMs, lost: 8 })),
});

describe('the report of failover', () => {
  it('is met by a median below 150 ms and a 99th percentile below 400 ms, of Omerta alone', () => {
    assert.equal(failoverMet([result('omerta', 149, 100, 399), result('nebula', undefined)]), true);
    assert.equal(failoverMet([result('omerta', 150, 150, 100)]), false);
    assert.equal(failoverMet([result('omerta', 100, 100, 400)]), false);
    assert.equal(failoverMet([result('omerta', 100, 100, undefined)]), false);
  });

  it('says of whom nothing came back that it did not', () => {
    const [, ours, theirs] = failoverTable([
      result('omerta', 90, 80, 110),
      result('nebula', undefined, undefined),
    ]).split('\n');
    assert.match(ours ?? '', /^omerta +3 +90 ms +110 ms +110 ms +8 \/ 8$/);
    assert.match(theirs ?? '', /^nebula +2 +over 30\.00 s/);
  });
});
