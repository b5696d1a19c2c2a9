import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { pino } from 'pino';
import type { Effect } from '../../ts/core/runtime/effect.js';
import type { Step } from '../../ts/contract/step.js';
import type { MeshStatus } from '../../ts/core/runtime/mesh-status.js';
import type { EngineEvent, LegCounts } from '../../ts/contract/engine.js';
import { MeshShell, type ShellNode, type ShellStore } from '../../ts/daemon/lifecycle/mesh-shell.js';
import type { StoreWrite } from '../../ts/daemon/state/store.js';
import { FakeEngine } from './fake-engine.js';
import { UNCHARGED } from '../../ts/wire/leg.js';

const address = { ip: new Uint8Array(16), port: 9 };
const setPeer = (key: string): Effect => ({
  type: 'set-peer',
  peer: {
    sessionKey: key,
    presharedKey: undefined,
    allowedIps: [],
    endpoint: undefined,
    persistentKeepalive: 0,
  },
});
const installLeg = (id: number): Effect => ({
  type: 'install-leg',
  leg: {
    id,
    key: new Uint8Array(16),
    epoch: 0,
    action: 'deliver',
    source: address,
    next: undefined,
    lifetimeMs: undefined,
    charging: UNCHARGED,
  },
});
const sendControl = (peer: string): Effect => ({ type: 'send-control', peer, payload: new Uint8Array(1) });
const persist = (key: string): Effect => ({ type: 'persist', key, value: Uint8Array.of(1) });

class ScriptedNode implements ShellNode {
  #onTimeout: () => void = () => undefined;
  readonly timedOut = new Promise<void>((resolve) => (this.#onTimeout = resolve));
  next: Effect[] = [];
  due: number | undefined;
  timeouts = 0;
  restored: ReadonlyMap<string, Uint8Array> | undefined;
  pinged: Uint8Array | undefined;
  #take(): Effect[] {
    const effects = this.next;
    this.next = [];
    return effects;
  }
  start(restored: ReadonlyMap<string, Uint8Array>): Effect[] {
    this.restored = restored;
    return this.#take();
  }
  handleEngineEvent(event: EngineEvent): Effect[] {
    if (event.type === 'session-lost') throw new Error('bad event');
    return this.#take();
  }
  counted: [query: number, counts: readonly (LegCounts | undefined)[]] | undefined;
  handleLegCounts(query: number, counts: readonly (LegCounts | undefined)[]): Effect[] {
    this.counted = [query, counts];
    return this.#take();
  }
  handlePathCounts(peer: string): Effect[] {
    this.pathsCounted = peer;
    return this.#take();
  }
  pathsCounted: string | undefined;
  handleTimeout(step: Step): Effect[] {
    assert.ok(this.due !== undefined && step.now >= this.due, 'called before the deadline');
    this.timeouts++;
    this.#onTimeout();
    this.due = undefined;
    return this.#take();
  }
  deadline(): number | undefined {
    return this.due;
  }
  ping(identity: Uint8Array, token: Uint8Array): Effect[] {
    if (identity[0] === 0) throw new Error('peer is not known');
    this.pinged = token;
    return [sendControl('pinged')];
  }
  status(): MeshStatus {
    throw new Error('not used here');
  }
}

class FakeStore implements ShellStore {
  constructor(readonly calls: string[]) {}
  load(): ReadonlyMap<string, Uint8Array> {
    return new Map([['kept', Uint8Array.of(5)]]);
  }
  write(writes: readonly StoreWrite[]): void {
    if (writes.length > 0) this.calls.push(`write ${writes.map(({ key }) => key).join(',')}`);
  }
}

function setUp(): {
  node: ScriptedNode;
  engine: FakeEngine;
  shell: MeshShell<ScriptedNode>;
  lines: string[];
} {
  const engine = new FakeEngine();
  const node = new ScriptedNode();
  const lines: string[] = [];
  const log = pino({ level: 'debug', base: null }, { write: (line: string) => lines.push(line) });
  const shell = new MeshShell(node, engine, new FakeStore(engine.calls), log);
  return { node, engine, shell, lines };
}

describe('mesh shell', () => {
  test('starts the node with what the store holds', () => {
    const { node, shell } = setUp();
    shell.start();
    assert.deepEqual(node.restored, new Map([['kept', Uint8Array.of(5)]]));
    shell.close();
  });

  test('commits first, then tables, then handshakes, then sends, each in one call', () => {
    const { node, engine, shell } = setUp();
    node.next = [
      sendControl('p'),
      { type: 'send-frame', to: address, frame: new Uint8Array(32) },
      setPeer('p'),
      installLeg(1),
      { type: 'handshake', peer: 'p' },
      persist('a'),
      installLeg(2),
      setPeer('q'),
      persist('b'),
    ];
    shell.start();
    assert.deepEqual(engine.calls, [
      'write a,b',
      'installLegs 1,2',
      'setPeers p,q',
      'handshake p',
      'sendFrames 9',
      'sendControl p',
    ]);
    shell.close();
  });

  test('a removal waits for what was asked before it and comes before what was asked after it', () => {
    const { node, engine, shell } = setUp();
    node.next = [
      sendControl('bye'),
      { type: 'remove-leg', id: 1 },
      { type: 'remove-peer', peer: 'bye' },
      { type: 'remove-leg', id: 2 },
      installLeg(1),
      setPeer('bye'),
    ];
    shell.start();
    assert.deepEqual(engine.calls, [
      'sendControl bye',
      'removePeers bye',
      'removeLegs 1,2',
      'installLegs 1',
      'setPeers bye',
    ]);
    shell.close();
  });

  test('effects of all events of a batch are committed in one transaction', () => {
    const { node, engine, shell } = setUp();
    shell.start();
    const event: EngineEvent = { type: 'path-needed', peer: 'p' };
    node.next = [persist('a'), sendControl('p')];
    engine.emit([event, event]);
    assert.deepEqual(engine.calls, ['write a', 'sendControl p']);
    shell.close();
  });

  test('an event the core fails on is counted and logged, and the next one is handled', () => {
    const { node, engine, shell, lines } = setUp();
    shell.start();
    node.next = [sendControl('p')];
    engine.emit([
      { type: 'session-lost', peer: 'x' },
      { type: 'path-needed', peer: 'p' },
    ]);
    assert.equal(shell.failures, 1);
    assert.deepEqual(engine.calls, ['sendControl p']);
    assert.match(lines.join(''), /step-failed/);
    shell.close();
  });

  test('a full table does not keep the rest from being done', () => {
    const { node, engine, shell } = setUp();
    engine.failing.add('installLegs');
    node.next = [installLeg(1), sendControl('p')];
    shell.start();
    assert.deepEqual(engine.calls, ['installLegs 1', 'sendControl p']);
    assert.equal(shell.failures, 1);
    shell.close();
  });

  test('calls handleTimeout when the deadline has passed, not before', async () => {
    const { node, shell } = setUp();
    node.due = performance.now() + 30;
    shell.start();
    await node.timedOut;
    assert.equal(node.timeouts, 1);
    shell.close();
  });

  test('that links, addresses or routes of the host have changed is told to who looks at them', () => {
    const { engine, shell } = setUp();
    let told = 0;
    shell.onHostChanged = () => told++;
    shell.start();
    engine.emit([{ type: 'path-needed', peer: 'p' }]);
    engine.emit([{ type: 'addresses-changed' }, { type: 'addresses-changed' }]);
    assert.equal(told, 1);
    shell.close();
  });

  test('a pong ends the ping it answers with the time it took', async () => {
    const { node, engine, shell } = setUp();
    shell.start();
    const answer = shell.ping(Uint8Array.of(1), 5000);
    const token = node.pinged;
    assert.ok(token?.length === 8);
    node.next = [{ type: 'pong', identity: Uint8Array.of(1), token: new Uint8Array(8) }];
    engine.emit([{ type: 'path-needed', peer: 'p' }]);
    node.next = [{ type: 'pong', identity: Uint8Array.of(1), token }];
    engine.emit([{ type: 'path-needed', peer: 'p' }]);
    const rtt = await answer;
    assert.ok(rtt !== undefined && rtt >= 0 && rtt < 5000);
    assert.deepEqual(engine.calls, ['sendControl pinged']);
    shell.close();
  });

  test('a ping without an answer gives undefined, one to a stranger is an error', async () => {
    const { shell } = setUp();
    shell.start();
    assert.equal(await shell.ping(Uint8Array.of(1), 10), undefined);
    await assert.rejects(shell.ping(Uint8Array.of(0), 10), /not known/);
    shell.close();
  });

  test('a question about legs is asked of the engine after all else, and its answer handed back', () => {
    const { node, engine, shell } = setUp();
    node.next = [{ type: 'count-legs', query: 3, legs: [7, 8] }, sendControl('p'), installLeg(7)];
    shell.start();
    assert.deepEqual(engine.calls, ['installLegs 7', 'sendControl p', 'legCounters 7,8']);
    const counts = { packets: 1, bytes: 2, sentPackets: 3, sentBytes: 4 };
    assert.deepEqual(node.counted, [3, [counts, counts]]);
    shell.close();
  });

  test('after close nothing reaches the node', () => {
    const { node, engine, shell } = setUp();
    shell.start();
    shell.close();
    node.next = [sendControl('p')];
    engine.emit([{ type: 'path-needed', peer: 'p' }]);
    assert.deepEqual(engine.calls, []);
  });

  test('notices go to the log with their level and fields', () => {
    const { node, shell, lines } = setUp();
    node.next = [
      { type: 'notify', notice: { level: 'warn', event: 'thing-happened', fields: { peer: 'p' } } },
    ];
    shell.start();
    assert.deepEqual(
      lines.map((line) => {
        const { level, msg, peer } = JSON.parse(line) as Record<string, unknown>;
        return { level, msg, peer };
      }),
      [{ level: 40, msg: 'thing-happened', peer: 'p' }],
    );
    shell.close();
  });

  test('a notice that carries a code has beside it what that means and what to do', () => {
    const { node, shell, lines } = setUp();
    const fields = { peer: 'p', error: 'clock-behind', failures: 1 };
    node.next = [{ type: 'notify', notice: { level: 'warn', event: 'bootstrap-unreachable', fields } }];
    shell.start();
    const { error, meaning, remedy } = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
    assert.equal(error, 'clock-behind');
    assert.match(String(meaning), /clock is days behind the relay/);
    assert.match(String(remedy), /^Type date on both machines/);
    shell.close();
  });
});
