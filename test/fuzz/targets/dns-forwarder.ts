// Names for guests, over sockets. Input: a kind, then bytes.
//
//   0   a datagram of a guest: a question goes to the resolver as it is, everything else nowhere
//   1   a datagram of the resolver: an answer to the question goes to the guest as it is, everything else nowhere
//   2   a guest's connection: questions of the right length are passed on until the first that is none
//   3   any text as /etc/resolv.conf
//   4   the same datagram or connection of who is no guest, or where there is no resolver: silence, or the end
//   5   a forwarder of its own, closed with questions under way, as many as a guest may have or one that nobody
//       answers; no second one listens beside it

import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { on, once } from 'node:events';
import { connect, createServer, isIP, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { DnsForwarder, hostResolvers, QUESTION_BOUNDS } from '../../../ts/exit/dns-forwarder.js';
import { concat, fromHex, utf8 } from '../../../ts/wire/bytes.js';
import { freePort } from '../../exit/free-port.js';
import type { FuzzTarget } from '../harness/target.js';

const LOCAL = '127.0.0.1';
const QUESTION = fromHex('abcd010000010000000000000161000001') ?? assert.fail();
const ANSWER = concat(fromHex('abcd8180') ?? assert.fail(), QUESTION.subarray(4));
/** Sent last: what came before it has been taken when this is asked. */
const MARK = concat(fromHex('fffe0100') ?? assert.fail(), QUESTION.subarray(4));

/** Fewer questions than a guest may ask at once. */
const MOST_OF_A_CONNECTION = 2048;

async function bound(port: number): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(port, LOCAL);
  await once(socket, 'listening');
  return socket;
}

const guest = await bound(0);
const resolver = await bound(await freePort());
/** The resolver's by TCP, at the port of its UDP. */
const received: Buffer[] = [];
const tcp = createServer((socket) => {
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => received.push(chunk));
  socket.on('end', () => socket.end());
});
tcp.listen(resolver.address().port, LOCAL);
await once(tcp, 'listening');
const port = await freePort();

let now = 0;
let resolvers: readonly string[] = [LOCAL];
const forwarder = new DnsForwarder(
  () => resolvers,
  () => now,
  { port, resolverPort: resolver.address().port, answerMs: 60_000 },
);
await forwarder.listen([LOCAL]);
forwarder.setGuests([LOCAL]);

/** RFC 1035, section 4.1.1: a header at least, QR 0, OPCODE 0; and no longer than anybody asks. */
const isQuestion = (message: Uint8Array): boolean =>
  message.length >= 12 && message.length <= 4096 && ((message[2] ?? 0xff) & 0xf8) === 0;

/** So many questions that the resolver is asked, with where each came from. */
async function askedOf(count: number): Promise<[Buffer, AddressInfo][]> {
  const asked: [Buffer, AddressInfo][] = [];
  const events = on(resolver, 'message');
  for await (const [question, from] of events as AsyncIterable<[Buffer, AddressInfo]>)
    if (asked.push([question, from]) === count) break;
  return asked;
}

async function datagram(message: Uint8Array): Promise<void> {
  if (Buffer.from(message).equals(MARK) || message.length > 60_000) return;
  const expected = isQuestion(message) ? [message, MARK] : [MARK];
  const asked = askedOf(expected.length);
  const refused = forwarder.counts.refused;
  guest.send(message, port, LOCAL);
  guest.send(MARK, port, LOCAL);
  const hex = (each: Uint8Array): string => Buffer.from(each).toString('hex');
  const questions = await asked;
  assert.deepEqual(questions.map(([question]) => hex(question)).toSorted(), expected.map(hex).toSorted());
  // None is left behind.
  for (const [question, from] of questions) {
    const answered = once(guest, 'message');
    resolver.send(question, from.port, from.address);
    await answered;
  }
  assert.equal(forwarder.counts.refused - refused, 2 - expected.length);
}

async function answer(message: Uint8Array): Promise<void> {
  if (message.length > 60_000) return;
  const asked = once(resolver, 'message');
  guest.send(QUESTION, port, LOCAL);
  const [, from] = (await asked) as [Buffer, AddressInfo];
  const answered = once(guest, 'message');
  resolver.send(message, from.port, from.address);
  resolver.send(ANSWER, from.port, from.address);
  const [got] = (await answered) as [Buffer];
  const isAnswer = message.length >= 12 && message[0] === QUESTION[0] && message[1] === QUESTION[1];
  assert.deepEqual(got, Buffer.from(isAnswer ? message : ANSWER));
}

async function connection(bytes: Uint8Array): Promise<void> {
  received.length = 0;
  let passed = 0;
  while (passed + 2 <= bytes.length) {
    const end = passed + 2 + ((bytes[passed] ?? 0) << 8) + (bytes[passed + 1] ?? 0);
    if (end > bytes.length || !isQuestion(bytes.subarray(passed + 2, end))) break;
    passed = end;
  }
  const socket = connect(port, LOCAL);
  socket.on('error', () => socket.destroy());
  socket.resume();
  await once(socket, 'connect');
  const closed = once(socket, 'close');
  socket.end(bytes);
  await closed;
  const got = Buffer.concat(received);
  // A connection that is ended for what is no question may take with it what was under way.
  assert.ok(Buffer.from(bytes.subarray(0, passed)).subarray(0, got.length).equals(got), 'questions alone');
  if (passed === bytes.length) assert.equal(got.length, passed);
  // Accepted in their order: with this one over, nothing of the one before is still to come.
  else await connection(lengthBefore(QUESTION));
}

async function refused(which: number, message: Uint8Array): Promise<void> {
  if (message.length > 60_000) return;
  const before = { ...forwarder.counts };
  const isGuest = (which & 2) !== 0;
  if (isGuest) resolvers = [];
  else forwarder.setGuests([]);
  received.length = 0;
  if (which & 1) {
    const socket = connect(port, LOCAL);
    socket.on('error', () => socket.destroy());
    socket.resume();
    const closed = once(socket, 'close');
    socket.write(lengthBefore(QUESTION));
    await closed;
  } else {
    // A guest's question is answered all the same (RFC 1035, RCODE 2).
    const failure = isGuest && isQuestion(message) ? once(guest, 'message') : undefined;
    guest.send(message, port, LOCAL);
    const [answered] = failure === undefined ? [] : ((await failure) as [Buffer]);
    if (answered !== undefined) {
      assert.deepEqual(answered.subarray(0, 2), Buffer.from(message.subarray(0, 2)));
      assert.equal(answered.readUInt16BE(2) & 0x800f, 0x8002);
      assert.ok(answered.length <= message.length);
    }
  }
  const told = (): number => forwarder.counts.refused + forwarder.counts.unanswered;
  while (told() === before.refused + before.unanswered) await delay(1);
  assert.equal(forwarder.counts.answered, before.answered);
  resolvers = [LOCAL];
  forwarder.setGuests([LOCAL]);
  // What is sent next is the first that the resolver hears of.
  await datagram(message);
  assert.equal(received.length, 0);
}

async function ended(which: number, message: Uint8Array): Promise<void> {
  const own = await freePort();
  const ports = { port: own, resolverPort: resolver.address().port, answerMs: which === 1 ? 10 : 60_000 };
  const make = (): DnsForwarder =>
    new DnsForwarder(
      () => [LOCAL],
      () => now,
      ports,
    );
  const [first, second] = [make(), make()];
  await first.listen([LOCAL]);
  assert.ok(first.listening);
  await assert.rejects(second.listen([LOCAL]), /^Error: port 53 at the inner addresses: /);
  assert.ok(!second.listening);
  first.setGuests([LOCAL]);
  const ask = async (): Promise<[Buffer, AddressInfo]> => {
    const asked = once(resolver, 'message');
    guest.send(isQuestion(message) ? message : QUESTION, own, LOCAL);
    return (await asked) as [Buffer, AddressInfo];
  };
  const [question, from] = await ask();
  let [unanswered, refused] = [1, 0];
  if (which === 1) while (first.counts.unanswered === 0) await delay(1); // as long as an answer is waited for
  if (which === 2) {
    // A guest has so many questions under way, and no more.
    for (; unanswered < QUESTION_BOUNDS.guest; unanswered++, now += 60_000) await ask();
    guest.send(QUESTION, own, LOCAL);
    for (; first.counts.refused === 0; refused = 1) await delay(1);
  }
  first.close();
  assert.deepEqual(first.counts, { answered: 0, unanswered, refused });
  // Its answer comes too late: what the guest hears next is another.
  resolver.send(question, from.port, from.address);
  await answer(ANSWER);
}

const lengthBefore = (message: Uint8Array): Uint8Array =>
  concat(Uint8Array.of(message.length >> 8, message.length & 255), message);
const tagged = (kind: number, ...bytes: Uint8Array[]): Uint8Array => concat(Uint8Array.of(kind), ...bytes);

const target: FuzzTarget = {
  timed: false,
  seeds: () => [
    tagged(0, QUESTION),
    tagged(0, ANSWER),
    tagged(0, new Uint8Array(4097)),
    tagged(0, QUESTION.subarray(0, 11)),
    tagged(1, ANSWER),
    tagged(1, MARK),
    tagged(1, QUESTION.subarray(0, 3)),
    tagged(2, lengthBefore(QUESTION), lengthBefore(QUESTION)),
    tagged(2, lengthBefore(QUESTION), lengthBefore(ANSWER), lengthBefore(QUESTION)),
    tagged(2, lengthBefore(QUESTION).subarray(0, 9)),
    ...[0, 1, 2, 3].map((which) => tagged(4, Uint8Array.of(which), QUESTION)),
    ...[0, 1, 2].map((which) => tagged(5, Uint8Array.of(which), QUESTION)),
    tagged(3, utf8('# nobody\nnameserver 192.0.2.1\n  nameserver  2001:db8::1 # x\nnameserver nothing\n')),
  ],
  dictionary: ['nameserver ', '\n', '127.0.0.53', '::1', '%eth0'],
  async run(input) {
    now += 60_000; // what a guest may ask comes back
    const bytes = input.subarray(1);
    const kind = (input[0] ?? 0) % 6;
    if (kind === 0) await datagram(bytes);
    else if (kind === 1) await answer(bytes);
    else if (kind === 2) await connection(bytes.subarray(0, MOST_OF_A_CONNECTION));
    else if (kind === 4) await refused(bytes[0] ?? 0, bytes.subarray(1));
    else if (kind === 5) await ended(bytes[0] ?? 0, bytes.subarray(1));
    else
      for (const address of hostResolvers(Buffer.from(bytes).toString('utf8'))) assert.ok(isIP(address) > 0);
  },
  async close() {
    forwarder.close();
    guest.close();
    resolver.close();
    tcp.close();
    await once(tcp, 'close');
  },
};
export default target;
