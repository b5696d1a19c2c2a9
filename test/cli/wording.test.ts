import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CORE_ERRORS, CoreError } from '../../ts/core/protocol/core-error.js';
import { REFUSALS } from '../../ts/core/protocol/control-message.js';
import { UPLINK_ERRORS } from '../../ts/core/runtime/mesh-status.js';
import {
  wordCircuitFailure,
  wordCoreError,
  wordNotice,
  wordRefusal,
  wordUplinkError,
  type Wording,
} from '../../ts/status/model/wording.js';

/** Two parts of a line: neither is empty, ends a sentence, breaks the line, or is just the code. */
function assertWorded(code: string, worded: Wording | undefined): void {
  for (const text of [worded?.what, worded?.next]) assert.match(text ?? '', /^[^\n]{4,}[^.\n]$/, code);
  assert.notEqual(worded?.what, code);
  assert.match(worded?.next ?? '', /^[A-Z]/, code);
}

describe('every code of the core has words', () => {
  it('what it throws', () => {
    for (const code of CORE_ERRORS) assertWorded(code, wordCoreError(new CoreError(code)));
    assert.equal(wordCoreError(new Error('unknown-peer')), undefined);
  });

  it('why a bootstrap does not hold our registration', () => {
    for (const code of UPLINK_ERRORS) assertWorded(code, wordUplinkError(code));
  });

  it('refusals, and why there is no circuit', () => {
    for (const code of REFUSALS) assertWorded(code, wordRefusal(code));
    for (const code of ['unanswered', ...REFUSALS] as const) assertWorded(code, wordCircuitFailure(code));
  });

  it('notices that carry one have it in the log', () => {
    for (const error of UPLINK_ERRORS) {
      const { meaning = '', remedy = '' } = wordNotice('bootstrap-unreachable', { error });
      assertWorded(error, { what: meaning, next: remedy });
    }
    assert.match(wordNotice('circuit-refused', { reason: 'capacity' }).remedy ?? '', /omerta status/);
    assert.match(wordNotice('interface-gone', {}).remedy ?? '', /omerta down, then omerta up/);
    assert.match(wordNotice('identity-twice', {}).remedy ?? '', /omerta keygen/);
    assert.deepEqual(wordNotice('accelerator-demoted', { reason: 'losses' }), {});
  });
});
