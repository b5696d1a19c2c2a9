// The [consent] section as the core takes it: the callers relays need not ask this node about.

import type { Network } from '../../core/protocol/network.js';
import type { Consent } from '../../core/path/own-policy.js';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import type { Config } from './config.js';
import { parseUntil } from './config-rules.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';

/** Undefined when nobody is accepted without being asked for. */
export function nodeConsent({ consent }: Config): Consent | undefined {
  const { networks, identities, until } = consent;
  if (networks !== 'own' && networks.length + identities.length === 0) return undefined;
  return {
    networks,
    identities: identities.map(decodePeerId),
    until: until === undefined ? undefined : parseUntil(until),
  };
}

/** @throws OperatorError naming a network that is accepted and was never joined. */
export function requireJoined({ consent }: Config, joined: readonly Network[]): void {
  if (consent.networks === 'own') return;
  const names = joined.map(({ name }) => name);
  const unknown = consent.networks.find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new OperatorError(
    ExitCode.usage,
    'consent',
    `"${unknown}" is not a network this machine has joined (${names.join(', ') || 'it has none'})`,
    'Correct networks under [consent] or the option --consent, or type: omerta network join LINK',
  );
}
