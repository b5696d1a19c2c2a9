import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fromHex, toHex } from '../../ts/wire/bytes.js';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import { decodeMessage, type MessageOf } from '../../ts/core/protocol/control-message.js';
import { RequestTable } from '../../ts/core/runtime/request-table.js';
import { DirectoryReader } from '../../ts/core/uplink/directory-reader.js';
import { turn } from './fixtures.js';

const BOOTSTRAP = 'aa'.repeat(32);
const idOf = (index: number): string => index.toString(16).padStart(32, '0');

/** A reader of these networks, and what it asks: answered as a directory of version 7 that is told whole. */
function reading(networks: readonly string[]) {
  const requests = new RequestTable();
  const looked: string[] = [];
  const learned: string[] = [];
  const reader = new DirectoryReader({
    sessionKey: BOOTSTRAP,
    requests,
    isRegistered: () => true,
    wants: (network) => {
      looked.push(network);
      return networks.includes(network);
    },
    depthOf: () => 0,
    learned: ({ network }) => {
      learned.push(toHex(network));
    },
  });
  /** @param told what the answer says in another way */
  const read = (network: string, told: Partial<MessageOf<'records'>> = {}): number | undefined => {
    const asked = turn();
    reader.read(network, asked);
    const [effect] = asked.effects;
    const frame = effect?.type === 'send-control' ? decodeControlFrame(effect.payload) : undefined;
    const envelope = frame && decodeMessage(frame.body);
    assert.ok(envelope?.message.type === 'lookup' && toHex(envelope.message.network) === network);
    const { after } = envelope.message;
    const answer: MessageOf<'records'> = {
      type: 'records',
      network: fromHex(network) ?? new Uint8Array(16),
      from: after,
      version: 7,
      more: false,
      records: [],
      gone: [],
      ...told,
    };
    requests.handleAnswer(BOOTSTRAP, envelope.request, answer, answered);
    return after;
  };
  const answered = turn();
  return { reader, read, looked, learned, answered };
}

describe('what is known of the directory of a bootstrap', () => {
  it('is kept of the networks that are named, and read anew of others', () => {
    const [left, kept] = [idOf(1), idOf(2)];
    const { reader, read } = reading([left, kept]);
    reader.rebooted(new Uint8Array(16));
    assert.deepEqual([read(left), read(kept)], [0, 0]);
    reader.keepOnly([kept]);
    assert.deepEqual([read(left), read(kept)], [0, 7]);
  });

  it('is what was asked for: an answer that names another network, joined or not, is none', () => {
    const [asked, other] = [idOf(1), idOf(2)];
    const { reader, read, learned } = reading([asked, other]);
    reader.rebooted(new Uint8Array(16));
    read(asked, { network: fromHex(other) ?? new Uint8Array(16) });
    assert.deepEqual(learned, []);
    read(asked);
    assert.deepEqual(learned, [asked]);
  });

  it('is nothing of a network that is read no more, though an answer comes late and promises more', () => {
    const networks = [idOf(1)];
    const { reader, read, learned, answered } = reading(networks);
    reader.rebooted(new Uint8Array(16));
    const asked = idOf(1);
    networks.pop();
    read(asked, { more: true });
    assert.deepEqual([learned, answered.effects], [[], []]);
  });

  it('costs no question per network, of which a relay may follow thousands for its clients', () => {
    const networks = Array.from({ length: 100 }, (_, index) => idOf(index));
    const { reader, read, looked } = reading(networks);
    reader.rebooted(new Uint8Array(16));
    networks.forEach((network) => read(network));
    looked.length = 0;
    reader.keepOnly(networks);
    assert.deepEqual(looked, []);
  });
});
