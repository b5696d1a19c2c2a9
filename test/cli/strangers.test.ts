// A running relay and somebody it has never heard of, who knows its public keys: whatever is not as it
// should be is counted by its reason and left unanswered; what is in order gets an answer that is not
// larger than the request.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  admissionSignatureInput,
  commitmentOf,
  decodeChallenge,
  decodeGrant,
  encodeAnswer,
  encodeAnswerHead,
  encodePlain,
  encodeRequest,
  encodeSignedPlain,
  GrantStatus,
  sealKey,
  type AdmissionChallenge,
  type AdmissionRequest,
} from '../../ts/core/protocol/admission-payload.js';
import { contactLegKey } from '../../ts/core/protocol/contact-leg.js';
import { decodeInvite } from '../../ts/core/protocol/invite.js';
import { blindedNetworkId, type Bootstrap, type Network } from '../../ts/core/protocol/network.js';
import { ControlClient } from '../../ts/daemon/control/control-client.js';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { nodePrimitives as primitives } from '../../ts/engine/node-primitives.js';
import { encodeFrame, FrameKind, parseFrame } from '../../ts/wire/frame.js';
import { temporaryDirectory } from '../daemon/temporary.js';
import { addonMissing } from '../engine/addon.js';
import { freeUdpPort, startRelay } from './run-omerta.js';

const DEADLINE_MS = 20_000;
const random = (size: number): Uint8Array => new Uint8Array(randomBytes(size));

async function socket(t: TestContext): Promise<Socket> {
  const made = createSocket('udp4');
  made.bind(0, '127.0.0.1');
  await once(made, 'listening');
  t.after(() => made.close());
  return made;
}

class Stranger {
  readonly seed = random(32);
  readonly sessionKey = primitives.x25519PublicKey(random(32));
  readonly heard: Buffer[] = [];

  constructor(
    readonly socket: Socket,
    readonly port: number,
    readonly relay: Bootstrap,
    readonly network: Network,
  ) {
    socket.on('message', (datagram) => this.heard.push(datagram));
  }

  get identity(): Uint8Array {
    return primitives.ed25519PublicKey(this.seed);
  }

  async send(datagram: Uint8Array, from = this.socket): Promise<void> {
    await new Promise((resolve) => from.send(datagram, this.port, '127.0.0.1', resolve));
  }

  frame(kind: FrameKind, payload: Uint8Array): Uint8Array {
    const leg = contactLegKey(primitives, this.relay.sessionKey);
    return encodeFrame({ kind, hopLimit: 1, epoch: 0, legId: leg.id, key: leg.key, payload });
  }

  request(): AdmissionRequest {
    const nonce = random(16);
    const reply = { id: 1 + Math.floor(Math.random() * 1e6), key: random(16), epoch: 0 };
    return { nonce, reply, commitment: commitmentOf(primitives, nonce, this.identity) };
  }

  /** The relay's next answer. */
  async answer(): Promise<Uint8Array> {
    const deadline = performance.now() + DEADLINE_MS;
    while (this.heard.length === 0 && performance.now() < deadline) await sleep(5);
    const datagram = this.heard.shift();
    assert.ok(datagram, 'the relay is silent');
    return datagram;
  }

  /** A challenge, for a request of this moment. */
  async challenge(): Promise<{ request: AdmissionRequest; challenge: AdmissionChallenge }> {
    const request = this.request();
    await this.send(this.frame(FrameKind.admissionRequest, encodeRequest(request)));
    const challenge = decodeChallenge(parseFrame(await this.answer())?.payload ?? new Uint8Array(0));
    assert.ok(challenge);
    return { request, challenge };
  }

  /** The answer to a challenge, right unless something is given. */
  answerTo(
    { request, challenge }: { request: AdmissionRequest; challenge: AdmissionChallenge },
    { seed = this.seed, signedBy = seed }: { seed?: Uint8Array; signedBy?: Uint8Array } = {},
  ): Uint8Array {
    const ephemeral = random(32);
    const head = encodeAnswerHead(request, challenge, primitives.x25519PublicKey(ephemeral));
    const blinded = blindedNetworkId(primitives, this.network);
    const signed = encodeSignedPlain(primitives.ed25519PublicKey(seed), this.sessionKey, blinded);
    const input = admissionSignatureInput(this.relay.identity, head, signed);
    const plain = encodePlain(signed, primitives.ed25519Sign(signedBy, input));
    const key = sealKey(primitives, ephemeral, this.relay.sessionKey);
    assert.ok(key);
    return encodeAnswer(head, primitives.aeadSeal(key, new Uint8Array(12), plain, head));
  }
}

/** A frame, and the reason it is to be counted under. */
type Wrong = readonly [
  what: string,
  reason: string,
  make: (stranger: Stranger) => Promise<Uint8Array> | Uint8Array,
];

const { admissionRequest, admissionAnswer } = FrameKind;
const flipped = (bytes: Uint8Array, index: number): Uint8Array =>
  bytes.map((byte, i) => (i === index ? byte ^ 1 : byte));
const answering =
  (change: (payload: Uint8Array) => Uint8Array) =>
  async (stranger: Stranger): Promise<Uint8Array> =>
    stranger.frame(admissionAnswer, change(stranger.answerTo(await stranger.challenge())));

const WRONG: readonly Wrong[] = [
  [
    'a request without its padding',
    'admission-malformed',
    (s) => s.frame(admissionRequest, encodeRequest(s.request()).subarray(0, 72)),
  ],
  [
    'a request that is too long',
    'admission-malformed',
    (s) => s.frame(admissionRequest, Buffer.concat([encodeRequest(s.request()), Buffer.alloc(1)])),
  ],
  [
    'a request with a reserved byte set',
    'admission-malformed',
    (s) => s.frame(admissionRequest, flipped(encodeRequest(s.request()), 111)),
  ],
  [
    'a request to be answered on leg 0',
    'admission-malformed',
    (s) => {
      const request = s.request();
      return s.frame(admissionRequest, encodeRequest({ ...request, reply: { ...request.reply, id: 0 } }));
    },
  ],
  ['a grant', 'admission-malformed', (s) => s.frame(FrameKind.admissionGrant, random(64))],
  ['a probe', 'admission-malformed', (s) => s.frame(FrameKind.probe, random(64))],
  ['a notice', 'admission-malformed', (s) => s.frame(FrameKind.notice, random(64))],
  [
    'a request with a wrong tag',
    'drop_bad_tag',
    (s) => flipped(s.frame(admissionRequest, encodeRequest(s.request())), 12),
  ],
  ['a forward frame on the contact leg', 'drop_wrong_kind', (s) => s.frame(FrameKind.forward, random(64))],
  ['an answer that is cut short', 'admission-malformed', answering((answer) => answer.subarray(0, 383))],
  ['an answer with a reserved byte set', 'admission-malformed', answering((answer) => flipped(answer, 383))],
  [
    'an answer with a cookie of its own making',
    'admission-bad-cookie',
    answering((answer) => flipped(answer, 80)),
  ],
  ['an answer for another time', 'admission-bad-cookie', answering((answer) => flipped(answer, 72))],
  [
    'an answer with the cookie of another request',
    'admission-bad-cookie',
    answering((answer) => flipped(answer, 40)),
  ],
  ['an answer that does not open', 'admission-bad-seal', answering((answer) => flipped(answer, 200))],
  [
    'an answer under a key of small order',
    'admission-bad-seal',
    answering((answer) => answer.map((byte, i) => (i >= 112 && i < 144 ? 0 : byte))),
  ],
  [
    'an answer of another identity than the request was of',
    'admission-bad-commitment',
    async (s) => s.frame(admissionAnswer, s.answerTo(await s.challenge(), { seed: random(32) })),
  ],
  [
    'an answer signed by somebody else',
    'admission-bad-signature',
    async (s) => s.frame(admissionAnswer, s.answerTo(await s.challenge(), { signedBy: random(32) })),
  ],
];

for (const engine of ['native', 'wasm'] as const)
  describe(
    `a stranger and a relay with the ${engine} engine`,
    {
      skip: engine === 'native' ? (addonMissing() ?? false) : false,
    },
    () => {
      test('what is wrong is counted and not answered, what is right is answered with less', async (t) => {
        const state = join(temporaryDirectory(t), 'state');
        const port = await freeUdpPort();
        const { banner } = await startRelay(t, state, [
          '--port',
          `${port}`,
          '--status',
          'off',
          '--engine',
          engine,
        ]);
        const network = decodeInvite(banner.networks[0]?.invite ?? '');
        const [relay] = network.bootstraps;
        assert.ok(relay);
        const stranger = new Stranger(await socket(t), port, relay, network);
        const client = await ControlClient.connect(join(state, 'omerta.sock'));
        t.after(() => client.close());
        const counts = async (): Promise<Record<string, number>> => {
          const { mesh, counters } = (await client.request({ command: 'status' })) as DaemonStatus;
          const drops = Object.entries(counters).filter(([name]) => name.startsWith('drop_'));
          return { ...mesh.relay?.refusals, ...Object.fromEntries(drops) };
        };
        const changed = async (before: Record<string, number>): Promise<Record<string, number>> => {
          const now = Object.entries(await counts());
          const by = now.map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
          return Object.fromEntries(by.filter(([, more]) => more !== 0));
        };
        const counted = async (reason: string, before: Record<string, number>): Promise<void> => {
          const deadline = performance.now() + DEADLINE_MS;
          let change = await changed(before);
          while (Object.keys(change).length === 0 && performance.now() < deadline) {
            await sleep(5);
            change = await changed(before);
          }
          assert.deepEqual(change, { [reason]: 1 });
          assert.deepEqual(stranger.heard, [], 'no answer');
        };

        for (const [what, reason, make] of WRONG)
          await t.test(`${what}: ${reason}`, async () => {
            const datagram = await make(stranger);
            const before = await counts();
            await stranger.send(datagram);
            await counted(reason, before);
          });

        await t.test(
          'an answer from another address than the challenge went to: admission-bad-cookie',
          async (inner) => {
            const datagram = stranger.frame(admissionAnswer, stranger.answerTo(await stranger.challenge()));
            const other = await socket(inner);
            other.on('message', (answer) => stranger.heard.push(answer));
            const before = await counts();
            await stranger.send(datagram, other);
            await counted('admission-bad-cookie', before);
          },
        );

        await t.test('a cookie that was used for another answer: admission-replay', async () => {
          const given = await stranger.challenge();
          const first = stranger.frame(admissionAnswer, stranger.answerTo(given));
          await stranger.send(first);
          const grant = decodeGrant(parseFrame(await stranger.answer())?.payload ?? new Uint8Array(0));
          assert.equal(grant?.status, GrantStatus.granted);
          const before = await counts();
          await stranger.send(stranger.frame(admissionAnswer, stranger.answerTo(given)));
          await counted('admission-replay', before);
          await stranger.send(first);
          assert.equal((await stranger.answer()).length, 80, 'the very same answer is granted again');
        });

        await t.test('no answer is larger than its request', async () => {
          const request = stranger.request();
          const asked = stranger.frame(admissionRequest, encodeRequest(request));
          await stranger.send(asked);
          const challenged = await stranger.answer();
          assert.ok(
            challenged.length <= asked.length,
            `${asked.length} asked, ${challenged.length} answered`,
          );
          const challenge = decodeChallenge(parseFrame(challenged)?.payload ?? new Uint8Array(0));
          assert.ok(challenge);
          const answered = stranger.frame(admissionAnswer, stranger.answerTo({ request, challenge }));
          await stranger.send(answered);
          const granted = await stranger.answer();
          assert.ok(granted.length <= answered.length, `${answered.length} sent, ${granted.length} answered`);
        });

        await t.test('STUN alone is answered with more, and only within its budget', async () => {
          const binding = Buffer.from('000100002112a442000000000000000000000000', 'hex');
          const before = (await counts())['drop_stun_rate'] ?? 0;
          const begin = performance.now();
          for (let i = 0; i < 200; i++) await stranger.send(binding);
          const deadline = performance.now() + DEADLINE_MS;
          while (((await counts())['drop_stun_rate'] ?? 0) === before && performance.now() < deadline)
            await sleep(5);
          await sleep(50);
          const most = 20 + 20 * ((performance.now() - begin) / 1000 + 1);
          assert.ok(
            stranger.heard.length > 0 && stranger.heard.length <= most,
            `${stranger.heard.length} answers`,
          );
          assert.ok(stranger.heard.every(({ length }) => length === 32));
        });
      });
    },
  );
