import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { after, before, describe, it } from 'node:test';
import { Bpftrace, bpftraceUnavailable } from '../../ts/lab/bpftrace.js';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import { Namespace } from '../../ts/lab/namespace.js';
import { NumberedStream } from '../../ts/lab/numbered-stream.js';
import { ProbeSocket } from '../../ts/lab/probe-socket.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World, type Node } from '../../ts/lab/world.js';
import { prepareForXdp, xdpUnavailable } from '../../ts/lab/xdp.js';

const FOLDER = fileURLToPath(new URL('../../../xdp', import.meta.url));
const SCRIPTS = readdirSync(FOLDER).filter((name) => name.endsWith('.bt'));
const PROBE = fileURLToPath(new URL('../../ts/lab/udp-probe.js', import.meta.url));
const UNREAD_PORT = 7100;
const DEADLINE_MS = 30_000;

describe('the bpftrace scripts', () => {
  for (const script of SCRIPTS)
    it(`${script} says what it answers, how to run it, and shows what it prints`, () => {
      const text = readFileSync(join(FOLDER, script), 'utf8');
      const [header = ''] = /^\/\*[^]*?\*\//m.exec(text) ?? [];
      assert.match(header.split('\n')[1] ?? '', /^ \* .*\?/, 'the first line asks a question');
      assert.ok(header.includes(` *   sudo bpftrace xdp/${script} `), 'the command');
      assert.match(header, /^ \* Cost: /m);
      // The names of the maps in the output are the ones the script declares.
      const shown = [...header.matchAll(/^ \* {3}@(\w+)/gm)].map(([, name]) => name);
      assert.ok(shown.length > 0, 'an output');
      const body = text.slice(text.indexOf(header) + header.length);
      for (const name of shown) assert.ok(body.includes(`print(@${name}`), `@${name} is printed`);
    });

  it('drops-by-reason.bt has the names of the sources, in their order', () => {
    const source = (file: string, list: string): string[] => {
      const text = readFileSync(join(FOLDER, file), 'utf8');
      const [, lines = ''] = new RegExp(`#define ${list}\\(X\\)((?:.*\\\\\\n)*.*)`).exec(text) ?? [];
      return [...lines.matchAll(/X\(\w+, (\w+)\)/g)].map(([, name = '']) => name);
    };
    const expected = new Map<number, string>();
    source('../native/wire/include/omerta/wire.h', 'OMERTA_DROP_REASONS').forEach((name, index) => {
      if (name !== 'none') expected.set(index, name);
    });
    source('../native/wire/include/omerta/xdp_maps.h', 'OMERTA_XDP_COUNTERS').forEach((name, index) => {
      if (name.startsWith('drop_')) expected.set(64 + index, name.slice('drop_'.length));
    });
    assert.ok(expected.size > 20);
    const text = readFileSync(join(FOLDER, 'drops-by-reason.bt'), 'utf8');
    const named = [...text.matchAll(/@name\[(\d+)\] = "(\w+)"/g)].map(
      ([, index, name = '']) => [Number(index), name] as const,
    );
    assert.deepEqual(new Map(named), expected);
    // The words it reads are theirs and no others.
    const read =
      /while \(\$word < (\d+)\) \{\s*if \(\$word < (\d+) \|\| \(\$word > (\d+) && \$word < (\d+)\) \|\| \$word == (\d+)\)/;
    const [end = 0, reasons = 0, above = 0, below = 0, last = 0] = (read.exec(text) ?? [])
      .slice(1)
      .map(Number);
    const words = Array.from({ length: end - 1 }, (_, index) => index + 1);
    assert.deepEqual(
      words.filter((word) => word < reasons || (word > above && word < below) || word === last),
      [...expected.keys()],
    );
  });
});

describe(
  'the bpftrace scripts, under traffic',
  { skip: labUnavailable(['bpftrace', 'ethtool']) ?? xdpUnavailable() ?? bpftraceUnavailable() ?? false },
  () => {
    let world: World;
    let pair: MeshPair;
    let stranger: Node;
    let pid: number;
    const traces = new Map<string, Bpftrace>();

    before(async () => {
      world = await World.create();
      pair = await MeshPair.start(world, () => undefined, {
        relayArguments: ['--accel', 'xdp', '--status', 'off'],
        prepare: async (nodes) => {
          stranger = await world.addNode('stranger');
          await prepareForXdp(world, [...nodes, stranger]);
        },
      });
      ({ pid } = (await pair.relay.command(['status'])) as { readonly pid: number });
      for (const [script, trace] of await Promise.all(
        SCRIPTS.map(async (name) => [name, await Bpftrace.start(join(FOLDER, name))] as const),
      ))
        traces.set(script, trace);
    });
    after(async () => {
      await Promise.all([...traces.values()].map((trace) => trace.stop()));
      world.remove();
    });

    it('each prints what it is there for', async () => {
      const { node } = pair.relay;
      const status = (await pair.relay.command(['status'])) as { readonly port: number };
      const unread = stranger.spawn(process.execPath, [PROBE, stranger.address, String(UNREAD_PORT)], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      if (unread.stdout !== null) await once(unread.stdout, 'data'); // it listens
      unread.kill('SIGSTOP'); // and reads no more
      const home = await ProbeSocket.open(pair.right.omerta.node, 7101);
      const attacker = await ProbeSocket.open(stranger, 7102);
      const stream = await NumberedStream.start(
        ...([pair.left.omerta.node, pair.right.omerta.node, pair.right.ipv6, 2000] as const),
      );
      const [, eth0 = ''] = /^(\d+):/.exec(await node.mustRun('ip', ['-o', 'link', 'show', 'eth0'])) ?? [];

      const expected = new Map<string, readonly RegExp[]>([
        ['cpu-imbalance.bt', [/@packets\[eth0, \d+\]: [1-9]/, /@receiving_ms\[\d+\]: [1-9]/]],
        ['drops-by-reason.bt', [new RegExp(`@drops\\[${pid}, unknown_protocol\\]: [1-9]`)]],
        [
          'forwarding-latency.bt',
          [/@sent_back_frames: [1-9]/, /@sent_back_ns:\s*\n\[\d+K?, \d+[KM]?\) +[1-9]/],
        ],
        ['socket-overflows.bt', [new RegExp(`@lost_by_port\\[${UNREAD_PORT}, -\\d+\\]: [1-9]`)]],
        ['top-talkers.bt', [new RegExp(`@packets\\[198\\.51\\.100\\.\\d+, ${UNREAD_PORT}\\]: [1-9]`)]],
        ['xdp-exceptions.bt', [new RegExp(`@tx_lost\\[${eth0}, -\\d+\\]: [1-9]`)]],
      ]);
      assert.deepEqual([...expected.keys()], [...SCRIPTS].sort());
      const missing = (): string[] =>
        [...expected].flatMap(([script, patterns]) =>
          patterns.filter((each) => !each.test(traces.get(script)?.output ?? '')).map(() => script),
        );
      let junk = 0;
      const until = async (done: () => boolean): Promise<void> => {
        const deadline = performance.now() + DEADLINE_MS;
        while (!done() && performance.now() < deadline) {
          for (let i = 0; i < 50; i++, junk++) {
            attacker.send(node.address, status.port, 'short');
            home.send(stranger.address, UNREAD_PORT, 'x'.repeat(1000));
          }
          await setTimeout(100);
        }
      };
      // What the relay sends back is lost once the far end of its cable has no program: the last, because
      // the daemon gives such an interface up.
      await until(() => missing().every((script) => script === 'xdp-exceptions.bt'));
      await new Namespace(`${world.prefix}net`).mustRun('ip', ['link', 'set', 'dev', 'port1', 'xdp', 'off']);
      await until(() => missing().length === 0);
      await stream.stop();
      const print = (): string => [...traces].map(([name, { output }]) => `${name}:\n${output}`).join('\n');
      if (process.env['OMERTA_SHOW_TRACES'] !== undefined) console.log(print());
      assert.deepEqual(missing(), [], print());

      const drops = new RegExp(`@drops\\[${pid}, unknown_protocol\\]: (\\d+)`, 'g');
      const counts = [...(traces.get('drops-by-reason.bt')?.output ?? '').matchAll(drops)];
      assert.ok(Number(counts.at(-1)?.[1]) <= junk, `${counts.at(-1)?.[1]} of ${junk}`);
      for (const [script, trace] of traces) assert.equal(await trace.stop(), 0, `${script}: ${trace.output}`);
    });
  },
);
