import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import { NumberedStream } from '../../ts/lab/numbered-stream.js';
import { ping } from '../../ts/lab/ping.js';
import { pinsOf } from '../../ts/lab/pins.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { prepareForXdp, xdpUnavailable } from '../../ts/lab/xdp.js';

/**
 * Datagrams a second: more than is lost in a moment unnoticed, and so few that the receive buffer of a process
 * (208 KiB as systems are set up) holds those of a second in which a busy machine does not let it run.
 */
const RATE = 250;

interface RelayStatus {
  readonly engine: {
    readonly accelerators: readonly {
      readonly name: string;
      readonly state: string;
      readonly reason: string;
    }[];
  };
  readonly circuitBytes: Readonly<Record<string, number>>;
  readonly counters: Readonly<Record<string, number>>;
}

describe(
  'the kernel path between two members and a relay',
  { skip: labUnavailable(['ping', 'ethtool', 'bpftool']) ?? xdpUnavailable() ?? false },
  () => {
    let world: World;
    let pair: MeshPair;

    before(async () => {
      world = await World.create();
      pair = await MeshPair.start(world, () => undefined, {
        relayArguments: ['--accel', 'xdp', '--detach', '--status', 'off'],
        prepare: (nodes) => prepareForXdp(world, nodes),
      });
    });
    after(() => world.remove());

    const status = async (): Promise<RelayStatus> => (await pair.relay.command(['status'])) as RelayStatus;
    const counter = async (name: string): Promise<number> => (await status()).counters[name] ?? 0;
    const stream = (): Promise<NumberedStream> =>
      NumberedStream.start(pair.left.omerta.node, pair.right.omerta.node, pair.right.ipv6, RATE);
    /** What of ours is in the kernel; bpftool knows the programs of every namespace. */
    const programs = async (): Promise<string> =>
      pair.relay.node.mustRun('ip', ['-details', 'link', 'show', 'eth0']);
    const programId = async (): Promise<number | undefined> => {
      const id = /prog\/xdp id (\d+)/.exec(await programs())?.[1];
      return id === undefined ? undefined : Number(id);
    };
    const stop = async (...options: readonly string[]): Promise<string> =>
      pair.relay.node.mustRun(process.execPath, [
        ...['bin/omerta', '--state', pair.relay.state],
        ...['relay', 'stop', ...options],
      ]);

    it('forwards in the kernel what it carried through the socket before', async () => {
      const before = (await status()).counters;
      assert.deepEqual((await ping(pair.left.omerta.node, pair.right.ipv6, 100, 5)).lost, 0);
      const { counters, circuitBytes } = await status();
      const more = (name: string): number => (counters[name] ?? 0) - (before[name] ?? 0);
      assert.ok(more('xdp_forwarded_packets') >= 200, `${more('xdp_forwarded_packets')} in the kernel`);
      assert.equal(more('forwarded_packets'), more('xdp_forwarded_packets'), 'none through the socket');
      const bytes = Object.values(circuitBytes).reduce((sum, each) => sum + each, 0);
      assert.equal(bytes, counters['xdp_forwarded_bytes'], 'a circuit is shown what its legs carried');
    });

    it('loses nothing when the daemon is killed, is away, starts again and takes over', async () => {
      const before = await status();
      const program = await programId();
      const numbered = await stream();
      await setTimeout(1000);
      await pair.relay.kill();
      await setTimeout(1000);
      assert.equal(await programId(), program, 'the program outlives the daemon');
      await pair.startRelay();
      await setTimeout(1000);
      const { sent, lost, repeated } = await numbered.stop();
      assert.ok(sent > 2.5 * RATE, `${sent} sent`);
      assert.deepEqual({ lost, repeated }, { lost: 0, repeated: 0 });
      const afterwards = await status();
      assert.notEqual(await programId(), program, 'the new daemon put its own program in place');
      const xdp = afterwards.engine.accelerators.find(({ name }) => name === 'xdp');
      assert.match(xdp?.reason ?? '', /legs adopted/);
      const forwarded = (of: RelayStatus): number => of.counters['xdp_forwarded_packets'] ?? 0;
      assert.ok(forwarded(afterwards) - forwarded(before) >= sent, 'counters go on over the restart');
    });

    it('goes on through the socket when the program is taken off, and back when it is on again', async () => {
      const numbered = await stream();
      await setTimeout(300);
      const before = (await status()).counters;
      const links = JSON.parse(await pair.relay.node.mustRun('bpftool', ['-j', 'link', 'show'])) as {
        readonly id: number;
        readonly prog_id: number;
      }[];
      const program = await programId();
      const ours = links.find(({ prog_id }) => prog_id === program);
      assert.ok(ours);
      await pair.relay.node.mustRun('bpftool', ['link', 'detach', 'id', String(ours.id)]);
      await setTimeout(3000);
      const { counters } = await status();
      const more = (name: string): number => (counters[name] ?? 0) - (before[name] ?? 0);
      const bySocket = more('forwarded_packets') - more('xdp_forwarded_packets');
      const { lost, repeated } = await numbered.stop();
      assert.deepEqual({ lost, repeated }, { lost: 0, repeated: 0 });
      assert.ok(bySocket > 0, 'some went through the socket');
      assert.ok(more('xdp_forwarded_packets') > RATE, `${more('xdp_forwarded_packets')} in the kernel again`);
      assert.match(pair.relay.log, /kernel-path-attached/);
    });

    it('with --detach goes on without a daemon after relay stop', async () => {
      const numbered = await stream();
      await setTimeout(300);
      assert.match(await stop(), /stopped/);
      await setTimeout(1000);
      const { lost } = await numbered.stop();
      assert.equal(lost, 0);
      assert.notEqual(await programId(), undefined);
    });

    it('leaves nothing in the kernel after relay stop --unload', async () => {
      await pair.startRelay();
      const program = await programId();
      assert.equal((await stop('--unload')).trim(), 'stopped and unloaded');
      assert.equal(await programId(), undefined);
      assert.deepEqual(pinsOf(pair.relay.node), []);
      let gone = false;
      for (let tries = 0; tries < 100 && !gone; tries++) {
        gone = (await pair.relay.node.run('bpftool', ['prog', 'show', 'id', String(program)])).code !== 0;
        await setTimeout(20);
      }
      assert.ok(gone, `program ${program} is freed`);
      for (const family of ['ipv4', 'ipv6'])
        assert.equal(
          (await pair.relay.node.mustRun('sysctl', ['-n', `net.${family}.conf.lo.forwarding`])).trim(),
          '0',
        );
    });

    it('unloads what a killed daemon left, and says when there is nothing', async () => {
      await pair.startRelay();
      await pair.relay.kill();
      assert.notEqual(await programId(), undefined);
      assert.equal((await stop('--unload')).trim(), 'unloaded');
      assert.equal(await programId(), undefined);
      const again = await pair.relay.node.run(process.execPath, [
        ...['bin/omerta', '--state', pair.relay.state],
        ...['relay', 'stop', '--unload'],
      ]);
      assert.equal(again.code, 3);
      assert.match(again.stderr, /none left anything in the kernel at UDP port 51900/);
    });

    it('a relay that is started without it takes away what a killed one left', async () => {
      await pair.startRelay();
      await pair.relay.kill();
      assert.notEqual(await programId(), undefined);
      await pair.relay.start('relay', '--accel', 'native', '--status', 'off');
      assert.equal(await programId(), undefined);
      assert.match(pair.relay.log, /kernel-path-removed/);
      assert.equal((await ping(pair.left.omerta.node, pair.right.ipv6, 20, 5)).lost, 0);
      assert.equal(await counter('xdp_forwarded_packets'), 0);
      assert.match(await stop(), /stopped/);
    });

    for (const [where, through, reason] of [
      [
        'without the privilege',
        ['setpriv', '--bounding-set', '-all', '--inh-caps', '-all'],
        /loading a BPF program is not permitted/,
      ],
      [
        'without a bpf file system',
        ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs none /sys/fs/bpf && exec "$@"', 'sh'],
        /no bpf file system is mounted at \/sys\/fs\/bpf/,
      ],
    ] as const)
      it(`with --accel auto goes on through the socket ${where}, with one line`, async () => {
        pair.relay.through = through;
        const started = (await pair.relay.start(
          ...['relay', '--accel', 'auto', '--status', 'off'],
        )) as RelayStatus;
        const xdp = started.engine.accelerators.find(({ name }) => name === 'xdp');
        assert.equal(xdp?.state, 'unavailable');
        assert.match(xdp.reason, reason);
        assert.equal(pair.relay.log.match(/kernel-path/g)?.length, 1, pair.relay.log);
        assert.equal((await ping(pair.left.omerta.node, pair.right.ipv6, 20, 5)).lost, 0);
        assert.match(await stop(), /stopped/);
        await assert.rejects(pair.relay.start('relay', '--accel', 'xdp', '--status', 'off'), (error) => {
          assert.match(String(error), /ended with code \d+: omerta: accel: /);
          assert.match(String(error), reason);
          return true;
        });
        pair.relay.through = [];
      });

    it('with --accel auto goes on through the socket where another program is attached', async () => {
      await pair.relay.node.mustRun('ip', [
        ...[
          'link',
          'set',
          'dev',
          'eth0',
          'xdpdrv',
          'object',
          'build/native/xdp/test/pass.bpf.o',
          'section',
          'xdp',
        ],
      ]);
      const started = (await pair.relay.start('relay', '--accel', 'auto', '--status', 'off')) as RelayStatus;
      const xdp = started.engine.accelerators.find(({ name }) => name === 'xdp');
      assert.equal(xdp?.state, 'unavailable');
      assert.match(xdp.reason, /eth0: another XDP program \(id \d+\) is attached/);
      assert.equal(pair.relay.log.match(/kernel-path-off/g)?.length, 1);
      const doctor = await pair.relay.node.run(process.execPath, [
        ...['bin/omerta', '--state', pair.relay.state, 'doctor'],
      ]);
      assert.match(doctor.stdout, /running daemon's xdp.*another XDP program/);
      assert.equal((await ping(pair.left.omerta.node, pair.right.ipv6, 20, 5)).lost, 0);
      assert.match(await stop(), /stopped/);
      await assert.rejects(
        pair.relay.start('relay', '--accel', 'xdp', '--status', 'off'),
        /ended with code 1: [^]*omerta: accel: .*ip link set dev eth0 xdp off/,
      );
      assert.deepEqual(pinsOf(pair.relay.node), []);
    });
  },
);
