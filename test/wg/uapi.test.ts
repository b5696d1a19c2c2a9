import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { nodePrimitives } from '../../ts/engine/node-primitives.js';
import { Errno, RequestReader, UapiError } from '../../ts/wg/uapi.js';
import { WgDevice } from '../../ts/wg/wg-device.js';
import { addonMissing } from '../engine/addon.js';
import { ModelEngine, answer } from './model-engine.js';

const MAX_PEERS = 100;
const PRIVATE = '48'.repeat(32);
const publicKeyOf = (privateKey: Uint8Array): string =>
  Buffer.from(nodePrimitives.x25519PublicKey(privateKey)).toString('hex');
const OWN_PUBLIC = publicKeyOf(Buffer.from(PRIVATE, 'hex'));
const ALICE = 'a1'.repeat(32);
const BOB = 'b0'.repeat(32);
const PSK = '5c'.repeat(32);

let engine: ModelEngine;
let device: WgDevice;

/** What the socket would answer. */
function ask(...lines: readonly string[]): string {
  return answer(device, lines);
}

function set(...lines: readonly string[]): void {
  assert.equal(ask('set=1', ...lines), 'errno=0\n\n');
}

function shown(key: string): string[] {
  return ask('get=1')
    .split('\n')
    .filter((line) => line.startsWith(`${key}=`))
    .map((line) => line.slice(key.length + 1));
}

function allowedIpsOf(peer: string): string[] {
  for (const state of engine.peerStates()) if (state.sessionKey === peer) return [...state.allowedIps];
  return [];
}

const skip = addonMissing() ?? false;

beforeEach(() => {
  if (skip !== false) return;
  engine = new ModelEngine(randomBytes(32), MAX_PEERS);
  device = new WgDevice({
    engine,
    maxPeers: MAX_PEERS,
    x25519PublicKey: (key) => nodePrimitives.x25519PublicKey(key),
  });
});
afterEach(async () => {
  if (skip === false) await engine.native.close();
});

/** Another engine, for whom the device is a peer with a session; its public key. */
async function sessionWith(run: (peer: string, endpoint: string) => Promise<void> | void): Promise<void> {
  const privateKey = randomBytes(32);
  const peer = publicKeyOf(privateKey);
  const other = openNativeEngine({
    privateKey,
    port: 0,
    bind: '127.0.0.1',
    maxLegs: 1,
    maxPeers: 1,
    controlFramesPerSecond: 1,
  });
  try {
    set(`private_key=${PRIVATE}`, `public_key=${peer}`, 'allowed_ip=10.0.0.0/8');
    const established = new Promise((resolve) => {
      other.onEvents((events) => events.some(({ type }) => type === 'session') && resolve(undefined));
    });
    const ip = Uint8Array.from([...new Array<number>(10).fill(0), 255, 255, 127, 0, 0, 1]);
    other.setPeers([
      {
        sessionKey: OWN_PUBLIC,
        presharedKey: undefined,
        allowedIps: [],
        endpoint: { address: { ip, port: engine.native.port } },
        persistentKeepalive: 0,
      },
    ]);
    other.handshake(OWN_PUBLIC);
    await established;
    while (shown('last_handshake_time_sec')[0] === '0') await sleep(5); // confirmed here too
    await run(peer, `127.0.0.1:${other.port}`);
  } finally {
    await other.close();
  }
}

describe('a malformed request', { skip }, () => {
  const peer = `public_key=${ALICE}`;
  const table: readonly [errno: number, ...lines: string[]][] = [
    [Errno.EPROTO, 'get=2'],
    [Errno.EPROTO, 'set=2'],
    [Errno.EPROTO, 'private_key'],
    [Errno.EPROTO],
    [Errno.EPROTO, 'set=1', 'listen_port'],
    [Errno.EPROTO, 'set=1', peer, 'remove'],
    [Errno.EINVAL, 'get=1', 'listen_port=1'],
    [Errno.EINVAL, 'set=1', 'colour=blue'],
    [Errno.EINVAL, 'set=1', '=1'],
    [Errno.EINVAL, 'set=1', 'listen_port='],
    [Errno.EINVAL, 'set=1', 'listen_port=65536'],
    [Errno.EINVAL, 'set=1', 'listen_port=-1'],
    [Errno.EINVAL, 'set=1', 'listen_port=+5'],
    [Errno.EINVAL, 'set=1', 'listen_port=0x10'],
    [Errno.EINVAL, 'set=1', 'listen_port= 5'],
    [Errno.EINVAL, 'set=1', 'fwmark=4294967296'],
    [Errno.EINVAL, 'set=1', 'fwmark=0x10'],
    [Errno.EINVAL, 'set=1', 'fwmark=off'],
    [Errno.EINVAL, 'set=1', `private_key=${PRIVATE.slice(2)}`],
    [Errno.EINVAL, 'set=1', `private_key=${PRIVATE}00`],
    [Errno.EINVAL, 'set=1', `private_key=${'zz'.repeat(32)}`],
    [Errno.EINVAL, 'set=1', 'replace_peers=false'],
    [Errno.EINVAL, 'set=1', 'replace_peers=1'],
    [Errno.EINVAL, 'set=1', 'remove=true'],
    [Errno.EINVAL, 'set=1', `preshared_key=${PSK}`],
    [Errno.EINVAL, 'set=1', 'public_key=short'],
    [Errno.EINVAL, 'set=1', peer, 'listen_port=1'],
    [Errno.EINVAL, 'set=1', peer, `private_key=${PRIVATE}`],
    [Errno.EINVAL, 'set=1', peer, 'replace_peers=true'],
    [Errno.EINVAL, 'set=1', peer, 'remove=false'],
    [Errno.EINVAL, 'set=1', peer, 'update_only=false'],
    [Errno.EINVAL, 'set=1', peer, 'replace_allowed_ips=no'],
    [Errno.EINVAL, 'set=1', peer, `preshared_key=${PSK}5c`],
    [Errno.EINVAL, 'set=1', peer, 'endpoint=198.51.100.1'],
    [Errno.EINVAL, 'set=1', peer, 'endpoint=198.51.100.1:0'],
    [Errno.EINVAL, 'set=1', peer, 'endpoint=198.51.100.1:65536'],
    [Errno.EINVAL, 'set=1', peer, 'endpoint=2001:db8::1:51820'],
    [Errno.EINVAL, 'set=1', peer, 'endpoint=host.example:51820'],
    [Errno.EINVAL, 'set=1', peer, 'persistent_keepalive_interval=65536'],
    [Errno.EINVAL, 'set=1', peer, 'persistent_keepalive_interval=off'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=10.0.0.1'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=10.0.0.0/33'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=10.0.0.0/08'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=10.0.0/8'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=fd00::/129'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=fd00:::/64'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=--10.0.0.0/8'],
    [Errno.EINVAL, 'set=1', peer, 'allowed_ip=/8'],
    [Errno.EINVAL, 'set=1', peer, 'protocol_version=2'],
    [Errno.EINVAL, 'set=1', peer, 'rx_bytes=5'],
    [Errno.EINVAL, 'set=1', peer, 'errno=0'],
  ];

  for (const [errno, ...lines] of table)
    it(`is answered with errno ${errno}: ${JSON.stringify(lines.join(' ').replace(/([0-9a-f]{8})[0-9a-f]{48,}/g, '$1…'))}`, () => {
      assert.equal(ask(...lines), `errno=-${errno}\n\n`);
    });

  it('changes nothing, also when what comes before the bad line is right', () => {
    set(`private_key=${PRIVATE}`, 'listen_port=7001', `public_key=${BOB}`, 'allowed_ip=10.0.0.0/8');
    const before = ask('get=1');
    const good = ['listen_port=7002', 'fwmark=9', 'replace_peers=true', peer, 'allowed_ip=10.0.0.0/8'];
    for (const [errno, first, ...rest] of table) {
      if (first !== 'set=1') continue;
      const deviceLines = rest.filter((line) => line === peer).length === 0;
      const lines = deviceLines ? [...good.slice(0, 3), ...rest] : [...good, ...rest.slice(1)];
      assert.equal(ask('set=1', ...lines), `errno=-${errno}\n\n`, lines.join(' '));
    }
    assert.equal(ask('get=1'), before);
    assert.deepEqual([engine.port, engine.fwmark, shown('public_key')], [7001, 0, [BOB]]);
  });

  it('gets EADDRINUSE when the port is taken, and nothing else of it is done', () => {
    set(`private_key=${PRIVATE}`, `public_key=${BOB}`, 'allowed_ip=10.0.0.0/8');
    const before = ask('get=1');
    engine.takenPorts.add(53);
    assert.equal(ask('set=1', 'fwmark=7', 'listen_port=53', 'replace_peers=true'), 'errno=-98\n\n');
    assert.equal(ask('get=1'), before);
    assert.equal(engine.fwmark, 0);
  });

  it('gets ENOSPC for more peers than there is room for, and none is added', () => {
    const peers = Array.from(
      { length: MAX_PEERS + 1 },
      (_, i) => `public_key=${i.toString(16).padStart(64, 'c')}`,
    );
    assert.equal(ask('set=1', ...peers), 'errno=-28\n\n');
    assert.deepEqual(shown('public_key'), []);
    set(...peers.slice(1));
    assert.equal(shown('public_key').length, MAX_PEERS);
  });
});

describe('the configuration', { skip }, () => {
  it('is shown as it was set, in the order of the protocol', () => {
    set(
      `private_key=${PRIVATE}`,
      'listen_port=7001',
      'fwmark=51820',
      `public_key=${ALICE}`,
      `preshared_key=${PSK}`,
      'endpoint=[2001:db8::1]:51820',
      'persistent_keepalive_interval=25',
      'allowed_ip=10.1.2.3/8',
      'allowed_ip=::ffff:1.2.3.4/128',
      'protocol_version=1',
    );
    // The persistent keepalive asked for a session at once: an initiation of 148 bytes went out.
    assert.equal(
      ask('get=1'),
      `private_key=${PRIVATE}\nlisten_port=7001\nfwmark=51820\npublic_key=${ALICE}\npreshared_key=${PSK}\n` +
        'protocol_version=1\nendpoint=[2001:db8::1]:51820\nlast_handshake_time_sec=0\n' +
        'last_handshake_time_nsec=0\ntx_bytes=148\nrx_bytes=0\npersistent_keepalive_interval=25\n' +
        'allowed_ip=10.0.0.0/8\nallowed_ip=::ffff:1.2.3.4/128\nerrno=0\n\n',
    );
  });

  it('shows counters and the handshake by the clock on the wall, the same every time', async () => {
    await sessionWith(async () => {
      const seen = Number(shown('last_handshake_time_sec')[0]);
      assert.ok(Math.abs(seen - Date.now() / 1000) < 5);
      // An initiation and a keepalive came, a response went.
      assert.deepEqual([shown('rx_bytes'), shown('tx_bytes')], [[`${148 + 32}`], ['92']]);
      const nanoseconds = shown('last_handshake_time_nsec');
      await sleep(10);
      assert.deepEqual(shown('last_handshake_time_nsec'), nanoseconds);
    });
  });

  it('keeps peers, counters and endpoints over a change of the private key', async () => {
    await sessionWith((peer, endpoint) => {
      assert.deepEqual(shown('endpoint'), [endpoint]);
      const kept = [
        'public_key',
        'endpoint',
        'rx_bytes',
        'tx_bytes',
        'last_handshake_time_sec',
        'allowed_ip',
      ];
      const before = kept.map(shown);
      set(`private_key=${'50'.repeat(32)}`);
      assert.deepEqual(kept.map(shown), before);
      set(`private_key=${'00'.repeat(32)}`);
      assert.deepEqual(kept.map(shown), before);
      assert.deepEqual([shown('private_key'), shown('public_key')], [[], [peer]]);
    });
  });

  it('can be made before there is a private key', () => {
    set(`public_key=${ALICE}`, 'endpoint=198.51.100.1:7', 'allowed_ip=10.0.0.0/8');
    set(`private_key=${PRIVATE}`);
    assert.deepEqual([shown('endpoint'), shown('allowed_ip')], [['198.51.100.1:7'], ['10.0.0.0/8']]);
  });

  it('does not take itself for a peer', () => {
    set(`public_key=${OWN_PUBLIC}`);
    set(`private_key=${PRIVATE}`);
    set(`public_key=${OWN_PUBLIC}`, 'allowed_ip=10.0.0.0/8');
    assert.deepEqual(shown('public_key'), []);
  });

  it('gives a prefix to the peer that asked last', () => {
    set(`private_key=${PRIVATE}`, `public_key=${ALICE}`, 'allowed_ip=10.0.0.0/8', 'allowed_ip=10.2.0.0/16');
    set(`public_key=${BOB}`, 'allowed_ip=10.9.9.9/8');
    assert.deepEqual(allowedIpsOf(ALICE), ['10.2.0.0/16']);
    assert.deepEqual(allowedIpsOf(BOB), ['10.0.0.0/8']);
  });

  it('takes a prefix away only from the peer that has it', () => {
    set(`private_key=${PRIVATE}`, `public_key=${ALICE}`, 'allowed_ip=10.0.0.0/8', 'allowed_ip=fd00::/8');
    set(`public_key=${BOB}`, 'allowed_ip=-10.0.0.0/8');
    assert.deepEqual(shown('allowed_ip'), ['10.0.0.0/8', 'fd00::/8']);
    set(`public_key=${ALICE}`, 'allowed_ip=-10.0.0.0/8');
    assert.deepEqual(shown('allowed_ip'), ['fd00::/8']);
    assert.deepEqual(allowedIpsOf(ALICE), ['fd00::/8']);
  });

  it('updates, replaces and removes peers as asked', () => {
    set(`private_key=${PRIVATE}`, `public_key=${ALICE}`, 'update_only=true', 'allowed_ip=10.0.0.0/8');
    assert.deepEqual(shown('public_key'), []);
    set(`public_key=${ALICE}`, 'allowed_ip=10.0.0.0/8', `public_key=${BOB}`);
    set(`public_key=${ALICE}`, 'update_only=true', 'replace_allowed_ips=true', 'allowed_ip=10.1.0.0/16');
    assert.deepEqual(shown('allowed_ip'), ['10.1.0.0/16']);
    set(`public_key=${ALICE}`, 'remove=true');
    assert.deepEqual(shown('public_key'), [BOB]);
    set(`public_key=${ALICE}`, 'remove=true');
    set('replace_peers=true', `public_key=${ALICE}`, 'allowed_ip=10.1.0.0/16');
    assert.deepEqual(shown('public_key'), [ALICE]);
  });

  it('forgets counters of a peer that is removed and added at once', async () => {
    await sessionWith((peer) => {
      set(`public_key=${peer}`, 'remove=true', `public_key=${peer}`);
      const now = ['rx_bytes', 'endpoint', 'allowed_ip', 'last_handshake_time_sec'].map(shown);
      assert.deepEqual(now, [['0'], [], [], ['0']]);
    });
  });

  it('removes a preshared key that is all zero', () => {
    set(`private_key=${PRIVATE}`, `public_key=${ALICE}`, `preshared_key=${PSK}`);
    assert.deepEqual(shown('preshared_key'), [PSK]);
    set(`public_key=${ALICE}`, 'persistent_keepalive_interval=5');
    assert.deepEqual(shown('preshared_key'), [PSK]);
    set(`public_key=${ALICE}`, `preshared_key=${'0'.repeat(64)}`);
    assert.deepEqual(shown('preshared_key'), ['0'.repeat(64)]);
  });
});

describe('large configurations', { skip }, () => {
  it('of 65,000 prefixes on one peer come back whole', () => {
    const prefixes = Array.from({ length: 65_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
    const lines = prefixes.map((prefix) => `allowed_ip=${prefix}`);
    const request = ['set=1', `private_key=${PRIVATE}`, `public_key=${ALICE}`].concat(lines);
    assert.equal(answer(device, request), 'errno=0\n\n');
    assert.deepEqual(shown('allowed_ip'), prefixes);
    assert.deepEqual(allowedIpsOf(ALICE), prefixes);
  });

  it('of 40 peers with 52 prefixes each come back whole', () => {
    const peers = Array.from({ length: 40 }, (_, p) => [
      `public_key=${(p + 16).toString(16).padStart(64, 'd')}`,
      ...Array.from(
        { length: 52 },
        (_unused, i) => `allowed_ip=fd00:${(p + 1).toString(16)}:${(i + 1).toString(16)}::/48`,
      ),
    ]);
    set(`private_key=${PRIVATE}`, ...peers.flat());
    const answer = ask('get=1')
      .split('\n')
      .filter((line) => /^(public_key|allowed_ip)=/.test(line));
    assert.deepEqual(answer, peers.flat());
  });
});

describe('a stream of requests', () => {
  it('is refused when a line goes on and on, before it is read over and over', () => {
    const reader = new RequestReader();
    const endless = (): void => {
      for (let chunk = 0; chunk < 4096; chunk++) reader.push('a'.repeat(65_536));
    };
    const start = performance.now();
    assert.throws(endless, (error) => error instanceof UapiError && error.errno === Errno.EPROTO);
    assert.ok(performance.now() - start < 1000);
  });

  it('is cut at empty lines wherever its chunks end', () => {
    const text = 'get=1\n\nset=1\nlisten_port=5\n\nget=1\n\n';
    for (let size = 1; size <= text.length; size++) {
      const reader = new RequestReader();
      const requests: string[] = [];
      for (let at = 0; at < text.length; at += size)
        for (const request of reader.push(text.slice(at, at + size)))
          requests.push(request instanceof UapiError ? 'refused' : request.type);
      assert.deepEqual(requests, ['get', 'set', 'get']);
    }
  });
});
