import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Subjects, type RelayProcess } from '../../bench/relay-subjects.js';
import { Topology } from '../../bench/relay-topology.js';
import { startXdp } from '../../bench/xdp-end-to-end.js';
import { LiveTraffic } from '../../bench/xdp-live.js';
import { OTHER_LAYOUT, RESTART_AND_UPGRADE, underLoad, type Changes } from '../../bench/xdp-upgrade.js';
import { BpfMount } from '../../ts/lab/bpf-mount.js';
import { mustRun } from '../../ts/lab/command.js';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import { NumberedStream } from '../../ts/lab/numbered-stream.js';
import { installRelease, releasesUnavailable, type Release } from '../../ts/lab/release.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { prepareForXdp, xdpUnavailable } from '../../ts/lab/xdp.js';

const TOOLS = fileURLToPath(new URL('../../../build/native/bench/native', import.meta.url));
const FRAMES_PER_SECOND = 100_000;
/** Through tunnels: less than two busy cores can carry. */
const DATAGRAMS_PER_SECOND = 2000;

const missing = labUnavailable(['ethtool', 'bpftool']) ?? xdpUnavailable() ?? releasesUnavailable();
const tools = labUnavailable(['taskset', 'chrt']) ?? (availableParallelism() < 2 ? 'needs two cores' : false);

describe('of 100,000 numbered frames a second', { skip: missing ?? tools }, () => {
  let bpf: BpfMount;
  let subjects: Subjects;
  let traffic: LiveTraffic;
  let relay: RelayProcess;

  before(async () => {
    bpf = await BpfMount.create();
    const topology = await Topology.create();
    topology.relay.bpf = bpf;
    subjects = new Subjects(topology, TOOLS);
    // Its program on the server's end first: until then that veth takes nothing redirected, and the relay,
    // which looks once a second, sends by its socket, which a dead daemon does not have.
    traffic = await LiveTraffic.start(topology, TOOLS);
    relay = await startXdp(subjects);
    await traffic.pin();
  });
  after(() => {
    traffic.end();
    relay.process.kill('SIGKILL');
    bpf.close();
  });

  const changed = async (changes: typeof OTHER_LAYOUT): Promise<Changes> => {
    const { successor, ...result } = await underLoad(subjects, traffic, relay, FRAMES_PER_SECOND, changes);
    relay = successor;
    assert.equal(new Set(result.programs.map(({ id }) => id)).size, changes.length + 1, 'each has its own');
    assert.ok(result.sent > FRAMES_PER_SECOND / 2, `${result.sent} sent`);
    return result;
  };

  it('none is lost through SIGKILL, a restart, an upgrade to another build, and back', async () => {
    const { programs, lost, uncounted } = await changed(RESTART_AND_UPGRADE);
    const [killed, restarted, upgraded, back] = programs.map(({ tag }) => tag);
    assert.equal(restarted, killed);
    assert.notEqual(upgraded, restarted, 'other instructions');
    assert.equal(back, killed);
    assert.deepEqual({ lost, uncounted }, { lost: 0, uncounted: 0 });
  });

  it('none is lost through an upgrade to a build of another layout, and back', async () => {
    const { programs, lost, uncounted } = await changed(OTHER_LAYOUT);
    const [before, upgraded, back] = programs.map(({ tag }) => tag);
    assert.notEqual(upgraded, before, 'other instructions');
    assert.equal(back, before);
    assert.deepEqual({ lost, uncounted }, { lost: 0, uncounted: 0 });
  });
});

describe('a relay between two members', { skip: labUnavailable(['ping']) ?? missing ?? false }, () => {
  let world: World;
  let pair: MeshPair;
  let installed: string;

  before(async () => {
    world = await World.create();
    pair = await MeshPair.start(world, () => undefined, {
      relayArguments: ['--accel', 'xdp', '--detach', '--status', 'off'],
      prepare: (nodes) => prepareForXdp(world, nodes),
    });
    installed = pair.relay.installation;
  });
  after(() => world.remove());

  const forwarded = async (): Promise<number> => {
    const { counters } = (await pair.relay.command(['status'])) as {
      readonly counters: Readonly<Record<string, number>>;
    };
    return counters['xdp_forwarded_packets'] ?? 0;
  };
  const tag = async (): Promise<string> => {
    const link = await pair.relay.node.mustRun('ip', ['-details', 'link', 'show', 'eth0']);
    const id = /prog\/xdp id (\d+)/.exec(link)?.[1];
    assert.ok(id !== undefined, 'a program is attached');
    return (
      JSON.parse(await mustRun('bpftool', ['-j', 'prog', 'show', 'id', id])) as { readonly tag: string }
    ).tag;
  };

  for (const release of ['next-build', 'next-layout'] as const satisfies readonly Release[])
    it(`is upgraded to ${release} and back, and none of their datagrams is lost`, async () => {
      const { node, state } = pair.relay;
      const change = async (installation: string): Promise<string> => {
        await node.mustRun(process.execPath, ['bin/omerta', '--state', state, 'relay', 'stop']);
        await setTimeout(300);
        pair.relay.installation = installation;
        await pair.startRelay();
        await setTimeout(300);
        return tag();
      };
      const before = await tag();
      const carried = await forwarded();
      const nodes = [pair.left.omerta.node, pair.right.omerta.node] as const;
      const numbered = await NumberedStream.start(...nodes, pair.right.ipv6, DATAGRAMS_PER_SECOND);
      await setTimeout(300);
      const upgraded = await change(installRelease(release, join(world.folder, release)));
      const back = await change(installed);
      const { sent, lost, repeated } = await numbered.stop();
      assert.notEqual(upgraded, before, 'other instructions');
      assert.equal(back, before);
      assert.deepEqual({ lost, repeated }, { lost: 0, repeated: 0 });
      assert.ok((await forwarded()) - carried >= sent, 'counters go on');
    });
});
