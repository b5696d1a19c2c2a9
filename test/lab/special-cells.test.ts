// Rows of the matrix that no kind of NAT describes; the others are in udp-blocked.test.ts and port-mapping.test.ts.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { measureSpecial, SPECIAL_CELLS } from '../../ts/lab/special-cells.js';

const unavailable = labUnavailable(['ping']);
const TESTED = [
  'same-nat',
  'same-nat-apart',
  'same-nat-hairpin',
  'answers-alone-v4',
  'answers-alone-v6',
  'one-port-v4',
  'one-port-v6',
  'one-port-out-v4',
  'one-port-out-v6',
  'own-lan-v4',
  'own-lan-v6',
  'own-lan-alone-v6',
  'v4-and-v6',
  'double-nat',
  'one-carrier',
  'one-carrier-hairpin',
];

describe('two members', { skip: unavailable ?? false }, () => {
  for (const name of TESTED) {
    const cell = SPECIAL_CELLS.find((each) => each.name === name);
    assert.ok(cell !== undefined, name);
    it(`of which one has ${cell.from} and the other ${cell.to} take the way these allow, ${cell.expected}, and lose nothing`, async () => {
      const { way, lost } = await measureSpecial(cell);
      assert.deepEqual([way, lost], [cell.expected, 0]);
    });
  }
});
