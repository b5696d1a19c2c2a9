// Byte compatibility: sessions between this engine and Debian's wireguard-go, in a network namespace
// that lives only as long as the process in it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { WireguardGoFacts } from './wireguard-go-facts.js';

const NEEDED: readonly [command: string, package_: string][] = [
  ['wireguard-go', 'wireguard-go'],
  ['wg', 'wireguard-tools'],
  ['ip', 'iproute2'],
  ['ping', 'iputils-ping'],
  ['unshare', 'util-linux'],
];

/** Why this cannot run here, with the command that would change it; false when it can. */
function whyNot(): string | false {
  if (process.getuid?.() !== 0) return 'needs root for a network namespace: sudo npm test';
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun: modprobe tun';
  const folders = (process.env['PATH'] ?? '').split(':');
  const missing = NEEDED.filter(([command]) => !folders.some((folder) => existsSync(`${folder}/${command}`)));
  if (missing.length === 0) return false;
  return `needs ${missing.map(([command]) => command).join(', ')}: apt install ${missing.map(([, name]) => name).join(' ')}`;
}

const skip = whyNot();
if (skip !== false) console.log(`wireguard-go interop is skipped: ${skip}`);

describe('with wireguard-go', { skip }, () => {
  let facts: WireguardGoFacts;

  before(() => {
    const script = fileURLToPath(new URL('./wireguard-go-facts.js', import.meta.url));
    const environment = { ...process.env };
    delete environment['NODE_TEST_CONTEXT'];
    const run = spawnSync(
      'unshare',
      [
        '--net',
        '--kill-child',
        'sh',
        '-c',
        'ip link set lo up && exec "$0" "$@"',
        process.execPath,
        script,
        `omw${process.pid}`,
      ],
      { encoding: 'utf8', timeout: 240_000, env: environment },
    );
    assert.equal(run.status, 0, `${run.stderr}${run.stdout}`);
    facts = JSON.parse(run.stdout) as WireguardGoFacts;
  });

  test('a handshake this engine starts completes, with a preshared key, on both sides', () => {
    assert.equal(facts.initiator.endpointSeenByPeer, 'ours');
    assert.ok(facts.initiator.latestHandshake > 1_700_000_000);
  });

  test('a handshake wireguard-go starts completes on both sides', () => {
    assert.equal(facts.responder.sessionEndpoint, facts.responder.peerEndpoint);
    assert.ok(facts.responder.latestHandshake > 1_700_000_000);
  });

  test('packets out of its tunnel open here and are dropped for want of a TUN', () => {
    assert.ok(facts.initiator.innerPacketsDropped >= 3);
    assert.ok(facts.responder.innerPacketsDropped >= 3);
  });

  test('a new handshake in a running session is taken over by both sides', () => {
    assert.ok(facts.initiator.handshakesAfterRekey >= 2);
    assert.ok(facts.initiator.innerPacketsAfterRekey >= 3);
  });

  test('persistent keepalives are understood both ways', () => {
    assert.ok(facts.responder.keepalivesReceived >= 2);
    // Two initiations and three keepalives, all of which it authenticated.
    assert.ok(facts.initiator.keepalivesSent >= 3);
    assert.ok(facts.initiator.peerReceivedBytes >= 2 * 148 + 3 * 32);
  });

  test('another preshared key on one side does not connect', () => {
    assert.equal(facts.wrongPresharedKey.completed, 0);
    assert.ok(facts.wrongPresharedKey.badHandshakes >= 1);
  });

  test('nothing it sent was misread', () => {
    assert.equal(facts.initiator.unexpectedDrops, 0);
    assert.equal(facts.responder.unexpectedDrops, 0);
  });
});
