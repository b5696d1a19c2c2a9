// Two relays of one network, and members that talk over one of them while it is taken down.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';

const LIMIT_MS = 60_000;

const statusOf = async (node: OmertaNode): Promise<DaemonStatus> =>
  (await node.request({ command: 'status' })) as DaemonStatus;

async function until(what: string, reached: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!(await reached())) {
    assert.ok(performance.now() < deadline, `not within ${LIMIT_MS} ms: ${what}`);
    await sleep(50);
  }
}

/** Whether a process is there: a daemon this test has started is reaped as it ends. */
function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** Pings at a steady pace until told to stop. */
class SteadyPing {
  readonly #child;
  #text = '';

  constructor(from: OmertaNode, address: string) {
    this.#child = from.node.spawn('ping', ['-n', '-i', '0.01', '-O', address], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#child.stdout?.on('data', (data: Buffer) => (this.#text += data.toString()));
  }

  /** How many have been answered. */
  get answered(): number {
    return [...this.#text.matchAll(/bytes from /g)].length;
  }

  /** @returns how many were answered up to the last one, and which were not */
  async stop(): Promise<{ readonly sent: number; readonly missing: readonly number[] }> {
    const gone = once(this.#child, 'close');
    this.#child.kill('SIGINT');
    await gone;
    const sequences = [...this.#text.matchAll(/bytes from .*icmp_seq=(\d+)/g)].map(([, sequence]) =>
      Number(sequence),
    );
    const sent = Math.max(...sequences);
    const answered = new Set(sequences);
    const missing = Array.from({ length: sent }, (_, index) => index + 1).filter(
      (each) => !answered.has(each),
    );
    return { sent, missing };
  }
}

describe('a relay that is taken down', { skip: labUnavailable(['ping']) ?? false }, () => {
  let world: World;
  let relays: readonly OmertaNode[];
  let left: OmertaNode;
  let right: OmertaNode;
  let address: string;

  before(async () => {
    world = await World.create();
    const names = ['first', 'second'];
    relays = [];
    for (const name of names) relays = [...relays, new OmertaNode(world, await world.addNode(name), name)];
    const [first, second] = relays;
    assert.ok(first && second);
    const { networks } = (await first.start('relay')) as { networks: readonly [{ invite: string }] };
    await second.command(['network', 'join', '-'], networks[0].invite);
    await second.start('relay');
    const { invite } = (await second.command(['network', 'invite', '--here'])) as { invite: string };
    const members = [];
    for (const name of ['left', 'right']) {
      const nat = await world.addNat(`nat-${name}`, 'port-restricted');
      members.push(new OmertaNode(world, await world.addNode(name, { behind: nat }), name));
    }
    for (const member of members) {
      await member.command(['network', 'join', '-'], invite);
      await member.command(['up']);
    }
    [left, right] = members as [OmertaNode, OmertaNode];
    await until('both relays hold both members', async () => {
      const { mesh } = await statusOf(left);
      const there = (await statusOf(right)).mesh.bootstraps;
      return [...mesh.bootstraps, ...there].filter(({ state }) => state === 'registered').length === 4;
    });
    address = (await statusOf(right)).mesh.networks[0]?.ipv6 ?? '';
  });
  after(() => world.remove());

  const inUse = async (): Promise<OmertaNode> => {
    for (const relay of relays)
      if (((await statusOf(relay)).mesh.relay?.circuits.length ?? 0) > 0) return relay;
    return assert.fail('no relay has a circuit');
  };

  it('loses members with another relay no packet, and stops when they have left', async () => {
    await until('a ping comes through', async () => {
      const { code } = await left.node.run('ping', ['-n', '-c1', '-W', '1', address]);
      return code === 0;
    });
    const steady = new SteadyPing(left, address);
    await sleep(500);
    const used = await inUse();
    const [other] = relays.filter((relay) => relay !== used);
    assert.ok(other);
    const begun = steady.answered;
    const outcome = (await used.command(['relay', 'drain', '--within', '60s'])) as {
      readonly ended: boolean;
      readonly endsInSeconds: number;
    };
    assert.equal(outcome.ended, true);
    assert.ok(outcome.endsInSeconds > 0, 'before its time was up');
    await sleep(1000);
    const { sent, missing } = await steady.stop();
    assert.ok(sent > 100, `${sent} pings`);
    assert.deepEqual(missing, [], `of ${sent}, drained from ${begun} on`);
    const { mesh } = await statusOf(other);
    assert.ok((mesh.relay?.circuits.length ?? 0) > 0);
    const gone = (await statusOf(left)).mesh.bootstraps.find(({ lastError }) => lastError === 'draining');
    assert.ok(gone);
    await used.start('relay');
    await until('members are back at the first', async () => {
      const { bootstraps } = (await statusOf(left)).mesh;
      return bootstraps.every(({ state }) => state === 'registered');
    });
  });

  it('shows that it drains, takes nobody on, and takes it back', async () => {
    const used = await inUse();
    // One of the two has no other relay.
    const [other] = relays.filter((relay) => relay !== used);
    assert.ok(other);
    await other.kill();
    const drain = (await used.command(['relay', 'drain', '--within', '10m', '--stay', '--no-wait'])) as {
      clients: number;
    };
    assert.equal(drain.clients, 2);
    const { statusPage } = await statusOf(used);
    const ask = async (path: string): Promise<string> =>
      used.node.mustRun(process.execPath, [
        '-e',
        `fetch(process.argv[1]).then(async (r) => process.stdout.write(r.status + " " + await r.text()))`,
        `${String(statusPage)}${path}`,
      ]);
    assert.match(await ask('readyz'), /^503 not ready\ndrain: draining: 2 clients/);
    assert.match(await ask('metrics'), /^omerta_drain_clients 2$/m);
    const { drainsInSeconds } =
      (await statusOf(left)).mesh.bootstraps.find((each) => each.drainsInSeconds !== undefined) ?? {};
    assert.ok((drainsInSeconds ?? 0) > 500);
    await used.request({ command: 'relay-undrain' });
    assert.equal(await ask('readyz'), '200 ready\n');
    await assert.rejects(used.request({ command: 'relay-undrain' }), /does not drain/);
    await assert.rejects(
      left.request({ command: 'relay-drain', seconds: 5, stay: false }),
      /runs as a member/,
    );
  });

  it('is waited for no longer after a second SIGTERM', async () => {
    const used = await inUse();
    const [other] = relays.filter((relay) => relay !== used);
    assert.ok(other);
    await other.start('relay');
    await until('both are registered with the other', async () => {
      const views = await Promise.all([left, right].map(statusOf));
      return views.every(({ mesh }) => mesh.bootstraps.every(({ state }) => state === 'registered'));
    });
    used.configure('[relay]\ndrain_seconds = 600');
    await used.command(['reload']);
    const [{ pid }, { pid: halted }] = [await statusOf(used), await statusOf(other)];
    const steady = new SteadyPing(left, address);
    await until('pings come through', async () => Promise.resolve(steady.answered > 10));
    // The members believe that they have another relay, and cannot move to it.
    process.kill(halted, 'SIGSTOP');
    try {
      process.kill(pid, 'SIGTERM');
      await until('it drains', async () => Promise.resolve(used.log.includes('relay-draining')));
      await sleep(300);
      assert.ok(alive(pid), 'it waits for them');
      process.kill(pid, 'SIGTERM');
      await until('it has ended', async () => Promise.resolve(!alive(pid)));
      assert.doesNotMatch(used.log, /relay-drained/);
    } finally {
      process.kill(halted, 'SIGCONT');
      await steady.stop();
    }
    used.configure('');
    await used.start('relay');
    await until('a ping comes through', async () => {
      const { code } = await left.node.run('ping', ['-n', '-c1', '-W', '1', address]);
      return code === 0;
    });
    await until('one relay is in use', async () =>
      (await Promise.all(relays.map(statusOf))).some(({ mesh }) => (mesh.relay?.circuits.length ?? 0) > 0),
    );
  });

  it('is not waited for by SIGTERM when nobody has another relay', async () => {
    const used = await inUse();
    const begin = performance.now();
    await used.node.mustRun(process.execPath, [...used.commandLine('relay', 'stop')]);
    assert.ok(performance.now() - begin < LIMIT_MS);
  });
});
