// What is typed one after the other and kept: it can always be read again, and what would be too much is refused.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MAX_ACCEPTED } from '../../ts/core/exit/route-client.js';
import { encodePeerId } from '../../ts/core/protocol/peer-id.js';
import {
  loadExitSettings,
  MAX_GRANTS,
  saveExitSettings,
  withGrant,
  type ExitGrantSetting,
} from '../../ts/daemon/state/exit-settings.js';
import {
  acceptBeside,
  loadRouteSettings,
  saveRouteSettings,
  type RouteAcceptSettings,
} from '../../ts/daemon/state/route-settings.js';
import { temporaryState } from './temporary.js';

const HOUR = 3_600_000;
const NOW = 1_800_000_000_000;

const grantOf = (index: number, until?: number): ExitGrantSetting => ({
  subject: { key: index.toString(16).padStart(64, '0') },
  ...(until !== undefined && { until }),
});

describe('rights that are granted one after the other', () => {
  it('forget the oldest that ended when they become too many, and are read again', (t) => {
    let grants: ExitGrantSetting[] = [];
    // As for machines that are rented by the hour.
    for (let each = 0; each < MAX_GRANTS + 100; each++)
      grants = withGrant(grants, grantOf(each, NOW + each + HOUR), NOW + each + 2 * HOUR);
    assert.equal(grants.length, MAX_GRANTS);
    assert.deepEqual(grants[0], grantOf(100, NOW + 100 + HOUR));
    const state = temporaryState(t);
    state.prepare();
    saveExitSettings(state, { grants });
    assert.deepEqual(loadExitSettings(state).grants, grants);
  });

  it('are refused when all of so many hold, and one is replaced by another for the same', () => {
    const grants = Array.from({ length: MAX_GRANTS }, (_, index) => grantOf(index));
    assert.throws(() => withGrant(grants, grantOf(MAX_GRANTS), NOW), /exit grant: 1024 rights .*exit revoke/);
    assert.equal(withGrant(grants, grantOf(7, NOW + HOUR), NOW).length, MAX_GRANTS);
  });
});

it('routes that are accepted one after the other are refused when they become too many', (t) => {
  const from = encodePeerId(new Uint8Array(32).fill(7));
  const route = (index: number): RouteAcceptSettings => [
    { prefix: `10.${index >> 8}.${index & 255}.0/24`, from },
  ];
  let accept: RouteAcceptSettings = [];
  for (let each = 0; each < MAX_ACCEPTED; each++) accept = acceptBeside(accept, route(each));
  assert.throws(
    () => acceptBeside(accept, route(MAX_ACCEPTED)),
    /accept: it would be 257 .*omerta route off/,
  );
  assert.equal(acceptBeside(accept, route(5)).length, MAX_ACCEPTED);
  const state = temporaryState(t);
  state.prepare();
  saveRouteSettings(state, { accept });
  assert.deepEqual(loadRouteSettings(state).accept, accept);
});
