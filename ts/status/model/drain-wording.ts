// What a relay's drain has come to, in words.

import type { DrainStatus } from '../../core/runtime/mesh-status.js';
import { formatDuration } from '../../host/units.js';

const count = (number: number, one: string): string => `${number} ${one}${number === 1 ? '' : 's'}`;

export function describeDrain({ clients, staying, circuits, endsInSeconds, done }: DrainStatus): string {
  const left =
    clients === 0 && circuits === 0
      ? 'nobody is left'
      : `${count(clients, 'client')} and ${count(circuits, 'circuit')} left`;
  const without = staying === 0 ? '' : ` (${staying} without another relay)`;
  if (done) return `drained: ${left}${without}`;
  return `draining: ${left}${without}, for ${formatDuration(endsInSeconds)} at most`;
}
