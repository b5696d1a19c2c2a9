// Accelerators in the way of real traffic: what is joined, what their self-tests and the running engine do
// about a kernel or device that loses or spoils coalesced packets, and that each can be switched off.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import { sessionKeys } from '../engine/conformance.js';
import { mustRun } from '../../ts/lab/command.js';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { tcpThroughput } from '../../ts/lab/iperf.js';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import type { Namespace } from '../../ts/lab/namespace.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { until, wgUnavailable } from '../wg/wg-lab.js';
import { TunnelPair, counted, type End } from './tunnel-pair.js';

const OMERTA = fileURLToPath(new URL('../../../bin/omerta', import.meta.url));
const FAULTS = fileURLToPath(new URL('../../../test/tunnel/segment-fault.bpf.c', import.meta.url));
const skip = wgUnavailable('iperf3') ?? false;
const skipFaults = skip !== false ? skip : (labUnavailable(['clang', 'tc', 'setpriv', 'ethtool']) ?? false);

const IPSEC_MB = 'libIPSec_MB.so.1';
const IPSEC_MB_FAULT = fileURLToPath(new URL('../../../test/tunnel/ipsec-mb-fault.c', import.meta.url));
const ipsecMbLibrary = /\S*libIPSec_MB\.so\.1$/m.exec(
  spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout,
)?.[0];

/** Why there is no such library here, or none that can be replaced by a faulty one. */
function ipsecMbUnavailable(): string | false {
  if (skip !== false) return skip;
  const missing = labUnavailable(['cc']);
  if (missing !== undefined) return missing;
  if (ipsecMbLibrary === undefined || !existsSync('/usr/include/intel-ipsec-mb.h'))
    return 'needs intel-ipsec-mb: apt install libipsec-mb-dev';
  return openedAead().includes('ipsec-mb') ? false : 'intel-ipsec-mb is not used on this CPU';
}

function openedAead(): string {
  const keys = sessionKeys();
  const engine = openNativeEngine({
    ...{ privateKey: keys.privateKey, port: 0, bind: '127.0.0.1' },
    ...{ maxLegs: 1, maxPeers: 1, controlFramesPerSecond: 1 },
  });
  const { aead } = engine.describe();
  void engine.close();
  return aead;
}
const skipIpsecMb = ipsecMbUnavailable();

/** `lose` or `spoil` coalesced packets that come in on an interface. */
async function makeFaulty(
  namespace: Namespace,
  device: string,
  object: string,
  fault: 'lose' | 'spoil',
): Promise<void> {
  await namespace.mustRun('tc', ['qdisc', 'add', 'dev', device, 'clsact']);
  const program = ['bpf', 'da', 'obj', object, 'sec', fault];
  await namespace.mustRun('tc', ['filter', 'add', 'dev', device, 'ingress', ...program]);
}

/** Repeats what makes traffic until this end's daemon has said something; a faulty path takes its time. */
async function whileSilent(end: End, traffic: () => Promise<unknown>): Promise<void> {
  // Beside a busy neighbour hardly anything arrives together: what is looked for needs another time then.
  const deadline = performance.now() + 150_000;
  while (end.log() === '' && performance.now() < deadline) await traffic();
}

/** Sends `count` datagrams from left to right that tell their number; returns those that arrived whole, in order. */
async function datagramsThrough(pair: TunnelPair, count: number, size: number): Promise<number[]> {
  const { left, right } = pair;
  const receiver = right.node.spawn(
    process.execPath,
    [
      '-e',
      `const seen = [];
      const socket = require('node:dgram').createSocket({ type: 'udp4', recvBufferSize: 8 << 20 });
      const end = () => { console.log(JSON.stringify(seen)); process.exit(); };
      let timer;
      socket.on('message', (m) => {
        const n = m.readUInt32LE();
        if (m.length === ${size} && m.subarray(4).every((byte) => byte === (n & 255))) seen.push(n);
        clearTimeout(timer);
        timer = setTimeout(end, seen.length === ${count} ? 0 : 3000);
      });
      socket.bind(9000, '${right.inside}', () => console.log('ready'));
      setTimeout(end, 30000);`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  receiver.stdout?.setEncoding('utf8').on('data', (part: string) => (output += part));
  await until('the receiver is ready', () => output.includes('ready'));
  await left.node.mustRun(process.execPath, [
    '-e',
    `const socket = require('node:dgram').createSocket({ type: 'udp4', sendBufferSize: 8 << 20 });
    let n = 0;
    const burst = () => {
      for (let i = 0; i < 50 && n < ${count}; i++, n++) {
        const m = Buffer.alloc(${size}, n & 255);
        m.writeUInt32LE(n);
        socket.send(m, 9000, '${right.inside}');
      }
      if (n < ${count}) setTimeout(burst, 5); else setTimeout(() => socket.close(), 50);
    };
    burst();`,
  ]);
  await until('the receiver has ended', () => receiver.exitCode !== null, 40_000);
  return JSON.parse(output.split('\n')[1] ?? '[]') as number[];
}

describe('packets joined on the way into the interface', { skip, timeout: 300_000 }, () => {
  let pair: TunnelPair;
  before(async () => {
    pair = await TunnelPair.start();
    assert.equal(await pair.answered(1), 1);
    await pair.right.node.nft(`table inet count {
      chain in {
        type filter hook prerouting priority 0
        iifname ${pair.right.name} meta l4proto udp meta length > 1500 counter comment "joined udp"
        iifname ${pair.right.name} meta l4proto tcp meta length > 1500 counter comment "joined tcp"
      }
    }`);
  });
  after(() => pair.remove());

  it('are the datagrams that were sent, every one, in order', async () => {
    const count = 2000;
    const numbers = Array.from({ length: count }, (_, i) => i);
    assert.deepEqual(await datagramsThrough(pair, count, 1200), numbers);
    assert.ok((await counted(pair.right.node, 'inet count', 'joined udp')) > 0, 'none were joined');
  });

  it('are the stream that was sent', async () => {
    const { megabitsPerSecond } = await tcpThroughput(pair.left.node, pair.right.node, pair.right.inside, 1);
    assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
    assert.ok((await counted(pair.right.node, 'inet count', 'joined tcp')) > 0, 'none were joined');
  });

  it('never have a wrong checksum: such a packet reaches nobody', async () => {
    const corrupt = (rule: string): Promise<void> =>
      pair.left.node.nft(`table inet spoil {
        chain out {
          type route hook output priority 0
          oifname ${pair.left.name} ${rule}
        }
      }`);
    // nft repairs no checksum when it changes bytes of the payload.
    await corrupt('udp dport 9000 @th,128,8 set 0x77');
    assert.deepEqual(await datagramsThrough(pair, 100, 1200), []);
    await pair.left.node.nft('delete table inet spoil');
    assert.equal((await datagramsThrough(pair, 100, 1200)).length, 100);
  });
});

for (const accelerator of [
  'udp-gso',
  'udp-gro',
  'tun-checksum-offload',
  'tun-tcp-offload',
  'tun-udp-offload',
])
  describe(`a tunnel without ${accelerator}`, { skip, timeout: 300_000 }, () => {
    it('carries datagrams and a stream', async () => {
      const off = ['--disable', accelerator];
      const pair = await TunnelPair.start({ left: off, right: off });
      try {
        assert.equal(await pair.answered(3), 3);
        assert.equal((await datagramsThrough(pair, 500, 1200)).length, 500);
        const { megabitsPerSecond } = await tcpThroughput(
          pair.left.node,
          pair.right.node,
          pair.right.inside,
          1,
        );
        assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
        assert.deepEqual([pair.left.log(), pair.right.log()], ['', '']);
      } finally {
        pair.remove();
      }
    });
  });

describe('a faulty kernel or device', { skip: skipFaults, timeout: 300_000 }, () => {
  const object = join(tmpdir(), `segment-fault-${process.pid}.o`);

  before(async () => {
    const include = `-I/usr/include/${(await mustRun('uname', ['-m'])).trim()}-linux-gnu`;
    await mustRun('clang', ['-O2', '-target', 'bpf', include, '-c', FAULTS, '-o', object]);
  });
  after(() => rmSync(object, { force: true }));

  /** What doctor says of each accelerator. */
  async function diagnosed(
    namespace: Namespace,
    world: World,
    ...prefix: readonly string[]
  ): Promise<Map<string, string>> {
    const command = [...prefix, process.execPath, OMERTA, 'doctor', '--json'];
    const { stdout } = await namespace.run('env', [...command, '--state', join(world.folder, 'none')]);
    const { checks } = JSON.parse(stdout) as { checks: { name: string; detail: string }[] };
    return new Map(
      checks.flatMap(({ name, detail }) => {
        const accelerator = /^accelerator (.*)$/.exec(name)?.[1];
        return accelerator === undefined ? [] : [[accelerator, detail] as const];
      }),
    );
  }

  it('is found at start where segments are lost or spoiled on loopback', async () => {
    const world = await World.create();
    try {
      const node = await world.addNode('node');
      await makeFaulty(node, 'lo', object, 'lose');
      const lost = await diagnosed(node, world);
      assert.equal(lost.get('udp-gso'), 'unavailable: self-test over loopback: 0 of 44 datagrams arrived');
      assert.equal(lost.get('udp-gro'), 'on: not tested: that needs udp-gso');
      await node.mustRun('tc', ['qdisc', 'delete', 'dev', 'lo', 'clsact']);
      await makeFaulty(node, 'lo', object, 'spoil');
      const spoiled = await diagnosed(node, world);
      assert.equal(
        spoiled.get('udp-gso'),
        'unavailable: self-test over loopback: datagram 1 of 44 is not what was sent',
      );
      assert.match(spoiled.get('tun-udp-offload') ?? '', /^on: /);
    } finally {
      world.remove();
    }
  });

  it('is found at start where an interface loses super-packets, also without CAP_SYS_ADMIN', async () => {
    const world = await World.create();
    try {
      const node = await world.addNode('node');
      // Without that capability the self-test takes place in this namespace, where it can be disturbed.
      const restricted = ['setpriv', '--bounding-set', '-sys_admin', '--inh-caps', '-sys_admin'];
      const whole = await diagnosed(node, world, ...restricted);
      for (const name of ['tun-checksum-offload', 'tun-tcp-offload', 'tun-udp-offload'])
        assert.match(whole.get(name) ?? '', /^on: .* came unchanged through a scratch interface$/, name);
      await node.nft(`table inet faulty {
        chain in { type filter hook input priority 0; iifname "omtest*" meta length > 2000 drop; }
      }`);
      const faulty = await diagnosed(node, world, ...restricted);
      assert.match(faulty.get('tun-checksum-offload') ?? '', /^on: /);
      const lost = 'unavailable: self-test on a scratch interface: ';
      assert.equal(faulty.get('tun-tcp-offload'), `${lost}a segment was lost`);
      assert.equal(faulty.get('tun-udp-offload'), `${lost}a datagram was lost`);
    } finally {
      world.remove();
    }
  });

  it('that loses segmented messages on the way makes the sender give them up, and the stream goes on', async () => {
    const pair = await TunnelPair.start();
    const { left, right } = pair;
    try {
      assert.equal(await pair.answered(3), 3);
      await makeFaulty(right.node, 'eth0', object, 'lose');
      await whileSilent(left, () => tcpThroughput(left.node, right.node, right.inside, 3));
      assert.equal(
        left.log(),
        'omerta: udp-gso is not used any more: towards one peer: a handshake sent at the end of a segmented ' +
          'message was lost twice, and answered when it was sent alone\n',
      );
      const { megabitsPerSecond } = await tcpThroughput(left.node, right.node, right.inside, 1);
      assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
      assert.equal(left.log().split('\n').length, 2, 'told once');
    } finally {
      pair.remove();
    }
  });

  it('in front of a relay has the members use single datagrams towards each other, shown by status and logged', async () => {
    const world = await World.create();
    try {
      const { left, right, relay } = await MeshPair.start(world, () => undefined);
      await makeFaulty(relay.node, 'eth0', object, 'lose');
      await tcpThroughput(left.omerta.node, right.omerta.node, right.ipv6, 12);
      const { engine, counters } = (await left.omerta.command(['status'])) as DaemonStatus;
      const gso = engine.accelerators.find(({ name }) => name === 'udp-gso');
      assert.equal(gso?.state, 'on');
      assert.match(gso.reason, /not used towards 1 peer, where a handshake sent at the end of a segmented/);
      assert.deepEqual([counters.accelerators_demoted, counters.gso_demoted_for_peers], [0, 1]);
      assert.equal(left.omerta.log.split('accelerator-demoted').length, 2, left.omerta.log);
      const { megabitsPerSecond } = await tcpThroughput(left.omerta.node, right.omerta.node, right.ipv6, 1);
      assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
    } finally {
      world.remove();
    }
  });

  it('that spoils what it coalesces makes the receiver give that up, and every datagram arrives', async () => {
    const pair = await TunnelPair.start({ left: ['--disable', 'udp-gso'] });
    const { right } = pair;
    try {
      await pair.coalesceOnReceipt();
      await makeFaulty(right.node, 'eth0', object, 'spoil');
      await whileSilent(right, () => datagramsThrough(pair, 500, 1200));
      assert.equal(
        right.log(),
        'omerta: udp-gro is not used any more: datagrams that arrived coalesced did not open, and did ' +
          'without coalescing\n',
      );
      assert.equal((await datagramsThrough(pair, 500, 1200)).length, 500);
    } finally {
      pair.remove();
    }
  });
});

describe('intel-ipsec-mb that begins to seal wrongly', { skip: skipIpsecMb, timeout: 300_000 }, () => {
  it('is found out and replaced by OpenSSL, and the session goes on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'omerta-ipsec-mb-'));
    const fault = join(folder, 'fault');
    await mustRun('cc', ['-shared', '-fPIC', '-o', join(folder, IPSEC_MB), IPSEC_MB_FAULT, '-ldl']);
    const pair = await TunnelPair.start({
      // A burst that a busy machine answers late is looked into by a handshake, and here none is to be made.
      left: ['--disable', 'udp-gso'],
      right: ['--disable', 'udp-gso'],
      environment: {
        ...process.env,
        LD_LIBRARY_PATH: folder,
        IPSEC_MB_LIBRARY: ipsecMbLibrary,
        IPSEC_MB_FAULT: fault,
      },
    });
    const { left, right } = pair;
    try {
      assert.equal(await pair.answered(3), 3);
      const { megabitsPerSecond: before } = await tcpThroughput(left.node, right.node, right.inside, 1);
      assert.ok(before > 1, `${before} Mbit/s`);
      const handshake = await left.node.mustRun('wg', ['show', left.name, 'latest-handshakes']);
      writeFileSync(fault, '');
      await until('it is found out', async () => {
        await pair.answered(1, '-W1');
        return left.log() !== '';
      });
      assert.equal(
        left.log(),
        'omerta: ipsec-mb is not used any more: a packet with a known answer came out wrong; OpenSSL is used ' +
          'instead\n',
      );
      // No worker seals by it any more, and none that has slept meanwhile.
      assert.equal(await pair.answered(3), 3);
      const { megabitsPerSecond } = await tcpThroughput(left.node, right.node, right.inside, 1);
      assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
      assert.equal(await left.node.mustRun('wg', ['show', left.name, 'latest-handshakes']), handshake);
    } finally {
      pair.remove();
      rmSync(folder, { recursive: true });
    }
  });
});

describe('a sound path on which nothing comes back', { skip, timeout: 300_000 }, () => {
  it('is probed once by a handshake and keeps its segmented messages', async () => {
    const pair = await TunnelPair.start();
    const { left, right } = pair;
    try {
      assert.equal(await pair.answered(1), 1);
      const lastHandshake = (): Promise<string> =>
        left.node.mustRun('wg', ['show', left.name, 'latest-handshakes']);
      const first = await lastHandshake();
      await sleep(1000); // wg shows full seconds
      await left.node.nft(`table inet count {
        chain out {
          type filter hook output priority 0
          udp dport ${right.port} udp length 156 counter comment "initiation"
          udp dport ${right.port} meta length > 1500 counter comment "segmented"
        }
      }`);
      // Nobody listens, and nothing is said about it: bursts go unanswered.
      await right.node.nft(`table inet silent {
        chain in { type filter hook input priority 0; iifname ${right.name} drop; }
      }`);
      const sender = left.node.spawn(process.execPath, [
        '-e',
        `const socket = require('node:dgram').createSocket('udp4');
        setInterval(() => { for (let i = 0; i < 40; i++) socket.send(Buffer.alloc(1392), 9, '${right.inside}'); }, 10);`,
      ]);
      await until('a handshake was made', async () => (await lastHandshake()) !== first);
      await sleep(2000); // time for what should not come
      sender.kill();
      assert.equal(await counted(left.node, 'inet count', 'initiation'), 0, 'it rode with a burst');
      assert.ok((await counted(left.node, 'inet count', 'segmented')) > 10);
      assert.equal(left.log(), '');
    } finally {
      pair.remove();
    }
  });
});
