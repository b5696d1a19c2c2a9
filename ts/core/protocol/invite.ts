// Invite link: `omerta://join/` and bech32m of a network. Whoever has the link is a member.

import { bech32m } from '@scure/base';
import { bootstrapOf, decodeLink, encodedBootstrap, isEncodedBootstrap } from './bootstrap-codec.js';
import { encodeCbor, isArrayOf, isBytes } from './cbor.js';
import { CoreError } from './core-error.js';
import { isName, type Network } from './network.js';

const SCHEME = 'omerta://join/';
const PREFIX = 'join';
const VERSION = 1;
const MAX_BOOTSTRAPS = 8;
/** Eight bootstraps with eight addresses each fit. */
const MAX_BYTES = 4096;

/** The invite link of a network. It is a secret: never log it. */
export function encodeInvite(network: Network): string {
  const bytes = encodeCbor([
    VERSION,
    network.id,
    network.name,
    network.key,
    network.bootstraps.map(encodedBootstrap),
  ]);
  return SCHEME + bech32m.encode(PREFIX, bech32m.toWords(bytes), false);
}

/**
 * The network an invite link names.
 * @throws CoreError
 */
export function decodeInvite(link: string): Network {
  const what = 'invite';
  const network = networkOf(decodeLink(link, { what, scheme: SCHEME, prefix: PREFIX, maxBytes: MAX_BYTES }));
  if (network === undefined) throw new CoreError('invite-version');
  return network;
}

function networkOf(value: unknown): Network | undefined {
  if (!Array.isArray(value) || value.length !== 5) return undefined;
  const [version, id, name, key, bootstraps] = value as unknown[];
  if (
    version !== VERSION ||
    !isBytes(id, 16) ||
    typeof name !== 'string' ||
    !isName(name) ||
    !isBytes(key, 32)
  )
    return undefined;
  if (!isArrayOf(bootstraps, MAX_BOOTSTRAPS, isEncodedBootstrap)) return undefined;
  return { id, name, key, bootstraps: bootstraps.map(bootstrapOf) };
}
