// Invites, relay links and peer ids as somebody pastes them. Input: which of them, then the text. One that is
// taken is written the same again; one that is not is refused by a code.

import assert from 'node:assert/strict';
import { bech32m } from '@scure/base';
import { CORE_ERRORS, CoreError } from '../../../ts/core/protocol/core-error.js';
import { decodeInvite, encodeInvite } from '../../../ts/core/protocol/invite.js';
import { decodePeerId, encodePeerId } from '../../../ts/core/protocol/peer-id.js';
import { decodeRelayLink, encodeRelayLink } from '../../../ts/core/protocol/relay-link.js';
import { concat, utf8 } from '../../../ts/wire/bytes.js';
import { address, bytes } from '../../core/fixtures.js';
import { mutateCbor } from '../harness/cbor-mutation.js';
import { node, relay } from '../harness/messages.js';
import type { FuzzTarget } from '../harness/target.js';

const bootstrap = {
  identity: relay.identity,
  sessionKey: relay.sessionKey,
  addresses: [address('203.0.113.7:51900'), address('[2001:db8::7]:1')],
};
const network = { id: bytes(16), name: 'home', key: bytes(32), bootstraps: [bootstrap] };

/** What may stand in and around a link that was copied, and no other character. */
const WRAPPING = /[\s\u200b-\u200d\u2060\ufeff"'`<>\u201c-\u201f\u2018-\u201b\u00ab\u00bb]/g;

interface Kind {
  readonly scheme: string;
  readonly prefix: string;
  readonly sample: string;
  readonly again: (text: string) => string;
}
const KINDS: readonly Kind[] = [
  {
    scheme: 'omerta://join/',
    prefix: 'join',
    sample: encodeInvite(network),
    again: (text) => encodeInvite(decodeInvite(text)),
  },
  {
    scheme: 'omerta://relay/',
    prefix: 'relay',
    sample: encodeRelayLink(bootstrap),
    again: (text) => encodeRelayLink(decodeRelayLink(text)),
  },
  {
    scheme: '',
    prefix: 'omerta',
    sample: encodePeerId(node.identity),
    again: (text) => encodePeerId(decodePeerId(text)),
  },
];

function kindOf(input: Uint8Array): { kind: Kind; number: number; text: string } {
  const number = (input[0] ?? 0) % KINDS.length;
  const kind = KINDS[number];
  assert.ok(kind !== undefined);
  return { kind, number, text: Buffer.from(input.subarray(1)).toString('utf8') };
}
const tagged = (number: number, text: string): Uint8Array => concat(Uint8Array.of(number), utf8(text));

const target: FuzzTarget = {
  seeds: () => KINDS.map(({ sample }, number) => tagged(number, sample)),
  dictionary: ['omerta://join/', 'omerta://relay/', 'omerta1', 'join1', 'OMERTA', ' ', '\n'],
  mutate(input, random) {
    const { kind, number, text } = kindOf(input);
    const decoded = bech32m.decodeUnsafe(text.trim().slice(kind.scheme.length), false);
    const held = decoded && bech32m.fromWordsUnsafe(decoded.words);
    if (held === undefined) return undefined;
    const changed =
      kind.scheme === ''
        ? held.slice(0, Math.floor(random() * 40))
        : mutateCbor(new Uint8Array(held), random);
    if (changed === undefined) return undefined;
    const prefix = random() < 0.05 ? 'other' : kind.prefix;
    return tagged(number, kind.scheme + bech32m.encode(prefix, bech32m.toWords(changed), false));
  },
  run(input) {
    if (input.length !== 32) assert.throws(() => encodePeerId(input), RangeError);
    const { kind, text } = kindOf(input);
    let again: string;
    try {
      again = kind.again(text);
    } catch (error) {
      // A code alone: what was given is a secret, and cannot be in it.
      assert.ok(error instanceof CoreError && CORE_ERRORS.includes(error.code), String(error));
      assert.equal(error.message, error.code);
      return;
    }
    const meant = kind.scheme === '' ? text.trim() : text.replace(WRAPPING, '');
    assert.equal(again, meant.toLowerCase());
  },
};
export default target;
