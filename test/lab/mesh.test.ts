import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { DaemonStatus, PeerRow } from '../../ts/status/model/daemon-status.js';
import { capture } from '../../ts/lab/capture.js';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import { ping } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';

describe(
  'the shipped binary between two NATs',
  { skip: labUnavailable(['ping', 'iperf3', 'ss']) ?? false },
  () => {
    let world: World;
    let pair: MeshPair;

    before(async () => {
      world = await World.create();
      pair = await MeshPair.start(world, () => undefined);
    });
    after(() => world.remove());

    it('connects a port-restricted and a symmetric NAT through the relay', async () => {
      assert.equal(await pair.path(), 'relay');
    });

    it('loses none of 200 pings over IPv6', async () => {
      const { sent, lost } = await ping(pair.left.omerta.node, pair.right.ipv6, 200, 5);
      assert.deepEqual({ sent, lost }, { sent: 200, lost: 0 });
    });

    it('loses none of 50 pings over IPv4, in the other direction', async () => {
      assert.ok(pair.left.ipv4 !== undefined);
      const { sent, lost } = await ping(pair.right.omerta.node, pair.left.ipv4, 50, 5);
      assert.deepEqual({ sent, lost }, { sent: 50, lost: 0 });
    });

    it('carries a TCP stream for 3 s, all of it through the relay', async () => {
      const { megabitsPerSecond, bytes, relayedBytes } = await pair.throughput(3);
      assert.ok(megabitsPerSecond > 1, `${megabitsPerSecond} Mbit/s`);
      assert.ok(relayedBytes >= bytes, `${relayedBytes} bytes came to the relay, ${bytes} were delivered`);
    });

    it('shows in omerta peers on what both ends agreed inside their session', async () => {
      const status = (await pair.left.omerta.command(['status'])) as DaemonStatus;
      const gcm = status.engine.accelerators.find(({ name }) => name === 'aes-256-gcm');
      const expected = gcm?.state === 'on' ? 'AES-256-GCM' : 'ChaCha20-Poly1305';
      for (const [end, other] of [
        [pair.left, 'right'],
        [pair.right, 'left'],
      ] as const) {
        const rows = (await end.omerta.command(['peers'])) as readonly PeerRow[];
        const session = rows.find(({ name }) => name === other)?.session;
        assert.deepEqual([session?.suite, session?.replayWindow], [expected, 65472]);
      }
    });

    it(
      'shows the relay nothing of what the nodes say to each other',
      { skip: labUnavailable(['tcpdump']) ?? false },
      async () => {
        const { left, right, relay } = pair;
        const secret = Buffer.from('omerta secret 16');
        const send = async (): Promise<void> => {
          // ping repeats a pattern of at most 16 bytes through its payload.
          const pattern = secret.toString('hex');
          await left.omerta.node.mustRun('ping', ['-n', '-c5', '-i0.01', '-s400', '-p', pattern, right.ipv6]);
        };
        const inside = await capture(world, left.omerta.node, 'omerta0', send);
        assert.ok(inside.includes(secret), 'the capture would show the pattern if it were there');
        const atRelay = await capture(world, relay.node, 'eth0', send);
        assert.ok(atRelay.length > 5 * 2 * 400, `${atRelay.length} bytes captured at the relay`);
        assert.equal(atRelay.includes(secret), false);
      },
    );

    it('comes back within 5 s when the relay is killed and restarted', async () => {
      const { milliseconds } = await pair.killRelay();
      assert.ok(milliseconds <= 5000, `${milliseconds} ms`);
    });
  },
);
