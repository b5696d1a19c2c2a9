import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ReportLateness } from '../../ts/core/path/report-lateness.js';

describe('how late reports may come', () => {
  test('is as late as one came, and a little more, and half of it after a while', () => {
    const lateness = new ReportLateness();
    assert.equal(lateness.allowedMs(0), 0);
    lateness.silent(1000);
    lateness.heard(1040);
    assert.equal(lateness.allowedMs(1040), 70);
    assert.equal(lateness.allowedMs(121_040), 35);
    lateness.silent(121_040);
    lateness.heard(121_050);
    assert.equal(lateness.allowedMs(121_050).toFixed(0), '75', 'the engine had waited for what was allowed');
  });

  test('is not learned of a path that was dead, nor without a silence, and has a bound', () => {
    const lateness = new ReportLateness();
    lateness.silent(0);
    lateness.heard(5000);
    lateness.heard(5010);
    assert.equal(lateness.allowedMs(5010), 0);
    for (let at = 10_000; at < 11_000; at += 200) {
      lateness.silent(at);
      lateness.heard(at + 150);
    }
    assert.equal(lateness.allowedMs(10_950), 200);
  });
});
