import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BootstrapStatus, UplinkError } from '../../ts/core/runtime/mesh-status.js';
import type { TunnelStatus } from '../../ts/status/model/daemon-status.js';
import { obstacles, readinessText, type ReadinessFacts } from '../../ts/status/model/readiness.js';
import { STATUS } from './status-fixture.js';

const MEMBER: ReadinessFacts = {
  ...STATUS,
  mode: 'up',
  tunnel: { name: 'omerta0', state: 'up', missing: [], unrouted: [] },
  mesh: { ...STATUS.mesh, relay: undefined, bootstraps: [bootstrap('registered')] },
};

function bootstrap(state: BootstrapStatus['state'], lastError?: UplinkError): BootstrapStatus {
  return {
    peerId: 'omerta1relay',
    address: '203.0.113.1:51900',
    state,
    observedAddress: undefined,
    leaseSeconds: undefined,
    lastPongAgeMs: undefined,
    drainsInSeconds: undefined,
    lastError,
  };
}

const withRelays = (...bootstraps: BootstrapStatus[]): ReadinessFacts => ({
  ...MEMBER,
  mesh: { ...MEMBER.mesh, bootstraps },
});
const withTunnel = (changed: Partial<TunnelStatus>): ReadinessFacts => ({
  ...MEMBER,
  tunnel: { name: 'omerta0', state: 'up', missing: [], unrouted: [], ...changed },
});
const withUse = (isActive: boolean): ReadinessFacts => ({
  ...MEMBER,
  mesh: {
    ...MEMBER.mesh,
    exit: {
      ...MEMBER.mesh.exit,
      choice: [
        {
          peerId: 'omerta1exit',
          state: isActive ? 'granted' : 'unanswered',
          via: [],
          isActive,
          lan: [],
          ipv4: true,
          ipv6: true,
          dns: true,
          expiresInMs: undefined,
        },
      ],
    },
  },
});
const relayWith = (changed: Partial<NonNullable<typeof STATUS.mesh.relay>>): ReadinessFacts => ({
  ...STATUS,
  mesh: { ...STATUS.mesh, relay: { ...(STATUS.mesh.relay ?? assert.fail()), ...changed } },
});

describe('readiness', () => {
  const one = { admissions: 4096, registrations: 4096, circuits: 4096 };
  for (const [what, facts, wanted] of [
    ['a relay', STATUS, /^ready$/],
    // It serves without the others.
    [
      'a relay whose neighbour is away',
      { ...STATUS, mesh: { ...STATUS.mesh, bootstraps: [bootstrap('backoff', 'unanswered')] } },
      /^ready$/,
    ],
    [
      'a relay with as many admissions as it may have',
      relayWith({ admissions: 9, limits: { ...one, admissions: 9 } }),
      /^not ready\ncapacity: 9 admissions of 9.*admissions under \[relay\]/,
    ],
    [
      'a relay with as many registrations',
      relayWith({ registrations: 9, limits: { ...one, registrations: 9 } }),
      /^not ready\ncapacity: 9 records of 9.*registrations under/,
    ],
    [
      'a relay with as many circuits',
      relayWith({ limits: { ...one, circuits: 1 } }),
      /^not ready\ncapacity: 1 circuits of 1.*circuits under/,
    ],
    [
      'a relay that drains',
      relayWith({ drain: { endsInSeconds: 60, done: false, clients: 2, staying: 1, circuits: 1 } }),
      /^not ready\ndrain: draining: 2 clients and 1 circuit left \(1 without another relay\).*relay undrain/,
    ],
    ['a relay with room for one more', relayWith({ limits: { ...one, circuits: 2 } }), /^ready$/],
    ['a member', MEMBER, /^ready$/],
    [
      'a member with one relay of two',
      withRelays(bootstrap('backoff', 'unanswered'), bootstrap('registered')),
      /^ready$/,
    ],
    ['a member whose invites name no relay', withRelays(), /^ready$/],
    [
      'a member that no relay answers',
      withRelays(bootstrap('backoff', 'unanswered')),
      /^not ready\nrelays: registered with none: no answer\. Check/,
    ],
    [
      'a member that has just begun',
      withRelays(bootstrap('admitting')),
      /^not ready\nrelays: registered with none\. Wait/,
    ],
    [
      'a member where UDP is blocked',
      { ...MEMBER, mesh: { ...withRelays(bootstrap('backoff')).mesh, udp: 'blocked' } },
      /^not ready\nrelays: .*UDP is blocked/,
    ],
    [
      'a clock that is days behind',
      withRelays(bootstrap('backoff', 'clock-behind')),
      /\nclock: this machine.s clock is days behind.*timedatectl/,
    ],
    [
      'an interface that is gone',
      withTunnel({ state: 'gone' }),
      /^not ready\ninterface: omerta0 was deleted/,
    ],
    [
      'one that is down',
      withTunnel({ state: 'down', missing: ['fd00::1/64'] }),
      /interface: omerta0 is down, or without its addresses \(fd00::1\/64\)/,
    ],
    ['one that was renamed', withTunnel({ state: 'elsewhere' }), /interface: omerta0 was renamed/],
    [
      'one without a route',
      withTunnel({ state: 'unrouted', unrouted: ['100.64.0.1/10'] }),
      /interface: omerta0 has no route to the network of 100/,
    ],
    [
      'a helper that is gone',
      withTunnel({ private: { pid: 1, namespace: 2, error: 'it ended' } }),
      /private network: it ended/,
    ],
    ['an exit in use', withUse(true), /^ready$/],
    ['an exit that does not grant', withUse(false), /exit: none of those.*exit status/],
    [
      'a host that is not as the exit needs it',
      { ...MEMBER, exit: { error: 'no nft', paranoid: false, backend: 'kernel', include: [] } },
      /exit: no nft\. See/,
    ],
    [
      'a full disk',
      { ...MEMBER, store: { error: 'ENOSPC', damaged: undefined } },
      /store: cannot be written \(ENOSPC\)/,
    ],
  ] as const satisfies readonly (readonly [string, ReadinessFacts, RegExp])[])
    test(`of ${what}`, () => assert.match(readinessText(obstacles(facts)), wanted));
});
