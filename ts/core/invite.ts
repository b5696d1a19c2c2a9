// Invite link: `omerta://join/` and bech32m of a network. Whoever has the link is a member.

import { bech32m } from '@scure/base';
import type { SocketAddress } from '../wire/socket-address.js';
import { decodeCbor, encodeCbor, isArrayOf, isBytes, isInteger } from './cbor.js';
import { isName, type Bootstrap, type Network } from './network.js';

const SCHEME = 'omerta://join/';
const PREFIX = 'join';
const VERSION = 1;
const MAX_BOOTSTRAPS = 8;
const MAX_ADDRESSES = 8;
/** Eight bootstraps with eight addresses each fit. */
const MAX_BYTES = 4096;

/** The invite link of a network. It is a secret: never log it. */
export function encodeInvite(network: Network): string {
  const bytes = encodeCbor([
    VERSION,
    network.id,
    network.name,
    network.key,
    network.bootstraps.map(({ identity, sessionKey, addresses }) => [
      identity,
      sessionKey,
      addresses.map(({ ip, port }) => [ip, port]),
    ]),
  ]);
  return SCHEME + bech32m.encode(PREFIX, bech32m.toWords(bytes), false);
}

/**
 * The network an invite link names.
 * @throws Error that says what is wrong with the link; the link itself is never repeated.
 */
export function decodeInvite(link: string): Network {
  const text = link.trim();
  if (!text.toLowerCase().startsWith(SCHEME))
    throw new Error(`invite link: does not start with "${SCHEME}"; copy it whole`);
  const decoded = bech32m.decodeUnsafe(text.slice(SCHEME.length), false);
  if (decoded?.prefix !== PREFIX)
    throw new Error('invite link: cut short or mistyped (its checksum is wrong); copy it again');
  const bytes = bech32m.fromWordsUnsafe(decoded.words);
  const network = bytes === undefined ? undefined : networkOf(decodeCbor(bytes, MAX_BYTES));
  if (network === undefined)
    throw new Error('invite link: made by another version of Omerta; ask for one made by this version');
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
  if (!isArrayOf(bootstraps, MAX_BOOTSTRAPS, isBootstrap)) return undefined;
  return { id, name, key, bootstraps: bootstraps.map(bootstrapOf) };
}

type EncodedAddress = [Uint8Array, number];
type EncodedBootstrap = [Uint8Array, Uint8Array, EncodedAddress[]];

function isAddress(value: unknown): value is EncodedAddress {
  return Array.isArray(value) && value.length === 2 && isBytes(value[0], 16) && isInteger(value[1], 1, 65535);
}

function isBootstrap(value: unknown): value is EncodedBootstrap {
  return (
    Array.isArray(value) &&
    value.length === 3 &&
    isBytes(value[0], 32) &&
    isBytes(value[1], 32) &&
    isArrayOf(value[2], MAX_ADDRESSES, isAddress) &&
    value[2].length > 0
  );
}

function bootstrapOf([identity, sessionKey, addresses]: EncodedBootstrap): Bootstrap {
  return { identity, sessionKey, addresses: addresses.map(([ip, port]): SocketAddress => ({ ip, port })) };
}
