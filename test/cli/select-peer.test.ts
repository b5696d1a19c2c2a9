import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describePeers, describeStatus } from '../../ts/cli/describe-status.js';
import { onlyPeer, selectPeer } from '../../ts/cli/select-peer.js';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import type { MemberStatus } from '../../ts/core/runtime/mesh-status.js';
import { FakeEngine } from '../daemon/fake-engine.js';

function member(name: string, id: string, ipv4: string): MemberStatus {
  return {
    peerId: `omerta1${id}`,
    name,
    ipv4,
    ipv6: 'fd00::1:2',
    sessionKey: id,
    path: 'direct',
    relayPeerId: undefined,
    pathMtu: undefined,
    innerMtu: undefined,
    refused: undefined,
    ways: [],
    indirect: undefined,
    search: undefined,
    barred: false,
  };
}

function statusOf(...members: MemberStatus[]): DaemonStatus {
  return {
    version: '0.1.0',
    pid: 1,
    mode: 'up',
    stateDirectory: '/state',
    uptimeSeconds: 1,
    engine: new FakeEngine().describe(),
    engineFallback: undefined,
    port: 1,
    addresses: [],
    statusPage: undefined,
    mesh: {
      peerId: 'omerta1self',
      name: 'self',
      sessionKey: 'ff',
      drops: {},
      exit: { service: undefined, guests: [], choice: [], offers: [] },
      routes: { advertised: [], guests: [], accepted: [], offers: [] },
      networks: [
        {
          name: 'home',
          blindedId: '00',
          ipv4: '100.64.0.9',
          ipv6: 'fd00::9',
          addressRound: 0,
          addressContenders: [],
          members,
        },
      ],
      bootstraps: [
        {
          peerId: 'omerta1relay',
          address: '203.0.113.7:51900',
          state: 'registered',
          observedAddress: undefined,
          leaseSeconds: 600,
          lastPongAgeMs: 1,
          drainsInSeconds: undefined,
          lastError: undefined,
        },
      ],
      wireguard: [],
      nat: [],
      udp: 'answered',
      mapped: undefined,
      standingPolicies: [],
      relay: undefined,
    },
    sessions: [],
    accounts: undefined,
    legs: 0,
    circuitBytes: {},
    counters: {},
    wireguard: { publicKey: '', bindings: [] },
    workers: [],
    failures: 0,
    log: { lost: 5, error: undefined, heldBack: 7 },
    portMapping: undefined,
    pinhole: undefined,
    exit: undefined,
    tunnel: undefined,
    store: { error: undefined, damaged: undefined },
  };
}

const laptop = member('laptop', 'qqaa', '100.64.0.1');
const lamp = member('lamp', 'qqbb', '100.64.0.2');

describe('which peer is meant', () => {
  const status = statusOf(laptop, lamp);
  const idOf = (wanted: string, of = status): string => selectPeer(of, wanted).peerId;

  test('a name, a peer id, an overlay address or the address of a bootstrap', () => {
    assert.equal(idOf('laptop'), laptop.peerId);
    assert.equal(idOf('omerta1qqbb'), lamp.peerId);
    assert.equal(idOf('100.64.0.2'), lamp.peerId);
    assert.equal(idOf('203.0.113.7:51900'), 'omerta1relay');
  });
  test('an address however it is written', () => {
    assert.equal(idOf('FD00:0:0:0:0:0:1:2', statusOf(laptop)), laptop.peerId);
  });
  test('the unique beginning of a name or of a peer id with or without its prefix', () => {
    assert.equal(idOf('lap'), laptop.peerId);
    assert.equal(idOf('qqb'), lamp.peerId);
    assert.equal(idOf('omerta1qqa'), laptop.peerId);
  });
  test('a whole name wins over the beginning of another', () => {
    assert.equal(idOf('lamp', statusOf(lamp, member('lamp-2', 'qqcc', '100.64.0.3'))), lamp.peerId);
  });
  test('what fits several is refused with their names', () => {
    assert.throws(() => idOf('la'), { exitCode: 2, message: /laptop omerta1qqaa.*lamp omerta1qqbb/ });
    assert.throws(() => idOf('omerta1'), { exitCode: 5 }, 'the prefix of every id is the beginning of none');
  });
  test('nobody is exit code 5', () => {
    assert.throws(() => idOf('tablet'), { exitCode: 5, message: /omerta peers/ });
    assert.throws(() => idOf(''), { exitCode: 5 });
  });
  test('this machine itself is told from who is not known', () => {
    for (const own of ['self', 'omerta1self', '100.64.0.9', 'fd00:0::9'])
      assert.throws(() => idOf(own), { exitCode: 2, message: /is this machine itself/ }, own);
  });
  test('the only member need not be named, and counts once in two networks', () => {
    assert.equal(onlyPeer(statusOf(lamp, lamp), 'omerta ping').peerId, lamp.peerId);
    const advice = /several are known \(laptop, lamp\).*omerta path laptop/s;
    assert.throws(() => onlyPeer(status, 'omerta path'), { exitCode: 2, message: advice });
  });
  test('without members the only bootstrap is meant', () => {
    assert.equal(onlyPeer(statusOf(), 'omerta ping').peerId, 'omerta1relay');
  });
});

describe('text for a terminal', () => {
  test('control characters of a stranger do not reach it', () => {
    const hostile = statusOf(member('\u001b[2Jx\ny', 'qqdd', '100.64.0.4'));
    for (const text of [describePeers(hostile), describeStatus(hostile)])
      // eslint-disable-next-line no-control-regex
      assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f]/);
    assert.equal(describePeers(hostile).split('\n').length, 3);
  });
});
