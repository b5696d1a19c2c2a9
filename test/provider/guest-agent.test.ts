// The host's side of the agent in a guest, beside an agent that says what the test wants.

import assert from 'node:assert/strict';
import { Readable, Writable, type Duplex } from 'node:stream';
import { describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import {
  AgentFrameReader,
  Kind,
  agentFrame,
  commandPayload,
} from '../../ts/provider/machine/agent-frames.js';
import { GuestAgent } from '../../ts/provider/machine/guest-agent.js';
import { streamPair } from './stream-pair.js';

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** An agent that keeps what it is told, and says what it is asked to. */
class FakeAgent {
  readonly heard: { readonly kind: number; readonly payload: Buffer }[] = [];
  readonly #reader = new AgentFrameReader();

  constructor(readonly stream: Duplex) {
    stream.on('data', (chunk: Buffer) => this.heard.push(...(this.#reader.push(chunk) ?? [])));
    stream.on('error', () => undefined);
  }

  say(kind: number, payload?: Uint8Array): void {
    this.stream.write(agentFrame(kind, payload));
  }

  greet(granted: number): void {
    this.say(Kind.ready, Buffer.concat([Buffer.of(1), number(granted)]));
  }

  payloads(kind: number): Buffer {
    return Buffer.concat(this.heard.filter((each) => each.kind === kind).map(({ payload }) => payload));
  }

  async until(condition: () => boolean): Promise<void> {
    for (let waited = 0; waited < 10_000 && !condition(); waited += 5) await setTimeout(5);
    assert.ok(condition());
  }
}

class Collected extends Writable {
  readonly parts: Buffer[] = [];
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.parts.push(chunk);
    done();
  }
  get text(): string {
    return Buffer.concat(this.parts).toString();
  }
}

function world(granted = 1000): { agent: GuestAgent; guest: FakeAgent } {
  const [ours, its] = streamPair();
  const guest = new FakeAgent(its);
  const agent = new GuestAgent(ours);
  guest.greet(granted);
  return { agent, guest };
}

describe('frames of the agent', () => {
  it('are the same in any pieces', () => {
    const frame = fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 300 }));
    fc.assert(
      fc.property(
        fc.array(frame),
        fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 }),
        (frames, sizes) => {
          const bytes = Buffer.concat(frames.map(([kind, payload]) => agentFrame(kind, payload)));
          const reader = new AgentFrameReader();
          const seen: [number, Uint8Array][] = [];
          for (let at = 0, turn = 0; at < bytes.length; turn++) {
            const end = at + (sizes[turn % sizes.length] ?? 1);
            for (const { kind, payload } of reader.push(bytes.subarray(at, end)) ?? [])
              seen.push([kind, new Uint8Array(payload)]);
            at = end;
          }
          assert.deepEqual(seen, frames);
        },
      ),
    );
  });

  it('are no longer than they may be', () => {
    assert.equal(new AgentFrameReader().push(Buffer.of(17, 1, 0, 1)), undefined);
    assert.equal(commandPayload(['x'.repeat(65_536)], []), undefined);
    assert.equal(commandPayload(['a\0b'], []), undefined);
    assert.equal(commandPayload([], ['A=b']), undefined);
  });
});

describe('a command in a guest', () => {
  it('is started with its words, has its streams carried, and its status told', async () => {
    const { agent, guest } = world();
    await agent.ready;
    const [output, errors] = [new Collected(), new Collected()];
    const end = agent.run({ words: ['ls', '-l'], environment: ['A=b'], output, errors });
    await guest.until(() => guest.heard.length >= 3);
    assert.deepEqual(
      guest.heard.map(({ kind }) => kind),
      [Kind.seed, Kind.start, Kind.inputEnd],
    );
    assert.equal(guest.heard[0]?.payload.length, 32);
    assert.equal(guest.payloads(Kind.start).toString('latin1'), '\x02\0ls\0-l\0A=b\0');
    guest.say(Kind.output, Buffer.from('out'));
    guest.say(Kind.errors, Buffer.from('err'));
    guest.say(Kind.exited, Uint8Array.of(3));
    assert.deepEqual(await end, { status: 3 });
    assert.deepEqual([output.text, errors.text], ['out', 'err']);
    // And another one after it.
    const next = agent.run({ words: ['no'], output, errors });
    guest.say(Kind.failed, Buffer.from('\x7fno: not found'));
    assert.deepEqual(await next, { status: 127, failure: 'no: not found' });
  });

  it('is sent no more input than was granted, and all of it in the end', async () => {
    const { agent, guest } = world(1000);
    await agent.ready;
    const sent = Buffer.from(Array.from({ length: 5000 }, (_, at) => at % 251));
    const input = Readable.from([sent.subarray(0, 3), sent.subarray(3)], { objectMode: false });
    const end = agent.run({ words: ['cat'], input, output: new Collected(), errors: new Collected() });
    let taken = 0;
    while (taken < sent.length) {
      const expected = Math.min(sent.length, taken + 1000);
      await guest.until(() => guest.payloads(Kind.input).length === expected);
      await setTimeout(20);
      assert.equal(guest.payloads(Kind.input).length, expected);
      guest.say(Kind.taken, number(expected - taken));
      taken = expected;
    }
    await guest.until(() => guest.heard.some(({ kind }) => kind === Kind.inputEnd));
    assert.deepEqual(guest.payloads(Kind.input), sent);
    guest.say(Kind.exited, Uint8Array.of(0));
    assert.deepEqual(await end, { status: 0 });
  });

  it('waits when nobody reads what it prints', async () => {
    const { agent, guest } = world();
    await agent.ready;
    let release: () => void = () => undefined;
    const seen: number[] = [];
    const output = new Writable({
      highWaterMark: 10,
      write(chunk: Buffer, _encoding, done) {
        seen.push(chunk.length);
        release = () => {
          release = () => undefined;
          done();
        };
      },
    });
    const end = agent.run({ words: ['yes'], output, errors: new Collected() });
    const chunk = Buffer.alloc(20_000);
    for (let i = 0; i < 100; i++) guest.say(Kind.output, chunk);
    await setTimeout(100);
    assert.ok(guest.stream.writableLength > 0, 'it is held back');
    guest.say(Kind.exited, Uint8Array.of(0));
    for (let turns = 0; turns < 200; turns++) {
      release();
      await setTimeout(1);
    }
    assert.deepEqual(await end, { status: 0 });
    assert.equal(seen.reduce((sum, each) => sum + each, 0) + output.writableLength, 100 * chunk.length);
  });

  it('waits for a full writer once, however many frames find it full', async () => {
    const { agent, guest } = world();
    await agent.ready;
    const written: (() => void)[] = [];
    const output = new Writable({ highWaterMark: 1, write: (_chunk, _encoding, done) => written.push(done) });
    const end = agent.run({ words: ['x'], output, errors: new Collected() });
    guest.stream.write(Buffer.concat(new Array<Buffer>(100).fill(agentFrame(Kind.output, Uint8Array.of(1)))));
    await guest.until(() => written.length > 0);
    assert.equal(output.listenerCount('drain'), 1);
    guest.say(Kind.exited, Uint8Array.of(0));
    for (let turns = 0; turns < 200; turns++) {
      written.shift()?.();
      await setTimeout(1);
    }
    assert.deepEqual(await end, { status: 0 });
    assert.equal(output.listenerCount('drain'), 0);
  });

  it('has little waiting for a guest that grants much and reads nothing', async () => {
    const [ours, its] = streamPair();
    const agent = new GuestAgent(ours);
    its.write(agentFrame(Kind.ready, Buffer.concat([Buffer.of(1), number(0xffffffff)])));
    await agent.ready;
    const chunk = Buffer.alloc(65_536);
    let offered = 0;
    const input = new Readable({
      read() {
        this.push(offered++ < 200 ? chunk : null);
      },
    });
    const end = agent.run({ words: ['x'], input, output: new Collected(), errors: new Collected() });
    end.catch(() => undefined);
    for (let i = 0; i < 100; i++) its.write(agentFrame(Kind.taken, number(0xffffffff)));
    await setTimeout(100);
    assert.ok(ours.writableLength < 4 * chunk.length, `${ours.writableLength} bytes wait`);
    let sent = 0;
    const reader = new AgentFrameReader();
    its.on('data', (piece: Buffer) => {
      for (const { kind, payload } of reader.push(piece) ?? [])
        if (kind === Kind.input) sent += payload.length;
        else if (kind === Kind.inputEnd) its.write(agentFrame(Kind.exited, Uint8Array.of(0)));
    });
    assert.deepEqual(await end, { status: 0 });
    assert.equal(sent, 200 * chunk.length);
  });

  it('fails when the guest is gone, or says what no agent says', async () => {
    const settings = { words: ['x'], output: new Collected(), errors: new Collected() };
    const gone = world();
    await gone.agent.ready;
    const cut = gone.agent.run(settings);
    gone.guest.stream.end();
    await assert.rejects(cut, /the guest is gone/);
    await assert.rejects(gone.agent.run(settings), /the guest is gone/);
    for (const said of [
      agentFrame(99),
      agentFrame(Kind.exited),
      agentFrame(Kind.taken, Uint8Array.of(1)),
      agentFrame(Kind.failed),
      agentFrame(Kind.ready, Uint8Array.of(2, 0, 0, 0, 0)),
      agentFrame(Kind.ready, Uint8Array.of(1, 0, 0, 0, 0)),
      Buffer.of(17, 1, 0, 1),
    ]) {
      const { agent, guest } = world();
      await agent.ready;
      const running = agent.run(settings);
      guest.stream.write(said);
      await assert.rejects(running, /what no agent says/, said.toString('hex'));
    }
  });

  it('is one at a time, and refused where its words cannot be said', async () => {
    const { agent, guest } = world();
    await agent.ready;
    const settings = { output: new Collected(), errors: new Collected() };
    const first = agent.run({ words: ['a'], ...settings });
    await assert.rejects(agent.run({ words: ['b'], ...settings }), /another command runs/);
    await assert.rejects(agent.run({ words: ['\0'], ...settings }), /zero bytes/);
    agent.signal(15);
    await guest.until(() => guest.payloads(Kind.signal).equals(Buffer.of(15)));
    guest.say(Kind.exited, Uint8Array.of(143));
    assert.deepEqual(await first, { status: 143 });
  });

  it('is never begun when the stream ends before the agent said a word', async () => {
    const [ours, its] = streamPair();
    const agent = new GuestAgent(ours);
    its.destroy();
    await assert.rejects(agent.ready, /gone|closed/);
  });
});
