// What simulated worlds have in common.

import type { Bootstrap } from '../../core/protocol/network.js';
import type { RelayPolicy } from '../../core/relay/relay-policy.js';
import { parseIp } from '../../wire/socket-address.js';
import type { SimNode } from './simulation.js';

export const OPEN_POLICY: RelayPolicy = { serve: 'any', allow: [], deny: [], limits: {} };

/** An address that is written in the program. @throws Error when it is none */
export function ip(text: string): Uint8Array {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`not an address: ${text}`);
  return parsed;
}

/** How members reach this node as their bootstrap. */
export function bootstrapOf(node: SimNode): Bootstrap {
  return { identity: node.identity, sessionKey: node.sessionKey, addresses: [node.address] };
}
