// Which outer port a NAT gives (RFC 4787, section 4.2): the inner one, the next in line, or any.

import { portStep } from '../path/port-prediction.js';
import type { Dependence, Finding, PortAllocation } from '../runtime/nat-status.js';
import { dependsOnAddress } from './mapping-behaviour.js';
import type { Observation } from './observation.js';

/** Whether the outer port is the inner one; a NAT may do otherwise where somebody else has it already. */
export function preservesPort(observations: readonly Observation[], localPort: number): Finding<boolean> {
  if (observations.length === 0) return { unknown: 'not-observed' };
  return { value: observations.some(({ seen }) => seen.port === localPort) };
}

export function portAllocationOf(
  observations: readonly Observation[],
  localPort: number,
  mapping: Finding<Dependence>,
): Finding<PortAllocation> {
  if (observations.length === 0) return { unknown: 'not-observed' };
  if (observations.some(({ seen }) => seen.port === localPort)) return { value: 'preserving' };
  const depends = dependsOnAddress(mapping);
  if (depends === undefined) return { unknown: 'one-observer' };
  if (!depends) return { unknown: 'one-mapping' };
  return {
    value: portStep(observations.map(({ seen }) => seen)) === undefined ? 'random' : 'sequential',
  };
}
