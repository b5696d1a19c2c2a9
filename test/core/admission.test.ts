import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { AdmissionClient, type AdmissionOutcome } from '../../ts/core/uplink/admission-client.js';
import {
  admissionSignatureInput,
  decodeAnswer,
  decodeChallenge,
  decodeGrant,
  decodeRequest,
  encodeAnswer,
  encodeAnswerHead,
  encodeChallenge,
  encodePlain,
  encodeRequest,
  encodeSignedPlain,
  GrantStatus,
  sealKey,
} from '../../ts/core/protocol/admission-payload.js';
import {
  AdmissionServer,
  SLOT_MS,
  type AdmissionClaim,
  type AdmissionDrop,
} from '../../ts/core/relay/admission-server.js';
import { concat, sameBytes, utf8, viewOf } from '../../ts/wire/bytes.js';
import { contactLegKey } from '../../ts/core/protocol/contact-leg.js';
import type { Effect } from '../../ts/core/runtime/effect.js';
import { LegIds } from '../../ts/core/runtime/leg-ids.js';
import type { Turn } from '../../ts/core/runtime/turn.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import {
  encodeFrame,
  frameTagMatches,
  FrameKind,
  parseFrame,
  type ParsedFrame,
} from '../../ts/wire/frame.js';
import type { SocketAddress } from '../../ts/wire/socket-address.js';
import { address, bytes, keys, turn } from './fixtures.js';

const node = keys();
const self = keys();
const nodeAddress = address('192.0.2.1:51820');
const clientAddress = address('203.0.113.9:40001');
const network = new Uint8Array(16).fill(5);

interface Bench {
  readonly server: AdmissionServer;
  readonly client: AdmissionClient;
  /** What the judge was asked. */
  readonly claims: AdmissionClaim[];
  readonly drops: AdmissionDrop[];
  /** The client's first frame. */
  readonly request: Uint8Array;
  readonly legs: LegIds;
}

function bench(status: GrantStatus = GrantStatus.granted): Bench {
  const claims: AdmissionClaim[] = [];
  const drops: AdmissionDrop[] = [];
  const server = new AdmissionServer(
    nodePrimitives,
    node.identity,
    node.sessionPrivateKey,
    (claim) => {
      claims.push(claim);
      return { status, lifetime: status === GrantStatus.granted ? 60 : 0 };
    },
    (reason) => drops.push(reason),
  );
  const begin = turn();
  const legs = new LegIds(64);
  const bootstrap = { identity: node.identity, sessionKey: node.sessionKey, addresses: [nodeAddress] };
  const client = new AdmissionClient(nodePrimitives, self, bootstrap, nodeAddress, network, legs, begin);
  const [sent] = framesOf(begin.effects);
  assert.ok(sent);
  return { server, client, claims, drops, request: sent, legs };
}

function framesOf(effects: readonly Effect[]): Uint8Array[] {
  return effects.flatMap((effect) => (effect.type === 'send-frame' ? [effect.frame] : []));
}

function parsed(frame: Uint8Array): ParsedFrame {
  const read = parseFrame(frame);
  assert.ok(read);
  return read;
}

/** What the node sends back for a frame. */
function served(
  server: AdmissionServer,
  frame: Uint8Array,
  from: SocketAddress = clientAddress,
  at = turn(),
): Uint8Array[] {
  server.handleFrame(from, parsed(frame), at);
  return framesOf(at.effects);
}

/** Carries the client through the challenge. @returns its answer frame. */
function answered({ server, client, request }: Bench, at = turn()): Uint8Array {
  const [challenge] = served(server, request, clientAddress, at);
  assert.ok(challenge);
  const later = turn();
  assert.equal(client.handleFrame(nodeAddress, parsed(challenge), later), undefined);
  const [answer] = framesOf(later.effects);
  assert.ok(answer);
  return answer;
}

const contact = contactLegKey(nodePrimitives, node.sessionKey);
const reframe = (kind: FrameKind, payload: Uint8Array): Uint8Array =>
  encodeFrame({ kind, hopLimit: 1, epoch: 0, legId: 0, key: contact.key, payload });

describe('admission', () => {
  it('proves address, identity and session key in two round trips', () => {
    const made = bench();
    const [grantFrame] = served(made.server, answered(made));
    assert.ok(grantFrame);
    const outcome: AdmissionOutcome = made.client.handleFrame(nodeAddress, parsed(grantFrame), turn());
    assert.ok(typeof outcome === 'object');
    assert.equal(outcome.status, GrantStatus.granted);
    assert.equal(outcome.lifetime, 60);
    assert.deepEqual(outcome.observed, clientAddress);
    const [claim] = made.claims;
    assert.ok(claim && made.claims.length === 1);
    const { digest, issued, ...claimed } = claim;
    assert.deepEqual(claimed, {
      identity: self.identity,
      sessionKey: self.sessionKey,
      network,
      address: clientAddress,
    });
    assert.equal(issued, 0);
    assert.equal(digest.length, 32);
  });

  it('puts every field where the protocol draws it', () => {
    const made = bench();
    const request = parsed(made.request).payload;
    assert.equal(request.length, 112);
    const commitment = nodePrimitives.sha256(
      utf8('omerta commitment v1'),
      request.slice(0, 16),
      self.identity,
    );
    assert.deepEqual(request.slice(40, 72), commitment);
    assert.ok(request.slice(72).every((byte) => byte === 0));
    assert.ok(
      frameTagMatches(
        nodePrimitives.sha256(utf8('omerta contact leg v1'), node.sessionKey).slice(0, 16),
        made.request,
      ),
    );

    const at = turn(5 * SLOT_MS + 1);
    const secretTurn = turn(5 * SLOT_MS + 1);
    const [challengeFrame] = served(made.server, made.request, clientAddress, at);
    assert.ok(challengeFrame);
    const challenge = parsed(challengeFrame);
    assert.equal(challenge.kind, FrameKind.admissionChallenge);
    assert.equal(challenge.legId, viewOf(request).getUint32(16, true));
    assert.ok(frameTagMatches(request.slice(24, 40), challengeFrame));
    assert.equal(challenge.payload.length, 64);
    assert.deepEqual(challenge.payload.slice(0, 16), request.slice(0, 16));
    assert.equal(
      viewOf(challenge.payload).getBigUint64(16, true),
      BigInt(5 * SLOT_MS + 1),
      'when it was made',
    );

    made.client.handleFrame(nodeAddress, challenge, secretTurn);
    const [answerFrame] = framesOf(secretTurn.effects);
    assert.ok(answerFrame);
    const answer = parsed(answerFrame).payload;
    assert.equal(answer.length, 384);
    assert.deepEqual(answer.slice(0, 72), request.slice(0, 72));
    assert.deepEqual(answer.slice(72, 112), challenge.payload.slice(16, 56));
    const shared = nodePrimitives.x25519(node.sessionPrivateKey, answer.slice(112, 144));
    assert.ok(shared);
    const key = nodePrimitives.hkdfSha256(shared, 'omerta admission v1', 32);
    const plain = nodePrimitives.aeadOpen(
      key,
      new Uint8Array(12),
      answer.slice(144, 320),
      answer.slice(0, 144),
    );
    assert.ok(plain?.length === 160);
    assert.deepEqual(plain.slice(0, 80), concat(self.identity, self.sessionKey, network));
    const signed = concat(
      utf8('omerta admission v1'),
      node.identity,
      answer.slice(0, 144),
      plain.slice(0, 80),
    );
    assert.ok(nodePrimitives.ed25519Verify(self.identity, signed, plain.slice(80, 144)));
    assert.ok(plain.slice(144).every((byte) => byte === 0) && answer.slice(320).every((byte) => byte === 0));

    const [grantFrame] = served(made.server, answerFrame, clientAddress, turn(5 * SLOT_MS + 2));
    assert.ok(grantFrame);
    const grant = parsed(grantFrame).payload;
    assert.equal(grant.length, 64);
    assert.deepEqual([grant[16], viewOf(grant).getUint32(20, true)], [0, 60]);
    assert.deepEqual(grant.slice(24, 40), clientAddress.ip);
    assert.equal(viewOf(grant).getUint16(40, true), clientAddress.port);
  });

  it('never sends more than it was sent', () => {
    const made = bench();
    const [challenge] = served(made.server, made.request);
    const answer = answered(made);
    const [grant] = served(made.server, answer);
    assert.ok(challenge && challenge.length <= made.request.length);
    assert.ok(grant && grant.length <= answer.length);
  });

  it('asks the judge of a repeated answer with the same words, so that it can be told from another', () => {
    const made = bench();
    const answer = answered(made);
    const [first] = served(made.server, answer);
    const [second] = served(made.server, answer);
    assert.deepEqual(second, first);
    assert.equal(made.claims.length, 2);
    assert.deepEqual(made.claims[1], made.claims[0]);
  });

  it('tells a refusal and a full house, the address being proven by then', () => {
    for (const status of [GrantStatus.refused, GrantStatus.atCapacity]) {
      const made = bench(status);
      const [frame] = served(made.server, answered(made));
      assert.ok(frame);
      const outcome = made.client.handleFrame(nodeAddress, parsed(frame), turn());
      assert.ok(typeof outcome === 'object' && outcome.status === status);
    }
  });

  it('is met with silence when a cookie is used from another address or port', () => {
    const made = bench();
    const answer = answered(made);
    for (const other of ['203.0.113.9:40002', '203.0.113.10:40001', '[2001:db8::9]:40001'])
      assert.deepEqual(served(made.server, answer, address(other)), []);
    assert.deepEqual(made.drops, ['admission-bad-cookie', 'admission-bad-cookie', 'admission-bad-cookie']);
  });

  it('accepts a cookie in its slot and the next, and no longer', () => {
    for (const [later, accepted] of [
      [SLOT_MS - 1, true],
      [2 * SLOT_MS - 1, true],
      [2 * SLOT_MS, false],
    ] as const) {
      const made = bench();
      const answer = answered(made, turn(0));
      // A request in between makes the server change its secret on time.
      if (later >= SLOT_MS) served(made.server, made.request, clientAddress, turn(SLOT_MS));
      assert.equal(
        served(made.server, answer, clientAddress, turn(later)).length,
        accepted ? 1 : 0,
        `${later} ms`,
      );
    }
  });

  it('is not judged when a byte of the answer is changed', () => {
    fc.assert(
      fc.property(fc.nat(383), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const made = bench();
        const payload = parsed(answered(made)).payload.slice();
        payload[at] = (payload[at] ?? 0) ^ change;
        assert.deepEqual(served(made.server, reframe(FrameKind.admissionAnswer, payload)), []);
        assert.equal(made.claims.length, 0);
        assert.equal(made.drops.length, 1);
      }),
      { numRuns: 60 },
    );
  });

  it('is not judged when the sealed identity is not the one committed to, or did not sign', () => {
    const thief = keys();
    const cheat = (identity: Uint8Array, seed: Uint8Array): AdmissionDrop[] => {
      const made = bench();
      const bootstrap = { identity: node.identity, sessionKey: node.sessionKey, addresses: [nodeAddress] };
      const begin = turn();
      const client = new AdmissionClient(
        nodePrimitives,
        { identity, identitySeed: seed, sessionKey: thief.sessionKey },
        bootstrap,
        nodeAddress,
        network,
        made.legs,
        begin,
      );
      const [request] = framesOf(begin.effects);
      assert.ok(request);
      const answer = answered({ ...made, client, request });
      assert.deepEqual(served(made.server, answer), []);
      assert.equal(made.claims.length, 0);
      return made.drops;
    };
    assert.deepEqual(cheat(self.identity, thief.identitySeed), ['admission-bad-signature']);
    // Committed to one identity, sealed and signed by another.
    const made = bench();
    const request = { nonce: bytes(16), reply: { id: 9, key: bytes(16), epoch: 0 }, commitment: bytes(32) };
    const [frame] = served(made.server, reframe(FrameKind.admissionRequest, encodeRequest(request)));
    const challenge = decodeChallenge(parsed(frame ?? new Uint8Array(0)).payload);
    assert.ok(challenge);
    const ephemeral = bytes(32);
    const key = sealKey(nodePrimitives, ephemeral, node.sessionKey);
    assert.ok(key);
    const head = encodeAnswerHead(request, challenge, nodePrimitives.x25519PublicKey(ephemeral));
    const signed = encodeSignedPlain(thief.identity, thief.sessionKey, network);
    const input = admissionSignatureInput(node.identity, head, signed);
    const plain = encodePlain(signed, nodePrimitives.ed25519Sign(thief.identitySeed, input));
    const answer = encodeAnswer(head, nodePrimitives.aeadSeal(key, new Uint8Array(12), plain, head));
    assert.deepEqual(served(made.server, reframe(FrameKind.admissionAnswer, answer)), []);
    assert.deepEqual(made.drops, ['admission-bad-commitment']);
  });

  it('does not open an answer sealed for another node', () => {
    const made = bench();
    const other = keys();
    const begin = turn();
    const client = new AdmissionClient(
      nodePrimitives,
      self,
      { identity: node.identity, sessionKey: other.sessionKey, addresses: [nodeAddress] },
      nodeAddress,
      network,
      made.legs,
      begin,
    );
    const [request] = framesOf(begin.effects);
    assert.ok(request);
    assert.deepEqual(served(made.server, answered({ ...made, client, request })), []);
    assert.deepEqual(made.drops, ['admission-bad-seal']);
  });

  it('keeps nothing for requests: after thousands of others the first is still answered', () => {
    const made = bench();
    const [first] = served(made.server, made.request);
    for (let i = 1; i <= 5000; i++) {
      const payload = encodeRequest({
        nonce: bytes(16),
        reply: { id: i, key: bytes(16), epoch: 0 },
        commitment: bytes(32),
      });
      assert.equal(served(made.server, reframe(FrameKind.admissionRequest, payload)).length, 1);
    }
    const [again] = served(made.server, made.request);
    assert.deepEqual(again, first, 'the challenge is a function of the request alone');
    assert.equal(served(made.server, answered(made)).length, 1);
    assert.equal(made.claims.length, 1);
  });

  it('frames of any other kind or size are dropped in silence', () => {
    const made = bench();
    for (const frame of [
      reframe(FrameKind.admissionRequest, new Uint8Array(111)),
      reframe(FrameKind.admissionRequest, new Uint8Array(113)),
      reframe(FrameKind.admissionRequest, new Uint8Array(112)), // reply leg 0
      reframe(FrameKind.admissionAnswer, new Uint8Array(383)),
      reframe(FrameKind.contact, new Uint8Array(112)),
      reframe(FrameKind.admissionGrant, new Uint8Array(64)),
    ])
      assert.deepEqual(served(made.server, frame), []);
    assert.ok(made.drops.every((reason) => reason === 'admission-malformed'));
    assert.equal(made.drops.length, 6);
  });

  it('the client repeats each frame four times and then gives up, removing its reply leg', () => {
    const made = bench();
    const sentAt: number[] = [0];
    let outcome: AdmissionOutcome;
    let end: Turn = turn();
    while (outcome === undefined) {
      const now = made.client.deadline();
      end = turn(now);
      outcome = made.client.handleTimeout(end);
      if (framesOf(end.effects).length > 0) sentAt.push(now);
    }
    assert.equal(outcome, 'unanswered');
    assert.deepEqual(sentAt, [0, 250, 750, 1750]);
    made.client.close(end);
    assert.ok(
      end.effects.some((effect) => effect.type === 'remove-leg' && effect.id === made.client.replyLeg),
    );
  });

  it('the client ignores a challenge with another nonce or from another address', () => {
    const made = bench();
    const [challenge] = served(made.server, made.request);
    assert.ok(challenge);
    const later = turn();
    made.client.handleFrame(address('192.0.2.2:51820'), parsed(challenge), later);
    const forged = parsed(challenge).payload.slice();
    forged[0] = (forged[0] ?? 0) ^ 1;
    const frame = encodeFrame({
      kind: FrameKind.admissionChallenge,
      hopLimit: 1,
      epoch: 0,
      legId: 1,
      key: bytes(16),
      payload: forged,
    });
    made.client.handleFrame(nodeAddress, parsed(frame), later);
    assert.deepEqual(framesOf(later.effects), []);
  });
});

describe('admission payloads', () => {
  const exactly = (length: number): fc.Arbitrary<Uint8Array> =>
    fc.uint8Array({ minLength: length, maxLength: length });

  it('are read back as they were made', () => {
    fc.assert(
      fc.property(
        exactly(16),
        exactly(16),
        exactly(32),
        fc.integer({ min: 1, max: 2 ** 32 - 1 }),
        (nonce, key, hash, id) => {
          const request = { nonce, reply: { id, key, epoch: 0 }, commitment: hash };
          assert.deepEqual(decodeRequest(encodeRequest(request)), request);
          const challenge = { nonce, issued: BigInt(id) << 20n, cookie: hash };
          assert.deepEqual(decodeChallenge(encodeChallenge(challenge)), challenge);
        },
      ),
    );
  });

  it('of arbitrary bytes are refused or read, never thrown at', () => {
    fc.assert(
      fc.property(fc.constantFrom(63, 64, 65, 112, 384), fc.nat(), (size, seed) => {
        const payload = new Uint8Array(size).fill(seed & 0xff);
        for (const decode of [decodeRequest, decodeChallenge, decodeAnswer, decodeGrant]) decode(payload);
        assert.equal(decodeGrant(new Uint8Array(64).fill(3)), undefined);
        assert.ok(sameBytes(payload, new Uint8Array(size).fill(seed & 0xff)));
      }),
    );
  });
});
