// A bootstrap in links people copy: `[identity, session key, [[ip, port], …]]`.

import { bech32m } from '@scure/base';
import type { SocketAddress } from '../../wire/socket-address.js';
import { decodeCbor, isArrayOf, isBytes, isInteger } from './cbor.js';
import { CoreError } from './core-error.js';
import type { Bootstrap } from './network.js';

const MAX_ADDRESSES = 8;

type EncodedAddress = [Uint8Array, number];
export type EncodedBootstrap = [Uint8Array, Uint8Array, EncodedAddress[]];

export function encodedBootstrap({ identity, sessionKey, addresses }: Bootstrap): EncodedBootstrap {
  return [identity, sessionKey, addresses.map(({ ip, port }): EncodedAddress => [ip, port])];
}

function isAddress(value: unknown): value is EncodedAddress {
  return Array.isArray(value) && value.length === 2 && isBytes(value[0], 16) && isInteger(value[1], 1, 65535);
}

/** Whether this is a bootstrap with 1–8 addresses. */
export function isEncodedBootstrap(value: unknown): value is EncodedBootstrap {
  return (
    Array.isArray(value) &&
    value.length === 3 &&
    isBytes(value[0], 32) &&
    isBytes(value[1], 32) &&
    isArrayOf(value[2], MAX_ADDRESSES, isAddress) &&
    value[2].length > 0
  );
}

export function bootstrapOf([identity, sessionKey, addresses]: EncodedBootstrap): Bootstrap {
  return { identity, sessionKey, addresses: addresses.map(([ip, port]): SocketAddress => ({ ip, port })) };
}

/** What mail, chat and shells put into or around a link: white space, quotation marks, angle brackets. */
const WRAPPING = /[\s\u200b-\u200d\u2060\ufeff"'`<>\u201c-\u201f\u2018-\u201b\u00ab\u00bb]/g;

/**
 * The CBOR value in `scheme` ‖ bech32m with the human-readable part `prefix`.
 * @throws CoreError `WHAT-scheme` or `WHAT-damaged`.
 */
export function decodeLink(
  link: string,
  {
    what,
    scheme,
    prefix,
    maxBytes,
  }: { what: 'invite' | 'relay-link'; scheme: string; prefix: string; maxBytes: number },
): unknown {
  const text = link.replace(WRAPPING, '');
  if (!text.toLowerCase().startsWith(scheme)) throw new CoreError(`${what}-scheme`);
  const decoded = bech32m.decodeUnsafe(text.slice(scheme.length), false);
  if (decoded?.prefix !== prefix) throw new CoreError(`${what}-damaged`);
  const bytes = bech32m.fromWordsUnsafe(decoded.words);
  return bytes === undefined ? undefined : decodeCbor(bytes, maxBytes);
}
