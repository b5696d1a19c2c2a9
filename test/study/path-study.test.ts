import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathChart } from '../../ts/study/path-chart.js';
import { reportPaths } from '../../ts/study/path-report.js';
import { FAULT_NAMES, studyPaths, type PathStudy } from '../../ts/study/path-study.js';

const study = (): PathStudy =>
  studyPaths({
    firstSeed: 3,
    runs: 2,
    faultRuns: 1,
    only: { pairs: [['port-R', 'addr-R']], faults: FAULT_NAMES, idle: true },
    say: () => undefined,
  });

test('a study of paths runs each scenario as often as it is told, and says the same each time', () => {
  const first = study();
  assert.deepEqual(study(), first);
  assert.equal(first.contacts[0]?.runs.length, 2);
  assert.deepEqual(
    first.faults.map(({ name, runs }) => [name, runs.length]),
    FAULT_NAMES.map((name) => [name, 1]),
  );
  for (const { directMs, punchMs, lost, pings } of first.contacts[0].runs) {
    assert.ok(directMs !== undefined && punchMs !== undefined && punchMs < directMs);
    assert.ok(pings > 20);
    assert.equal(lost, 0);
  }
  for (const { name, runs } of first.faults)
    for (const { backMs, lost } of runs) {
      assert.ok(backMs !== undefined, name);
      assert.equal(lost === 0, name === 'path back', `${name}: ${lost} lost`);
    }
  assert.ok(first.idle.every(({ packetsIn20s, stayedDirect }) => packetsIn20s < 2 && stayedDirect));
  const { text } = reportPaths(first);
  assert.match(text, /port-R → addr-R {2}2 of 2/);
  assert.match(text, /NAT reboot/);
  const dots = pathChart(first).match(/<circle/g)?.length;
  assert.equal(dots, 2 + FAULT_NAMES.length);
});

test('a row that is not as promised makes a report one that is not met', () => {
  const run = { relayRttMs: 100, firstPacketMs: 250, directMs: 400, punchMs: 100, pings: 50, lost: 0 };
  const of = (change: Partial<typeof run>): PathStudy => ({
    firstSeed: 1,
    contacts: [{ from: 'full', to: 'full', runs: [run, { ...run, ...change }] }],
    faults: [],
    idle: [],
  });
  assert.ok(reportPaths(of({})).met);
  for (const change of [{ lost: 1 }, { directMs: 1001 }, { punchMs: 501 }, { firstPacketMs: 301 }])
    assert.ok(!reportPaths(of(change)).met, JSON.stringify(change));
});
