// Carries a change of limits out on an engine.

import type { LimitControl, LimitEffect } from '../../contract/limit-control.js';

/** Carries a change out. */
export function applyLimit(engine: LimitControl, effect: LimitEffect): void {
  switch (effect.type) {
    case 'set-limits':
      engine.setLimits(effect.index, effect.limits);
      break;
    case 'set-account-limit':
      engine.setAccountLimit(effect.kind, effect.index, effect.limit);
      break;
    case 'reset-account':
      engine.resetAccount(effect.kind, effect.index);
      break;
    case 'set-host-limit':
      engine.setHostLimit(effect.limit);
      break;
    case 'set-prefix-limit':
      engine.setPrefixLimit(effect.limit);
  }
}
