// Relay link: `omerta://relay/` and bech32m of who a relay is and where. Relays name each other by it
// ([relay] peers). Not a secret.

import { bech32m } from '@scure/base';
import { bootstrapOf, decodeLink, encodedBootstrap, isEncodedBootstrap } from './bootstrap-codec.js';
import { encodeCbor } from './cbor.js';
import { CoreError } from './core-error.js';
import type { Bootstrap } from './network.js';

const SCHEME = 'omerta://relay/';
const PREFIX = 'relay';
const VERSION = 1;
const MAX_BYTES = 512;

export function encodeRelayLink(relay: Bootstrap): string {
  const bytes = encodeCbor([VERSION, encodedBootstrap(relay)]);
  return SCHEME + bech32m.encode(PREFIX, bech32m.toWords(bytes), false);
}

/** @throws CoreError */
export function decodeRelayLink(link: string): Bootstrap {
  const what = 'relay-link';
  const value = decodeLink(link, { what, scheme: SCHEME, prefix: PREFIX, maxBytes: MAX_BYTES });
  const [version, relay] = Array.isArray(value) && value.length === 2 ? (value as unknown[]) : [];
  if (version !== VERSION || !isEncodedBootstrap(relay)) throw new CoreError('relay-link-version');
  return bootstrapOf(relay);
}
