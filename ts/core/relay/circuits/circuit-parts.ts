// What the parts of the circuits share.

import type { AnswerTable } from '../../runtime/request-table.js';
import type { RelayClients } from '../relay-clients.js';
import type { RelayParts } from '../relay-host.js';
import type { CircuitTable } from './circuit-table.js';
import type { RelayConsent } from './relay-consent.js';

export interface CircuitParts extends RelayParts {
  readonly clients: RelayClients;
  readonly consent: RelayConsent;
  readonly table: CircuitTable;
  /** What ends were answered, so that a repeated request is carried out once. */
  readonly answers: AnswerTable;
}
