import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CORE_ERRORS, CoreError } from '../../ts/core/protocol/core-error.js';
import { REFUSALS } from '../../ts/core/protocol/refusal.js';
import { UPLINK_ERRORS } from '../../ts/core/runtime/mesh-status.js';
import {
  DEPENDENCES,
  NAT_UNKNOWNS,
  PORT_ALLOCATIONS,
  TRANSLATIONS,
  type NatStatus,
} from '../../ts/core/runtime/nat-status.js';
import { wordNat, wordNatUnknown } from '../../ts/status/model/nat-wording.js';
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

/** Of one address, of which nothing but this is known. */
function natStatus(of: Partial<NatStatus>): NatStatus {
  const unknown = { unknown: 'not-observed' } as const;
  return {
    family: 'ipv4',
    interface: 'eth0',
    local: '10.0.0.2:51820',
    seen: [],
    observers: 0,
    translation: unknown,
    mapping: unknown,
    preservesPort: unknown,
    ports: unknown,
    filtering: unknown,
    hairpinning: unknown,
    lifetime: { atLeastMs: undefined, belowMs: undefined },
    ...of,
  };
}

describe('every code of the core has words', () => {
  it('of a NAT, whatever is known of it: one sentence, and the port to open where that helps', () => {
    const mappings: NatStatus['mapping'][] = [
      ...DEPENDENCES.map((value) => ({ value })),
      ...NAT_UNKNOWNS.map((unknown) => ({ unknown })),
    ];
    const ports: NatStatus['ports'][] = PORT_ALLOCATIONS.map((value) => ({ value }));
    for (const value of TRANSLATIONS)
      for (const mapping of mappings)
        for (const filtering of mappings)
          for (const allocation of [...ports, { unknown: 'one-observer' } as const]) {
            const report = natStatus({ translation: { value }, mapping, filtering, ports: allocation });
            const { what, next } = wordNat(report);
            assert.match(what, /^[^\n.]{20,}[^.\n]$/);
            if (next !== '') assert.match(next, /^[A-Z][^\n]* 51820 [^\n]*[^.]$/);
          }
    const open = { value: 'endpoint-independent' } as const;
    const best = { translation: { value: 'none' }, mapping: open, filtering: open } as const;
    assert.equal(wordNat(natStatus(best)).next, '', 'nothing is better than that');
    for (const unknown of NAT_UNKNOWNS) {
      assert.ok(wordNatUnknown(unknown).length > 20);
      assert.match(wordNat(natStatus({ translation: { unknown } })).what, /^not known: /);
    }
  });

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
