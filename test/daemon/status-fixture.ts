// A status with something in every place, for tests of what shows it.

import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { FakeEngine } from './fake-engine.js';

/** What a page must not take as it is. */
const HOSTILE = '<script>alert("1")</script>';

/** Of a relay with one of everything. */
export const STATUS: DaemonStatus = {
  version: '0.1.0',
  pid: 1,
  mode: 'relay',
  stateDirectory: '/state',
  uptimeSeconds: 61,
  engine: new FakeEngine().describe(),
  engineFallback: 'addon <missing>',
  port: 51900,
  addresses: ['203.0.113.7:51900'],
  statusPage: undefined,
  mesh: {
    peerId: 'omerta1self',
    name: 'gateway',
    sessionKey: 'aa',
    networks: [
      {
        name: 'home',
        blindedId: '00',
        ipv4: '100.64.0.1',
        ipv6: 'fd00::1',
        addressRound: 0,
        addressContenders: [],
        members: [
          {
            peerId: 'omerta1other',
            name: HOSTILE,
            ipv6: 'fd00::2',
            ipv4: undefined,
            sessionKey: 'bb',
            path: 'relay',
            relayPeerId: undefined,
            pathMtu: 1448,
            innerMtu: 1400,
            refused: undefined,
            ways: [],
            indirect: 'unanswered',
            barred: false,
          },
        ],
      },
    ],
    bootstraps: [],
    wireguard: [],
    nat: [],
    udp: 'answered',
    mapped: undefined,
    standingPolicies: [],
    exit: { service: undefined, guests: [], choice: [], offers: [] },
    drops: { 'frame-malformed': 6 },
    relay: {
      registrations: 2,
      standingPolicies: 0,
      admissions: 3,
      halfOpen: 1,
      circuits: [
        {
          id: 'c1',
          callerPeerId: 'omerta1a',
          calleePeerId: 'omerta1b',
          network: '00',
          previousRelays: [],
          consent: 'asked',
          nextRelay: undefined,
          legs: [1],
          ageMs: 1000,
          expiresInMs: 2000,
        },
      ],
      wireguard: [],
      accounts: { identities: [], networks: [] },
      refusals: { capacity: 4 },
    },
  },
  sessions: [
    {
      sessionKey: 'bb',
      endpoint: 'leg 7',
      handshakeAgeSeconds: 5,
      lastReceivedSeconds: 1,
      suite: 'AES-256-GCM',
      replayWindow: 65472,
      rxBytes: 1500,
      txBytes: 2,
    },
  ],
  accounts: {
    identities: [],
    networks: [
      {
        id: '00112233445566778899aabbccddeeff',
        name: 'home',
        quotaClass: 'default',
        uses: 1,
        limit: undefined,
        packets: 7,
        bytes: 900,
        refused: 3,
      },
    ],
  },
  legs: 2,
  circuitBytes: { c1: 4096 },
  wireguard: { publicKey: 'q6s=', bindings: [] },
  counters: { rx_bytes: 7, drop_bad_tag: 3 },
  workers: [
    {
      name: '0',
      counters: { rx_bytes: 5, drop_bad_tag: 3 },
      queues: {
        receiveBytes: 10,
        receiveLimitBytes: 20,
        receivePeakBytes: 15,
        sendBytes: 1,
        sendLimitBytes: 30,
      },
      latency: { boundsNs: [1024, 2048], counts: [3, 4, 1], sumNs: 9000 },
    },
    { name: 'control', counters: { rx_bytes: 2, drop_bad_tag: 0 }, queues: undefined, latency: undefined },
  ],
  failures: 0,
  log: { lost: 5, error: undefined, heldBack: 7 },
  exit: undefined,
  portMapping: {
    state: 'mapped',
    protocol: 'pcp',
    gateway: '192.168.1.1',
    internal: '192.168.1.2:51900',
    external: '203.0.113.7:51900',
    expiresInSeconds: 3600,
    attempts: [],
  },
  tunnel: { name: 'omerta0', state: 'down', missing: ['100.64.0.1/10'], unrouted: [] },
  store: { error: undefined, damaged: undefined },
};
