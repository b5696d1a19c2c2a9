// What every engine must do, said once over the engine interface: run with the same engine on all
// sides, or with different ones to show that they understand each other. Engines run on loopback.

import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes, randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { CONTACT_LEG, FrameKind, encodeFrame } from '../../ts/wire/frame.js';
import { UNCHARGED, type Leg, type LegKey, type LegTarget } from '../../ts/wire/leg.js';
import type { LegLimits } from '../../ts/wire/limits.js';
import {
  formatSocketAddress,
  parseSocketAddress,
  sameSocketAddress,
  type SocketAddress,
} from '../../ts/wire/socket-address.js';
import {
  EngineError,
  type Engine,
  type EngineEvent,
  type EngineOptions,
  type PeerConfig,
  type PeerEndpoint,
  type SessionKey,
} from '../../ts/contract/engine.js';

export type OpenEngine = (options: EngineOptions) => Promise<Engine> | Engine;

/** The engines that take part: two ends and a relay between them. */
export interface ConformanceEngines {
  readonly a: OpenEngine;
  readonly b: OpenEngine;
  readonly relay: OpenEngine;
}

export interface ConformanceScenario {
  /** A sentence. */
  readonly name: string;
  readonly run: (engines: ConformanceEngines) => Promise<void>;
}

const TIMEOUT_MS = 20_000;
/** A responder takes one initiation of a peer in 20 ms; an engine need not start more than five a second. */
const INITIATION_DISTANCE_MS = 250;

/** An engine on loopback with everything it said. */
export class ConformanceNode {
  readonly events: EngineEvent[] = [];

  private constructor(
    readonly engine: Engine,
    readonly privateKey: Uint8Array,
    readonly sessionKey: SessionKey,
  ) {
    engine.onEvents((events) => this.events.push(...events));
  }

  static async open(
    open: OpenEngine,
    options: Partial<EngineOptions> = {},
    keys: { readonly privateKey: Uint8Array; readonly sessionKey: SessionKey } = sessionKeys(),
  ): Promise<ConformanceNode> {
    const engine = await open({
      privateKey: Uint8Array.from(keys.privateKey),
      port: 0,
      maxLegs: 64,
      accounts: { identities: 4, networks: 4, classes: 4 },
      maxPeers: 64,
      controlFramesPerSecond: 1000,
      ...options,
    });
    return new ConformanceNode(engine, keys.privateKey, keys.sessionKey);
  }

  get address(): SocketAddress {
    return loopback(this.engine.port);
  }

  count(name: string): number {
    const value = this.engine.counters().get(name);
    assert.ok(value !== undefined, `the engine has no counter ${name}`);
    return value;
  }

  setPeer(peer: { readonly sessionKey: SessionKey }, config: Partial<PeerConfig> = {}): void {
    this.engine.setPeers([
      {
        sessionKey: peer.sessionKey,
        presharedKey: undefined,
        allowedIps: [],
        endpoint: undefined,
        persistentKeepalive: 0,
        ...config,
      },
    ]);
  }

  send(peer: { readonly sessionKey: SessionKey }, payload: Uint8Array): void {
    this.engine.sendControl([{ peer: peer.sessionKey, payload }]);
  }

  /** Waits for an event that `matches`, seen before or yet to come. */
  async event<Type extends EngineEvent['type']>(
    type: Type,
    matches: (event: Extract<EngineEvent, { type: Type }>) => boolean = () => true,
  ): Promise<Extract<EngineEvent, { type: Type }>> {
    const find = (): Extract<EngineEvent, { type: Type }> | undefined =>
      this.events.find(
        (event): event is Extract<EngineEvent, { type: Type }> =>
          event.type === type && matches(event as Extract<EngineEvent, { type: Type }>),
      );
    await until(() => find() !== undefined, `event ${type}`);
    const found = find();
    assert.ok(found !== undefined);
    return found;
  }

  /** Waits for a control payload that begins with these bytes. */
  async receives(from: { readonly sessionKey: SessionKey }, payload: Uint8Array): Promise<void> {
    await this.event(
      'control',
      (event) =>
        event.peer === from.sessionKey &&
        Buffer.compare(event.payload.subarray(0, payload.length), payload) === 0,
    );
  }
}

/** A control frame for the control plane, with a body of its own. */
export function message(body = 8): Uint8Array {
  return new Uint8Array([0xc0, 1, body & 0xff, body >> 8, ...randomBytes(body)]);
}

/** A ping (docs/protocol.md), and what answers it. */
function pingAndPong(): [Uint8Array, Uint8Array] {
  const token = randomBytes(8);
  const frame = (kind: number): Uint8Array => new Uint8Array([0xc0, kind, 8, 0, ...token]);
  return [frame(2), frame(3)];
}

/** A payload that arrives. */
export async function deliver(from: ConformanceNode, to: ConformanceNode): Promise<void> {
  const payload = message();
  from.send(to, payload);
  await to.receives(from, payload);
}

/** One each way. */
export async function exchange(a: ConformanceNode, b: ConformanceNode): Promise<void> {
  await deliver(a, b);
  await deliver(b, a);
}

export function sessionKeys(): { privateKey: Uint8Array; sessionKey: SessionKey } {
  const { d = '', x = '' } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' });
  return {
    privateKey: Uint8Array.from(Buffer.from(d, 'base64url')),
    sessionKey: Buffer.from(x, 'base64url').toString('hex'),
  };
}

export async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + TIMEOUT_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what}: not seen within ${TIMEOUT_MS} ms`);
    await sleep(5);
  }
}

function loopback(port: number): SocketAddress {
  const address = parseSocketAddress(`127.0.0.1:${port}`);
  assert.ok(address !== undefined);
  return address;
}

function legKey(): LegKey {
  return { id: randomInt(1, 2 ** 32), key: Uint8Array.from(randomBytes(16)), epoch: randomInt(16) };
}

function leg(key: LegKey, fields: Partial<Leg> & Pick<Leg, 'action'>): Leg {
  return {
    ...key,
    source: undefined,
    next: undefined,
    lifetimeMs: undefined,
    charging: UNCHARGED,
    ...fields,
  };
}

/** A circuit A – R – B as circuit-open leaves it (docs/protocol.md, "A circuit"). */
export function connectCircuit(
  a: ConformanceNode,
  relay: ConformanceNode,
  b: ConformanceNode,
  limits?: LegLimits,
): {
  readonly legOfA: number;
  readonly legOfB: number;
  readonly ends: readonly [LegKey, LegKey];
  readonly relayLegs: readonly [LegKey, LegKey];
} {
  const [toA, toB, fromA, fromB] = [legKey(), legKey(), legKey(), legKey()];
  const at = (node: ConformanceNode, key: LegKey): LegTarget => ({ ...key, address: node.address });
  a.engine.installLegs([leg(toA, { action: 'deliver', source: relay.address, next: at(relay, fromA) })]);
  b.engine.installLegs([leg(toB, { action: 'deliver', source: relay.address, next: at(relay, fromB) })]);
  const charging = { ...UNCHARGED, limits: limits === undefined ? 0 : 1 };
  if (limits !== undefined) relay.engine.setLimits(1, limits);
  relay.engine.installLegs([
    leg(fromA, { action: 'forward', source: a.address, next: at(b, toB), charging }),
    leg(fromB, { action: 'forward', source: b.address, next: at(a, toA), charging }),
  ]);
  return { legOfA: toA.id, legOfB: toB.id, ends: [toA, toB], relayLegs: [fromA, fromB] };
}

const STRANGERS_KEY = new Uint8Array(16).fill(5);

/** A stranger: a socket that sends frames on the contact leg, from a loopback address of its own. */
class Stranger {
  static readonly frame = encodeFrame({
    kind: FrameKind.contact,
    hopLimit: 1,
    epoch: 0,
    legId: CONTACT_LEG,
    key: STRANGERS_KEY,
    payload: new Uint8Array(16),
  });

  private constructor(readonly socket: Socket) {}

  static async at(host: string): Promise<Stranger> {
    const socket = createSocket('udp4');
    socket.bind(0, host);
    await once(socket, 'listening');
    return new Stranger(socket);
  }

  /** Sends until `enough`, at most `burst` at a time: a socket's queue has an end. */
  async flood(node: ConformanceNode, enough: () => boolean, burst = 50): Promise<void> {
    const end = performance.now() + TIMEOUT_MS;
    while (!enough()) {
      if (performance.now() > end) throw new Error(`the flood: not enough within ${TIMEOUT_MS} ms`);
      this.send(node, burst);
      await sleep(5);
    }
  }

  send({ engine }: ConformanceNode, count: number): void {
    for (let i = 0; i < count; i++) this.socket.send(Stranger.frame, engine.port, '127.0.0.1');
  }

  close(): void {
    this.socket.close();
  }
}

/** A node that listens to strangers, and one at each of these addresses of this host. */
async function withStrangers(
  node: ConformanceNode,
  hosts: readonly string[],
  run: (strangers: readonly Stranger[]) => Promise<void>,
): Promise<void> {
  node.engine.installLegs([leg({ id: CONTACT_LEG, key: STRANGERS_KEY, epoch: 0 }, { action: 'control' })]);
  const strangers = await Promise.all(hosts.map((host) => Stranger.at(host)));
  try {
    await run(strangers);
  } finally {
    for (const stranger of strangers) stranger.close();
  }
}

/**
 * Each sends so many, one after the other. @returns how many were taken, and for how many seconds budgets have filled
 * since the first was sent
 */
async function takenOfEach(
  node: ConformanceNode,
  strangers: readonly Stranger[],
  count: number,
): Promise<{ readonly taken: number; readonly seconds: number }> {
  const heard = (): number => node.count('control_frames') + node.count('drop_control_rate');
  const before = node.count('control_frames');
  const begin = performance.now();
  for (const stranger of strangers) {
    const all = heard() + count;
    stranger.send(node, count);
    await until(() => heard() === all, 'what was sent');
  }
  return { taken: node.count('control_frames') - before, seconds: (performance.now() - begin) / 1000 };
}

/** All of 127.0.0.0/8 is the host's; engines that bind each address by itself are told of this one. */
const SECOND_LOOPBACK = '127.0.0.2';

/** This host's interfaces, with the second loopback address on the list. */
export function interfacesOfTwoLoopbacks(): ReturnType<typeof networkInterfaces> {
  const second = {
    address: SECOND_LOOPBACK,
    netmask: '255.0.0.0',
    family: 'IPv4' as const,
    mac: '00:00:00:00:00:00',
    internal: true,
    cidr: `${SECOND_LOOPBACK}/8`,
  };
  return { ...networkInterfaces(), second: [second] };
}

/** A socket at 127.0.0.1 that notes where answers come from. */
class Asker {
  /** Source addresses of what came. */
  readonly heard: string[] = [];

  private constructor(readonly socket: Socket) {
    socket.on('message', (_, { address }) => this.heard.push(address));
  }

  static async open(): Promise<Asker> {
    const { socket } = await Stranger.at('127.0.0.1');
    return new Asker(socket);
  }

  get address(): SocketAddress {
    return loopback(this.socket.address().port);
  }

  ask({ engine }: ConformanceNode, datagram: Uint8Array, at = SECOND_LOOPBACK): void {
    this.socket.send(datagram, engine.port, at);
  }

  /** Asks until it is answered from there: what is remembered of remotes may need a moment to be set up. */
  async answeredFrom(node: ConformanceNode, datagram: Uint8Array): Promise<void> {
    this.heard.length = 0;
    this.ask(node, datagram);
    await until(() => {
      if (this.heard.length > 0 && this.heard.at(-1) !== SECOND_LOOPBACK) this.ask(node, datagram);
      return this.heard.includes(SECOND_LOOPBACK);
    }, `an answer from ${SECOND_LOOPBACK}`);
  }
}

/** Opens nodes, runs `body`, and closes them whatever happens. */
async function withNodes<Nodes extends readonly Promise<ConformanceNode>[]>(
  nodes: readonly [...Nodes],
  body: (...nodes: { [Index in keyof Nodes]: ConformanceNode }) => Promise<void> | void,
): Promise<void> {
  const opened = await Promise.all(nodes);
  try {
    await body(...opened);
  } finally {
    await Promise.all(opened.map((node) => node.engine.close()));
  }
}

export const direct = (node: ConformanceNode): { endpoint: PeerEndpoint } => ({
  endpoint: { address: node.address },
});

export function scenario(
  name: string,
  body: (a: ConformanceNode, b: ConformanceNode, relay: ConformanceNode) => Promise<void>,
): ConformanceScenario {
  return {
    name,
    run: ({ a, b, relay }) =>
      withNodes([ConformanceNode.open(a), ConformanceNode.open(b), ConformanceNode.open(relay)], body),
  };
}

export const conformanceScenarios: readonly ConformanceScenario[] = [
  scenario('a control payload starts a session and arrives, and an answer goes back', async (a, b) => {
    a.setPeer(b, direct(b));
    b.setPeer(a);
    await exchange(a, b);
    const { endpoint } = await b.event('session', ({ peer }) => peer === a.sessionKey);
    assert.ok('address' in endpoint && sameSocketAddress(endpoint.address, a.address));
    await a.event('session', ({ peer }) => peer === b.sessionKey);
    assert.equal(a.count('handshakes_completed'), 1);
    assert.equal(b.count('handshakes_completed'), 1);
    const [status] = b.engine.peers();
    assert.ok((status?.rxBytes ?? 0) >= 148 + 48 && (status?.txBytes ?? 0) >= 92 + 48);
    assert.ok((status?.handshakeAgeMs ?? Infinity) < TIMEOUT_MS);
  }),

  scenario('the payload arrives with its padding to 16 bytes and nothing else', async (a, b) => {
    a.setPeer(b, direct(b));
    b.setPeer(a);
    a.send(b, message());
    const { payload } = await b.event('control');
    assert.equal(payload.length, 16);
    assert.deepEqual([...payload.subarray(12)], [0, 0, 0, 0]);
  }),

  scenario(
    'of what a peer sends to the control plane 400 at once arrive, then 200 a second',
    async (a, b) => {
      a.setPeer(b, direct(b));
      b.setPeer(a);
      a.send(b, message());
      await b.event('control');
      const begin = performance.now();
      const heard = (): number => b.count('control_messages') + b.count('drop_peer_control_rate');
      for (let sent = 1; sent < 1500; sent += 50) {
        for (let i = 0; i < 50; i++) a.send(b, message());
        await until(() => heard() >= sent + 50, 'what was sent');
      }
      const taken = b.count('control_messages');
      const seconds = (performance.now() - begin) / 1000;
      assert.ok(taken >= 400 && taken <= 402 + 200 * seconds, `${taken} in ${seconds} s`);
      const delivered = (): number => b.events.filter(({ type }) => type === 'control').length;
      await until(() => delivered() === taken, 'an event for each that was taken');
    },
  ),

  scenario('a ping is answered by the engine, and no control plane hears of it', async (a, b) => {
    a.setPeer(b, direct(b));
    b.setPeer(a);
    const [ping, pong] = pingAndPong();
    a.send(b, ping);
    await a.receives(b, pong);
    const looksLikeOne = new Uint8Array([...ping, 0, 0, 0, 1]);
    a.send(b, looksLikeOne);
    await b.receives(a, looksLikeOne);
    const count = (node: ConformanceNode): unknown =>
      ['pings_answered', 'control_messages', 'drop_peer_control_rate'].map((name) => node.count(name));
    assert.deepEqual(
      [count(a), count(b)],
      [
        [0, 1, 0],
        [1, 1, 0],
      ],
    );
    assert.deepEqual(b.events.filter(({ type }) => type === 'control').length, 1);
  }),

  scenario('pings are answered within what a peer may send to the control plane', async (a, b) => {
    a.setPeer(b, direct(b));
    b.setPeer(a);
    a.send(b, message());
    await b.event('control');
    const begin = performance.now();
    const heard = (): number => b.count('pings_answered') + b.count('drop_peer_control_rate');
    for (let sent = 0; sent < 1500; sent += 50) {
      for (let i = 0; i < 50; i++) a.send(b, pingAndPong()[0]);
      await until(() => heard() >= sent + 50, 'what was sent');
    }
    const answered = b.count('pings_answered');
    const seconds = (performance.now() - begin) / 1000;
    assert.ok(answered >= 399 && answered <= 402 + 200 * seconds, `${answered} in ${seconds} s`);
    assert.equal(b.count('control_messages'), 1);
  }),

  scenario(
    'a peer that comes from here and there in turns is told of four times a second',
    async (a, b, relay) => {
      const { legOfA, legOfB } = connectCircuit(a, relay, b);
      a.setPeer(b, direct(b));
      b.setPeer(a);
      a.send(b, message());
      await b.event('control');
      const begin = performance.now();
      let moved = 0;
      while (performance.now() - begin < 600) {
        for (const endpoint of [{ leg: legOfA }, direct(b).endpoint, { leg: legOfA }]) {
          a.setPeer(b, { endpoint, redirect: true });
          const before = b.count('transport_received');
          a.send(b, message());
          await until(() => b.count('transport_received') > before, 'the message');
          moved++;
        }
      }
      const told = (): EngineEvent[] => b.events.filter(({ type }) => type === 'endpoint');
      const last = (): EngineEvent | undefined => told().at(-1);
      await until(() => {
        const event = last();
        return event?.type === 'endpoint' && 'leg' in event.endpoint && event.endpoint.leg === legOfB;
      }, 'where it is at last');
      await sleep(300);
      const seconds = (performance.now() - begin) / 1000;
      assert.ok(
        moved > 2 * told().length && told().length <= 1 + 4 * seconds,
        `${told().length} of ${moved}`,
      );
      const event = last();
      assert.ok(event?.type === 'endpoint' && 'leg' in event.endpoint && event.endpoint.leg === legOfB);
    },
  ),

  scenario('both ends may start at once', async (a, b) => {
    a.setPeer(b, direct(b));
    b.setPeer(a, direct(a));
    const [fromA, fromB] = [message(), message()];
    a.send(b, fromA);
    b.send(a, fromB);
    await Promise.all([b.receives(a, fromA), a.receives(b, fromB)]);
  }),

  scenario('a preshared key has to be the same on both ends, and applies to a live session', async (a, b) => {
    const presharedKey = Uint8Array.from(randomBytes(32));
    a.setPeer(b, { ...direct(b), presharedKey });
    b.setPeer(a, { presharedKey });
    await deliver(a, b);
    b.setPeer(a);
    const dropped = b.count('drop_unknown_index');
    a.send(b, message());
    await until(() => b.count('drop_unknown_index') > dropped, 'the old session to be gone');
    await sleep(INITIATION_DISTANCE_MS);
    a.setPeer(b);
    await deliver(a, b);
  }),

  scenario('handshake() renews the keys of a running session without losing a payload', async (a, b) => {
    a.setPeer(b, direct(b));
    b.setPeer(a);
    a.send(b, message());
    await b.event('control');
    await sleep(INITIATION_DISTANCE_MS);
    const payloads = Array.from({ length: 20 }, () => message());
    payloads.forEach((payload, index) => {
      if (index === 5) a.engine.handshake(b.sessionKey);
      a.send(b, payload);
    });
    for (const payload of payloads) await b.receives(a, payload);
    await until(() => b.count('handshakes_completed') === 2, 'the second handshake');
  }),

  scenario('a peer that is not known gets no answer', async (a, b) => {
    a.setPeer(b, direct(b));
    a.send(b, message());
    await until(() => b.count('drop_unknown_peer') === 1, 'the stranger to be dropped');
    assert.equal(b.count('tx_datagrams'), 0);
  }),

  scenario('a payload for a peer without an endpoint asks for a path and waits', async (a, b) => {
    a.setPeer(b);
    b.setPeer(a);
    const payload = message();
    a.send(b, payload);
    const { peer } = await a.event('path-needed');
    assert.equal(peer, b.sessionKey);
    a.setPeer(b, direct(b));
    await b.receives(a, payload);
  }),

  scenario('a session runs over a relay that only sees frames', async (a, b, relay) => {
    const { legOfA, legOfB, relayLegs } = connectCircuit(a, relay, b);
    a.setPeer(b, { endpoint: { leg: legOfA } });
    b.setPeer(a);
    await exchange(a, b);
    const { endpoint } = await b.event('session');
    assert.deepEqual(endpoint, { leg: legOfB });
    assert.ok(relay.count('forwarded_packets') >= 4);
    assert.equal(relay.count('handshake_initiations_received'), 0);
    assert.ok(b.count('delivered_packets') >= 2);
    for (const { id } of relayLegs) {
      const status = relay.engine.legs().find((entry) => entry.id === id);
      assert.ok((status?.packets ?? 0) >= 2 && (status?.bytes ?? 0) >= 2 * 64);
      assert.ok(status?.idleMs !== undefined && status.idleMs < TIMEOUT_MS);
    }
    // What one side says it sent is what the other has counted.
    const [fromA, fromB] = relay.engine.legCounters(relayLegs.map(({ id }) => id));
    const [ofA] = a.engine.legCounters([legOfA]);
    const [ofB, none] = b.engine.legCounters([legOfB, legOfB + 1]);
    assert.equal(none, undefined);
    assert.ok(fromA && fromB && ofA && ofB);
    assert.deepEqual([ofA.sentPackets, ofA.sentBytes], [fromA.packets, fromA.bytes]);
    assert.deepEqual([ofB.sentPackets, ofB.sentBytes], [fromB.packets, fromB.bytes]);
    assert.deepEqual([ofB.packets, ofB.bytes], [fromA.packets, fromA.bytes]);
  }),

  scenario(
    'a relayed session moves to a direct address and back, by where packets come from',
    async (a, b, relay) => {
      const { legOfA, legOfB } = connectCircuit(a, relay, b);
      a.setPeer(b, { endpoint: { leg: legOfA } });
      b.setPeer(a);
      a.send(b, message());
      await b.event('control');
      a.setPeer(b, { ...direct(b), redirect: true });
      a.send(b, message());
      await b.event(
        'endpoint',
        ({ endpoint }) => 'address' in endpoint && sameSocketAddress(endpoint.address, a.address),
      );
      const { length } = b.events;
      a.setPeer(b, { endpoint: { leg: legOfA }, redirect: true });
      a.send(b, message());
      await b.event(
        'endpoint',
        (event) =>
          b.events.indexOf(event) >= length && 'leg' in event.endpoint && event.endpoint.leg === legOfB,
      );
    },
  ),

  scenario(
    'an endpoint given while a session runs takes none of its packets, only handshakes',
    async (a, b) => {
      a.setPeer(b, direct(b));
      b.setPeer(a);
      a.send(b, message());
      await b.event('control');
      const elsewhere = await Stranger.at('127.0.0.1');
      try {
        const seen: number[] = [];
        elsewhere.socket.on('message', (datagram) => seen.push(datagram[0] ?? 0));
        a.setPeer(b, { endpoint: { address: loopback(elsewhere.socket.address().port) } });
        for (let i = 0; i < 3; i++) {
          const sent = message();
          a.send(b, sent);
          await b.receives(a, sent);
        }
        await sleep(INITIATION_DISTANCE_MS);
        a.engine.handshake(b.sessionKey);
        await until(() => seen.length > 0, 'the handshake where it was given');
        const sent = message();
        a.send(b, sent);
        await b.receives(a, sent);
        assert.deepEqual(seen, [1]);
        // Where it proved to be, it is again.
        a.setPeer(b, direct(b));
        await sleep(INITIATION_DISTANCE_MS);
        a.engine.handshake(b.sessionKey);
        await until(() => b.count('handshakes_completed') === 2, 'the handshake');
        a.setPeer(b, { endpoint: { address: loopback(elsewhere.socket.address().port) }, redirect: true });
        a.send(b, message());
        await until(() => seen.length > 1, 'the packet where it was sent on purpose');
        assert.deepEqual(seen, [1, 4]);
      } finally {
        elsewhere.close();
      }
    },
  ),

  scenario(
    'an endpoint given while a session runs is where it goes once a handshake completed',
    async (a, b, relay) => {
      const { legOfA, legOfB } = connectCircuit(a, relay, b);
      a.setPeer(b, direct(b));
      b.setPeer(a);
      a.send(b, message());
      await b.event('control');
      a.setPeer(b, { endpoint: { leg: legOfA } });
      a.send(b, message());
      await until(() => b.count('control_messages') === 2, 'the message');
      assert.equal(relay.count('forwarded_packets'), 0);
      await sleep(INITIATION_DISTANCE_MS);
      a.engine.handshake(b.sessionKey);
      await b.event('endpoint', ({ endpoint }) => 'leg' in endpoint && endpoint.leg === legOfB);
      await until(() => a.count('handshakes_completed') === 2, 'the handshake');
      assert.deepEqual(a.engine.peers()[0]?.endpoint, { leg: legOfA });
    },
  ),

  scenario(
    'a peer goes on by a leg as it is after a change, and by none that was removed',
    async (a, b, relay) => {
      const { legOfA, ends, relayLegs } = connectCircuit(a, relay, b);
      const [toA, toB] = ends;
      a.setPeer(b, { endpoint: { leg: legOfA } });
      b.setPeer(a);
      a.send(b, message());
      await b.event('control');
      // The relay knows a's frames by another leg from now on.
      const fromA = legKey();
      relay.engine.removeLegs([relayLegs[0].id]);
      relay.engine.installLegs([
        leg(fromA, { action: 'forward', source: a.address, next: { ...toB, address: b.address } }),
      ]);
      a.engine.installLegs([
        leg(toA, { action: 'deliver', source: relay.address, next: { ...fromA, address: relay.address } }),
      ]);
      const sent = message();
      a.send(b, sent);
      await b.receives(a, sent);
      a.engine.removeLegs([legOfA]);
      const forwarded = relay.count('forwarded_packets');
      a.send(b, message());
      await a.event('path-needed');
      assert.equal(a.engine.peers()[0]?.endpoint, undefined);
      assert.equal(relay.count('forwarded_packets'), forwarded);
      const again = message();
      a.setPeer(b, direct(b));
      a.send(b, again);
      await b.receives(a, again);
    },
  ),

  scenario(
    'a relay drops what comes from another address, and what is over its rate',
    async (a, b, relay) => {
      // Room for a handshake and some, at 16 kB/s.
      const { legOfA, relayLegs } = connectCircuit(a, relay, b, {
        rate: { bytesPerSecond: 16_000, burstMs: 62.5 },
      });
      a.setPeer(b, { endpoint: { leg: legOfA } });
      b.setPeer(a);
      a.send(b, message());
      await b.event('control');
      for (let i = 0; i < 30; i++) a.send(b, message());
      await until(() => relay.count('drop_rate_limited') > 0, 'the rate limit');
      // b got hold of a's leg, key and all, but does not sit at a's address.
      const payload = Uint8Array.from(randomBytes(32));
      b.engine.sendFrames([{ to: relay.address, frame: forward(relayLegs[0], payload) }]);
      await until(() => relay.count('drop_wrong_source') === 1, 'the frame from elsewhere');
    },
  ),

  scenario('a frame on the contact leg reaches the control plane with its sender', async (a, b) => {
    const key = Uint8Array.from(randomBytes(16));
    b.engine.installLegs([leg({ id: CONTACT_LEG, key, epoch: 0 }, { action: 'control' })]);
    const frame = encodeFrame({
      kind: FrameKind.admissionRequest,
      hopLimit: 1,
      epoch: 0,
      legId: CONTACT_LEG,
      key,
      payload: Uint8Array.from(randomBytes(112)),
    });
    a.engine.sendFrames([{ to: b.address, frame }]);
    const event = await b.event('frame');
    assert.equal(event.leg, CONTACT_LEG);
    assert.ok(sameSocketAddress(event.from, a.address));
    assert.deepEqual([...event.frame], [...frame]);
    assert.equal(b.count('control_frames'), 1);
  }),

  {
    name: 'strangers have one budget, and each source a share of it; what is above is dropped and counted',
    run: async ({ a }) => {
      await withNodes([ConformanceNode.open(a, { controlFramesPerSecond: 1600 })], async (node) => {
        await withStrangers(node, ['127.0.0.1', '127.0.0.2'], async ([one, another]) => {
          assert.ok(one && another);
          const begin = performance.now();
          // Without shares it would take 400 at once, and the other one would find nothing left.
          await one.flood(node, () => node.count('drop_control_rate') >= 500);
          const taken = node.count('control_frames');
          const seconds = (performance.now() - begin) / 1000;
          assert.ok(taken >= 100 && taken <= 101 + 200 * seconds, `${taken} in ${seconds} s`);
          const ofOther = (): number =>
            node.events.filter((event) => event.type === 'frame' && event.from.ip[15] === 2).length;
          await another.flood(node, () => ofOther() >= 50);
        });
      });
    },
  },

  {
    name: 'all strangers together take no more than their budget',
    run: async ({ a }) => {
      await withNodes([ConformanceNode.open(a, { controlFramesPerSecond: 100 })], async (node) => {
        const hosts = Array.from({ length: 20 }, (_, index) => `127.${index + 2}.0.1`); // each a site
        await withStrangers(node, hosts, async (strangers) => {
          // 6 at once of each source would be 120; 25 of all are let through.
          const { taken, seconds } = await takenOfEach(node, strangers, 20);
          assert.ok(taken >= 25 && taken <= 26 + 100 * seconds, `${taken} in ${seconds} s`);
        });
      });
    },
  },

  {
    name: 'a site has a quarter of the budget of strangers, however many addresses it has',
    run: async ({ a }) => {
      await withNodes([ConformanceNode.open(a, { controlFramesPerSecond: 1600 })], async (node) => {
        const hosts = Array.from({ length: 8 }, (_, index) => `127.7.0.${index + 1}`);
        await withStrangers(node, hosts, async (strangers) => {
          // 100 at once of each source would be 800, and all strangers may send 400; 200 are let through.
          const { taken, seconds } = await takenOfEach(node, strangers, 100);
          assert.ok(taken >= 200 && taken <= 201 + 400 * seconds, `${taken} in ${seconds} s`);
        });
      });
    },
  },

  {
    name: 'an address that has proven itself is heard when strangers have used their budget up',
    run: async ({ a, b }) => {
      const nodes = [
        ConformanceNode.open(a, { controlFramesPerSecond: 1 }),
        ConformanceNode.open(b),
      ] as const;
      await withNodes(nodes, async (node, member) => {
        const proven = { session: '127.0.0.1', leg: '127.9.0.1' };
        const hosts = ['127.8.0.1', proven.session, proven.leg];
        await withStrangers(node, hosts, async ([one, ...known]) => {
          assert.ok(one && known.length === 2);
          const source = parseSocketAddress(`${proven.leg}:9`);
          node.engine.installLegs([leg(legKey(), { action: 'control', source })]);
          node.setPeer(member);
          member.setPeer(node, { endpoint: { address: node.address } });
          await exchange(member, node);
          await one.flood(node, () => node.count('drop_control_rate') >= 20);
          for (const stranger of known) {
            const before = node.count('control_frames');
            // One a second is what strangers have.
            await stranger.flood(node, () => node.count('control_frames') >= before + 60, 60);
          }
        });
      });
    },
  },

  {
    name: 'addresses that have proven themselves have one budget together, and those of a site a quarter of it',
    run: async ({ a }) => {
      await withNodes([ConformanceNode.open(a, { controlFramesPerSecond: 1 })], async (node) => {
        const ofASite = Array.from({ length: 8 }, (_, index) => `127.30.0.${index + 1}`);
        const ofMany = Array.from({ length: 24 }, (_, index) => `127.${index + 40}.0.1`);
        const legs = [...ofASite, ...ofMany].map((host) =>
          leg(legKey(), { action: 'control', source: parseSocketAddress(`${host}:9`) }),
        );
        node.engine.installLegs(legs);
        await withStrangers(node, ofASite, async (strangers) => {
          // 150 at once of each would be 1,200.
          const { taken, seconds } = await takenOfEach(node, strangers, 150);
          assert.ok(taken >= 500 && taken <= 502 + 501 * seconds, `of a site ${taken} in ${seconds} s`);
        });
        await withStrangers(node, ofMany, async (strangers) => {
          // 150 at once of each would be 3,600.
          const { taken, seconds } = await takenOfEach(node, strangers, 150);
          assert.ok(taken >= 1500 && taken <= 2002 + 2001 * seconds, `of all ${taken} in ${seconds} s`);
        });
      });
    },
  },

  scenario('a removed leg forwards nothing, a removed peer is a stranger', async (a, b, relay) => {
    const { legOfA, relayLegs } = connectCircuit(a, relay, b);
    a.setPeer(b, { endpoint: { leg: legOfA } });
    b.setPeer(a);
    a.send(b, message());
    await b.event('control');
    relay.engine.removeLegs(relayLegs.map(({ id }) => id));
    assert.deepEqual(relay.engine.legs(), []);
    a.send(b, message());
    await until(() => relay.count('drop_unknown_leg') === 1, 'the removed leg');
    b.engine.removePeers([a.sessionKey]);
    assert.deepEqual(b.engine.peers(), []);
    a.setPeer(b, { ...direct(b), redirect: true });
    a.send(b, message());
    await until(() => b.count('drop_unknown_index') === 1, 'the removed peer');
  }),

  {
    name: 'a restarted end gets its session back at once by a handshake of its own',
    run: async ({ a, b }) => {
      const nodeA = await ConformanceNode.open(a);
      let nodeB = await ConformanceNode.open(b);
      try {
        nodeA.setPeer(nodeB, direct(nodeB));
        nodeB.setPeer(nodeA);
        nodeA.send(nodeB, message());
        await nodeB.event('control');
        const { port } = nodeB.engine;
        await nodeB.engine.close();
        nodeB = await ConformanceNode.open(b, { port }, nodeB);
        nodeB.setPeer(nodeA, direct(nodeA));
        await exchange(nodeB, nodeA);
      } finally {
        await Promise.all([nodeA.engine.close(), nodeB.engine.close()]);
      }
    },
  },

  {
    name: 'whoever asks at another address of the host is answered from there',
    run: async ({ a, b }) => {
      await withNodes(
        [ConformanceNode.open(a, { bind: '127.0.0.1' }), ConformanceNode.open(b)],
        async (a, b) => {
          const at = parseSocketAddress(`${SECOND_LOOPBACK}:${b.engine.port}`);
          assert.ok(at !== undefined);
          // A session: its initiator would follow an answer from elsewhere.
          a.setPeer(b, { endpoint: { address: at } });
          b.setPeer(a);
          await exchange(a, b);
          const told = a.events.flatMap((event) => (event.type === 'endpoint' ? [event.endpoint] : []));
          for (const endpoint of [a.engine.peers()[0]?.endpoint, ...told]) {
            assert.ok(endpoint !== undefined && 'address' in endpoint);
            assert.equal(formatSocketAddress(endpoint.address), formatSocketAddress(at));
          }

          const [one, other] = [await Asker.open(), await Asker.open()];
          try {
            // STUN.
            await one.answeredFrom(
              b,
              new Uint8Array([0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, ...randomBytes(12)]),
            );
            // Contact, answered by the control plane.
            b.engine.installLegs([
              leg({ id: CONTACT_LEG, key: STRANGERS_KEY, epoch: 0 }, { action: 'control' }),
            ]);
            b.engine.onEvents((events) => {
              for (const event of events)
                if (event.type === 'frame') b.engine.sendFrames([{ to: event.from, frame: event.frame }]);
            });
            await one.answeredFrom(b, Stranger.frame);
            // What is forwarded to somebody leaves from the address that one sent to.
            const [fromOne, fromOther] = [legKey(), legKey()];
            const to = (asker: Asker): LegTarget => ({ ...legKey(), address: asker.address });
            b.engine.installLegs([
              leg(fromOne, { action: 'forward', source: one.address, next: to(other) }),
              leg(fromOther, { action: 'forward', source: other.address, next: to(one) }),
            ]);
            const payload = Uint8Array.from(randomBytes(32));
            await until(() => {
              one.ask(b, forward(fromOne, payload));
              other.ask(b, forward(fromOther, payload), '127.0.0.1');
              return one.heard.at(-1) === SECOND_LOOPBACK && other.heard.at(-1) === '127.0.0.1';
            }, 'frames forwarded from the address their receivers send to');
          } finally {
            one.socket.close();
            other.socket.close();
          }
        },
      );
    },
  },

  {
    name: 'tables refuse more than they hold, and then take none of it',
    run: async ({ a }) => {
      await withNodes([ConformanceNode.open(a, { maxLegs: 2, maxPeers: 1 })], (node) => {
        const full = (error: unknown): boolean => error instanceof EngineError && error.code === 'TABLE_FULL';
        const source = loopback(9);
        const control = (): Leg => leg(legKey(), { action: 'control', source });
        assert.throws(() => node.engine.installLegs([control(), control(), control()]), full);
        assert.equal(node.engine.legs().length, 0);
        node.engine.installLegs([control(), control()]);
        assert.throws(() => node.engine.installLegs([control()]), full);
        node.setPeer(sessionKeys());
        assert.throws(() => node.setPeer(sessionKeys()), full);
        assert.equal(node.engine.peers().length, 1);
      });
    },
  },

  {
    name: 'a closed engine says so, and may be closed again',
    run: async ({ a }) => {
      const node = await ConformanceNode.open(a);
      await node.engine.close();
      await node.engine.close();
      assert.throws(
        () => node.engine.handshake(sessionKeys().sessionKey),
        (error) => error instanceof EngineError && error.code === 'CLOSED',
      );
    },
  },
];

function forward({ id, key, epoch }: LegKey, payload: Uint8Array): Uint8Array {
  return encodeFrame({ kind: FrameKind.forward, hopLimit: 8, epoch, legId: id, key, payload });
}
