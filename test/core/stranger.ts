// Strangers at the door of a relay: the whole of admission by hand, with keys and from addresses of the
// test's choosing.

import assert from 'node:assert/strict';
import type { Primitives } from '../../ts/contract/primitives.js';
import type { Step } from '../../ts/contract/step.js';
import { AdmissionClient } from '../../ts/core/uplink/admission-client.js';
import { decodeGrant, type GrantStatus } from '../../ts/core/protocol/admission-payload.js';
import { decodeControlFrame } from '../../ts/core/protocol/control-frame.js';
import {
  decodeMessage,
  encodeMessage,
  type ControlMessage,
  type Envelope,
} from '../../ts/core/protocol/control-message.js';
import { membershipKey, membershipMessage, type NetworkSecrets } from '../../ts/core/protocol/network.js';
import { signPeerRecord, type RecordFields } from '../../ts/core/protocol/peer-record.js';
import { toHex } from '../../ts/wire/bytes.js';
import { MeshNode } from '../../ts/core/node/mesh-node.js';
import type { RelayPolicy } from '../../ts/core/relay/relay-policy.js';
import type { Effect } from '../../ts/core/runtime/effect.js';
import { LegIds } from '../../ts/core/runtime/leg-ids.js';
import { Turn } from '../../ts/core/runtime/turn.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { parseFrame } from '../../ts/wire/frame.js';
import type { SocketAddress } from '../../ts/wire/socket-address.js';
import { address, bytes, recordFields, step, type Keys } from './fixtures.js';

const RELAY_ADDRESS = address('192.0.2.1:51820');

/**
 * Primitives for tests of many strangers, where the cost of public-key cryptography is not the point: a
 * signature is a hash anybody could make, and the two sides of a key agreement add their halves up.
 */
export const CHEAP_PRIMITIVES: Primitives = {
  ...nodePrimitives,
  ed25519PublicKey: (seed) => seed,
  ed25519Sign: (seed, message) =>
    new Uint8Array([...nodePrimitives.sha256(seed, message), ...new Uint8Array(32)]),
  ed25519Verify: (key, message, signature) =>
    nodePrimitives.equal(nodePrimitives.sha256(key, message), signature.subarray(0, 32)),
  x25519PublicKey: (key) => key,
  x25519: (own, theirs) => own.map((byte, index) => byte ^ (theirs[index] ?? 0)),
};

/** Keys under CHEAP_PRIMITIVES. */
export function cheapKeys(): Keys {
  const [identitySeed, sessionPrivateKey] = [bytes(32), bytes(32)];
  return { identitySeed, identity: identitySeed, sessionPrivateKey, sessionKey: sessionPrivateKey };
}

/** A relay with nothing but its policy; `effects` are what it has done so far. */
export class DoorRelay {
  readonly node: MeshNode;
  readonly effects: Effect[] = [];
  #request = 0;
  #boot: Uint8Array = new Uint8Array(8);
  readonly #own: Keys;
  readonly #primitives: Primitives;

  constructor(policy: RelayPolicy, primitives: Primitives, own: Keys) {
    this.#primitives = primitives;
    this.#own = own;
    this.node = new MeshNode(
      {
        ...own,
        name: 'relay',
        endpoints: [RELAY_ADDRESS],
        networks: [],
        relay: policy,
        capabilities: [],
        maxLegs: 4096,
      },
      primitives,
    );
    this.effects.push(...this.node.start(new Map(), step(0)));
  }

  /** One frame from somewhere. @returns the frames it is answered with. */
  receive(from: SocketAddress, frame: Uint8Array, now: number): Uint8Array[] {
    const effects = this.node.handleEngineEvent({ type: 'frame', leg: 0, from, frame }, step(now));
    this.effects.push(...effects);
    return effects.flatMap((effect) => (effect.type === 'send-frame' ? [effect.frame] : []));
  }

  /** The answer a stranger sends once it has its challenge. */
  answerOf(stranger: Keys, from: SocketAddress, at: Step, network = new Uint8Array(16)): Uint8Array {
    const turn = new Turn(at);
    const bootstrap = { ...this.#own, addresses: [RELAY_ADDRESS] };
    const client = new AdmissionClient(
      this.#primitives,
      stranger,
      bootstrap,
      RELAY_ADDRESS,
      network,
      new LegIds(4),
      turn,
    );
    const [challenge] = this.receive(from, sentFrame(turn.effects), at.now);
    const parsed = challenge && parseFrame(challenge);
    assert.ok(parsed, 'a challenge');
    const later = new Turn(at);
    client.handleFrame(RELAY_ADDRESS, parsed, later);
    return sentFrame(later.effects);
  }

  /** What an answer is granted; undefined = silence. */
  granted(from: SocketAddress, answer: Uint8Array, now: number): GrantStatus | undefined {
    const [grant] = this.receive(from, answer, now);
    return grant && decodeGrant(parseFrame(grant)?.payload ?? new Uint8Array(0))?.status;
  }

  /** The whole of admission. */
  admit(stranger: Keys, from: SocketAddress, now: number): GrantStatus | undefined {
    return this.granted(from, this.answerOf(stranger, from, step(now)), now);
  }

  /** The session of a stranger who was admitted comes up, and it registers a record that says this. */
  join(client: Keys, from: SocketAddress, changed: Partial<RecordFields>, now: number): ControlMessage[] {
    this.admit(client, from, now);
    const peer = toHex(client.sessionKey);
    const at = step(now);
    this.node.handleEngineEvent({ type: 'session', peer, endpoint: { address: from } }, at);
    return this.register(client, changed, now);
  }

  register(client: Keys, changed: Partial<RecordFields>, now: number): ControlMessage[] {
    const fields = recordFields(client, changed);
    const record = signPeerRecord(this.#primitives, client.identitySeed, fields).bytes;
    return this.say(client, { type: 'register', record, boot: new Uint8Array(8) }, now);
  }

  /** A client that has registered shows that it knows the key of this network. */
  prove({ identity, sessionKey }: Keys, network: NetworkSecrets, now: number): ControlMessage[] {
    const { seed, publicKey } = membershipKey(this.#primitives, network);
    const message = membershipMessage({
      relay: this.#own.identity,
      relaySessionKey: this.#own.sessionKey,
      boot: this.#boot,
      identity,
      sessionKey,
    });
    const signature = this.#primitives.ed25519Sign(seed, message);
    return this.say({ sessionKey }, { type: 'join-network', key: publicKey, signature }, now);
  }

  /** A message inside a client's session. @returns what the client is sent at once. */
  say(client: Pick<Keys, 'sessionKey'>, message: ControlMessage, now: number): ControlMessage[] {
    const peer = toHex(client.sessionKey);
    const payload = encodeMessage({ request: ++this.#request, message });
    const effects = this.node.handleEngineEvent({ type: 'control', peer, payload }, step(now));
    this.effects.push(...effects);
    const answers = messagesTo(peer, effects).map(({ message: sent }) => sent);
    for (const answer of answers) if (answer.type === 'registered') this.#boot = answer.boot;
    return answers;
  }

  get admissions(): number {
    return this.node.status(step(0)).relay?.admissions ?? 0;
  }
}

/** What a session is sent, in order. */
export function messagesTo(peer: string, effects: readonly Effect[]): Envelope[] {
  return effects.flatMap((effect) => {
    if (effect.type !== 'send-control' || effect.peer !== peer) return [];
    const frame = decodeControlFrame(effect.payload);
    const envelope = frame && decodeMessage(frame.body);
    return envelope === undefined ? [] : [envelope];
  });
}

function sentFrame(effects: readonly Effect[]): Uint8Array {
  const frame = effects.find((effect) => effect.type === 'send-frame')?.frame;
  assert.ok(frame, 'a frame was sent');
  return frame;
}
