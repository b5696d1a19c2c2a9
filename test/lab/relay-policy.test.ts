import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { after, before, describe, it } from 'node:test';
import type { DaemonStatus } from '../../ts/status/model/daemon-status.js';
import type { RelayAccountsStatus } from '../../ts/status/model/relay-accounts.js';
import type { ConfigurationChange } from '../../ts/daemon/config/relay-configuration.js';
import type { CarriedCircuit } from '../../ts/status/model/relay-circuits.js';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import { NumberedStream, type Arrivals } from '../../ts/lab/numbered-stream.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { prepareForXdp, xdpUnavailable } from '../../ts/lab/xdp.js';

const DEADLINE_MS = 20_000;
/** Datagrams a second in either direction; what a limit lets through of it is less than a tenth. */
const RATE = 400;
const SLOW = '{ packets_per_second = 20, burst_ms = 500 }';

/** The policy is the same; who holds frames to it is not. */
const WAYS = [
  { through: 'its sockets', skip: labUnavailable(['ping']), relayArguments: [], kernel: false },
  {
    through: 'the kernel',
    skip: labUnavailable(['ping', 'ethtool', 'bpftool']) ?? xdpUnavailable(),
    relayArguments: ['--accel', 'xdp'],
    kernel: true,
  },
] as const;

for (const { through, skip, relayArguments, kernel } of WAYS)
  describe(
    `an operator changes the policy of a relay while it carries a circuit through ${through}`,
    {
      skip: skip ?? false,
    },
    () => {
      let world: World;
      let pair: MeshPair;
      let circuit: string;

      const configure = (text: string): void => pair.relay.configure(text);
      const reload = async (text: string): Promise<ConfigurationChange> => {
        configure(text);
        return (await pair.relay.command(['relay', 'reload'])) as ConfigurationChange;
      };
      const status = async (): Promise<DaemonStatus> =>
        (await pair.relay.request({ command: 'status' })) as DaemonStatus;
      const counter = async (name: string): Promise<number> => (await status()).counters[name] ?? 0;
      const circuits = async (): Promise<CarriedCircuit[]> =>
        (await pair.relay.command(['relay', 'circuits'])) as CarriedCircuit[];
      const peerId = async (end: MeshPair['left']): Promise<string> =>
        ((await end.omerta.request({ command: 'status' })) as DaemonStatus).mesh.peerId;

      /** Datagrams from left to right, those of a second; some are to be lost. */
      const stream = async (count = RATE, patienceMs = 300): Promise<Arrivals> => {
        const running = await NumberedStream.start(
          pair.left.omerta.node,
          pair.right.omerta.node,
          pair.right.ipv6,
          RATE,
        );
        await running.sent(count);
        return running.stop(patienceMs);
      };
      /** Until a stream loses nothing, and gets nothing that waited. */
      const flowing = async (): Promise<void> => {
        const deadline = performance.now() + DEADLINE_MS;
        const some = (): Promise<Arrivals> => stream(RATE / 4, 1000);
        let last = await some();
        while (last.lost !== 0 && performance.now() < deadline) last = await some();
        assert.equal(last.lost, 0, `${last.lost} of ${last.sent} lost`);
      };

      before(async () => {
        world = await World.create();
        pair = await MeshPair.start(world, () => undefined, {
          relayArguments,
          ...(kernel ? { prepare: (nodes) => prepareForXdp(world, nodes) } : {}),
        });
        await flowing();
        circuit = (await circuits())[0]?.id ?? '';
      });
      after(() => world.remove());

      const limits: readonly (readonly [string, string, string, string])[] = [
        ['a circuit', `[relay.classes.default]\ncircuit_limit = ${SLOW}`, 'rate_limited', 'classes.default'],
        [
          'a circuit, in bytes',
          '[relay.classes.default]\ncircuit_limit = { bytes_per_second = 16_000, burst_ms = 200 }',
          'rate_limited',
          'classes.default.circuit_limit.bytes_per_second',
        ],
        [
          'an identity',
          `[relay.classes.default]\nidentity_limit = ${SLOW}`,
          'identity_rate',
          'classes.default',
        ],
        ['a network', `[relay.classes.default]\nnetwork_limit = ${SLOW}`, 'network_rate', 'classes.default'],
        ['a source prefix', `[relay]\nprefix_limit = ${SLOW}`, 'prefix_rate', 'prefix_limit'],
        // One identity asks for more than its share, before the host is asked for too much.
        ['the host', `[relay]\nhost_limit = ${SLOW}`, 'fair_share', 'host_limit'],
      ];
      for (const [whose, text, reason, key] of limits)
        it(`the limit of ${whose} is in force at once, and counted`, async () => {
          const before = await counter(`drop_${reason}`);
          const { applied, restart } = await reload(text);
          assert.ok(
            applied.some((changed) => changed.startsWith(`relay.${key}`)),
            applied.join(' '),
          );
          assert.deepEqual(restart, []);
          const { sent, lost } = await stream();
          assert.ok(lost > sent / 2, `${lost} of ${sent} lost`);
          assert.ok((await counter(`drop_${reason}`)) > before);
        });

      it(`what was carried was carried by ${through}`, async () => {
        const { counters } = await status();
        const [all = 0, inKernel = 0] = [counters.forwarded_packets, counters.xdp_forwarded_packets];
        assert.ok(all > 0);
        assert.equal(inKernel > all / 2, kernel, `${inKernel} of ${all}`);
      });

      it('a limit that is taken away is gone at once, and the circuit is the one it was', async () => {
        await reload('');
        await flowing();
        assert.deepEqual(
          (await circuits()).map(({ id }) => id),
          [circuit],
        );
      });

      it('a class for one identity holds its traffic back and no other', async () => {
        const [left, right] = [await peerId(pair.left), await peerId(pair.right)];
        await reload(`[relay.classes.slow]\nidentities = ["${left}"]\nidentity_limit = ${SLOW}`);
        const { lost, sent } = await stream();
        assert.ok(lost > sent / 2, `${lost} of ${sent} lost`);
        const accounts = (await pair.relay.command(['relay', 'accounts'])) as RelayAccountsStatus;
        const of = (id: string): RelayAccountsStatus['identities'][number] | undefined =>
          accounts.identities.find((account) => account.id === id);
        assert.equal(of(left)?.quotaClass, 'slow');
        assert.ok((of(left)?.refused ?? 0) >= lost / 2);
        assert.ok((of(left)?.bytes ?? 0) > 0);
        assert.equal(of(right)?.quotaClass, 'default');
        assert.equal(of(right)?.refused, 0);
        assert.equal(accounts.networks[0]?.name, 'home');
        await reload('');
        await flowing();
      });

      it('the byte cap of a circuit ends what it carries', async () => {
        const before = await counter('drop_byte_cap');
        await reload('[relay.classes.default]\ncircuit_bytes = 65536');
        const { lost } = await stream();
        assert.ok(lost > 0);
        assert.ok((await counter('drop_byte_cap')) > before);
        await reload('');
        await flowing();
      });

      it('when the host is asked for more than it has, who asks for little gets it', async () => {
        await reload('[relay]\nhost_limit = { packets_per_second = 1000, burst_ms = 100 }');
        const [left, right] = [pair.left, pair.right];
        const greedy = await NumberedStream.start(left.omerta.node, right.omerta.node, right.ipv6, 5000);
        await setTimeout(1000); // shares are dealt ten times a second
        const modest = await NumberedStream.start(right.omerta.node, left.omerta.node, left.ipv6, 100);
        await setTimeout(2000);
        const [little, much] = [await modest.stop(1000), await greedy.stop(0)];
        // Four fifths, when the machine lets it send what it wants to.
        assert.ok(much.lost > much.sent / 10, `${much.lost} of ${much.sent} of the greedy one's lost`);
        assert.ok(
          little.lost <= little.sent / 10,
          `${little.lost} of ${little.sent} of the modest one's lost`,
        );
        assert.ok((await counter('drop_fair_share')) > 0);
        await reload('');
        await flowing();
      });

      if (kernel) return; // what follows is the daemon's alone

      it('a file with an error changes nothing, and says where it is', async () => {
        const before = (await status()).counters;
        for (const [text, field] of [
          [
            '[relay.classes.default]\ncircuit_limit = { packets_per_second = "many" }',
            /circuit_limit\.packets_per_second/,
          ],
          ['[relay]\nhost_limit = { bytes_per_second = 1 }', /relay\.host_limit\.bytes_per_second/],
          ['[relay]\ncircuits = 0', /relay\.circuits/],
          ['[relay', /line 5 column/],
        ] as const)
          await assert.rejects(reload(text), field);
        assert.equal((await stream(RATE, 10_000)).lost, 0);
        const after = (await status()).counters;
        for (const reason of ['rate_limited', 'host_rate'])
          assert.equal(after[`drop_${reason}`], before[`drop_${reason}`]);
        await reload('');
      });

      it('SIGHUP does the same, and the log says what came of it', async () => {
        const { pid } = await status();
        configure(`[relay.classes.default]\ncircuit_limit = ${SLOW}`);
        process.kill(pid, 'SIGHUP');
        const deadline = performance.now() + DEADLINE_MS;
        while (!pair.relay.log.includes('"applied":"relay.classes.default"') && performance.now() < deadline)
          await setTimeout(50);
        const { sent, lost } = await stream();
        assert.ok(lost > sent / 2, `${lost} of ${sent} lost`);
        configure('[relay]\nserve = 5');
        process.kill(pid, 'SIGHUP');
        while (!pair.relay.log.includes('configuration-not-reloaded') && performance.now() < deadline)
          await setTimeout(50);
        assert.match(pair.relay.log, /config relay\.serve/);
        await reload('');
        await flowing();
      });

      it('what only a new start can change is named, and the rest is in force', async () => {
        const change = await reload(
          'port = 51999\n[relay]\ncircuits = 100_000\ncircuits_per_identity = 7\naccel = "native"',
        );
        assert.deepEqual(change, {
          applied: ['relay.circuits_per_identity'],
          removed: [],
          restart: ['node.port', 'relay.circuits', 'relay.accel'],
        });
        await reload('');
      });

      it('an identity that is denied loses its circuits at once, and comes back when it may', async () => {
        const right = await peerId(pair.right);
        await reload(`[relay]\ndeny = ["${right}"]`);
        assert.deepEqual(await circuits(), []);
        const { sent, lost } = await stream();
        assert.equal(lost, sent);
        await reload('');
        await flowing();
        assert.equal((await circuits()).length, 1);
      });
    },
  );
