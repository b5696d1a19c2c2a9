// Padding against traffic analysis, in the shipped binary: two members, a relay, and somebody who sees the wire.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { capture, capturedDatagrams, type CapturedDatagram } from '../../ts/lab/capture.js';
import { startRelay } from '../../ts/lab/nat-matrix.js';
import { OmertaNode } from '../../ts/lab/omerta-node.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { StockWireguard } from '../../ts/lab/stock-wireguard.js';
import { World, type Node } from '../../ts/lab/world.js';
import { parseIp } from '../../ts/wire/socket-address.js';

const skip = labUnavailable(['ping', 'tcpdump', 'wg', 'wireguard-go']) ?? false;
const PATIENCE_MS = 60_000;
/** Bytes of ICMPv6 payload, and the UDP payload each becomes: IPv6 and ICMPv6 headers, rounded up to 16, and WireGuard's 32. */
const PINGS = [
  { data: 150, plain: 240, bucket: 288 },
  { data: 300, plain: 384, bucket: 544 },
  { data: 900, plain: 992, bucket: 1056 },
] as const;
/** An inner packet of the MTU. */
const LONGEST = 1432;
const EACH = 10;
/** Inside, of a stock WireGuard peer: an unused address of the overlay's range. */
const STOCK = '100.64.9.1';

interface Told {
  readonly path: string;
  readonly shaping: { readonly padding: string; readonly dataBytes?: number; readonly paddingBytes?: number };
}

describe('padding, as the wire shows it', { skip }, () => {
  let world: World;
  let left: OmertaNode;
  let right: OmertaNode;
  let stock: StockWireguard;
  let to: string;
  const fromLeft = ({ source }: CapturedDatagram): boolean =>
    [left.node.address, left.node.address6].some(
      (address) =>
        address !== undefined &&
        Buffer.from(parseIp(address) ?? [])
          .toString('hex')
          .endsWith(source),
    );

  /** What `left` is configured with beside `shaping`. */
  const configuration = (shaping: string): string =>
    `${shaping}\n[wireguard]\npeers = [{ public_key = "${stock.publicKey}", allowed_ips = ["${STOCK}/32"] }]`;
  const join = async (node: Node, name: string, invite: string): Promise<OmertaNode> => {
    const omerta = new OmertaNode(world, node, name, { direct: true });
    if (name === 'left') omerta.configure(configuration(''));
    await omerta.command(['network', 'join', '-'], invite);
    await omerta.start('up', '--foreground');
    return omerta;
  };
  const told = async (): Promise<Told> => (await left.command(['path', 'right'])) as Told;
  const until = async (what: string, holds: (at: Told) => boolean): Promise<void> => {
    const deadline = performance.now() + PATIENCE_MS;
    for (let at = await told(); !holds(at); at = await told()) {
      assert.ok(performance.now() < deadline, `${what}: ${JSON.stringify(at)}\n${left.log}`);
      await sleep(50);
    }
  };
  /** Sizes of what `left` sends by its interface while it pings, with how often each was seen. */
  const sizes = async (shaping: string, address = to): Promise<Map<number, number>> => {
    left.configure(configuration(shaping));
    await left.command(['reload']);
    const pcap = await capture(world, left.node, 'eth0', async () => {
      for (const { data } of PINGS) {
        await left.node.run('ping', ['-n', '-c', String(EACH), '-i', '0.05', '-s', String(data), address]);
      }
    });
    const seen = new Map<number, number>();
    for (const { size } of capturedDatagrams(pcap).filter(fromLeft))
      seen.set(size, (seen.get(size) ?? 0) + 1);
    return seen;
  };
  /** Once more where a path changed meanwhile, or a ping was lost. */
  const seeing = async (
    holds: (seen: ReadonlyMap<number, number>) => boolean,
    shaping: string,
    address = to,
  ): Promise<void> => {
    for (const deadline = performance.now() + PATIENCE_MS; ;) {
      const seen = await sizes(shaping, address);
      if (holds(seen)) return;
      assert.ok(performance.now() < deadline, `${JSON.stringify([...seen])}\n${left.log}`);
    }
  };
  const times = (seen: ReadonlyMap<number, number>, size: number): number => seen.get(size) ?? 0;

  const isConstant = (seen: ReadonlyMap<number, number>): boolean =>
    times(seen, LONGEST) >= PINGS.length * EACH &&
    PINGS.every(({ plain, bucket }) => times(seen, plain) < EACH / 2 && times(seen, bucket) < EACH / 2);

  before(async () => {
    world = await World.create();
    stock = await StockWireguard.start(world, await world.addNode('stock'), 's', STOCK);
    const { invite } = await startRelay(world);
    left = await join(await world.addNode('left'), 'left', invite);
    right = await join(await world.addNode('right'), 'right', invite);
    const { mesh } = (await right.command(['status'])) as {
      readonly mesh: { readonly networks: readonly [{ readonly ipv6: string }] };
    };
    to = mesh.networks[0].ipv6;
    await left.node.run('ping', ['-n', '-c', '1', '-W', '10', to]);
    await until('direct', ({ path }) => path === 'direct');
  });
  after(() => {
    stock.remove();
    world.remove();
  });

  it('without it the sizes of packets are seen', async () => {
    await seeing((seen) => PINGS.every(({ plain }) => times(seen, plain) >= EACH), '');
  });

  it('buckets: only the sizes of buckets are', async () => {
    await seeing(
      (seen) =>
        PINGS.every(({ plain, bucket }) => times(seen, bucket) >= EACH && times(seen, plain) < EACH / 2),
      '[shaping]\npadding = "buckets"',
    );
  });

  it('constant: all are of one size', async () => {
    await seeing(isConstant, '[shaping]\npadding = "constant"');
    const { shaping } = await told();
    assert.equal(shaping.padding, 'constant');
    // What these pings alone take: 1400 bytes each, of which 208, 352 and 960 are their own.
    assert.ok((shaping.paddingBytes ?? 0) >= EACH * (3 * 1400 - 208 - 352 - 960), JSON.stringify(shaping));
    assert.ok((shaping.dataBytes ?? 0) >= EACH * (208 + 352 + 960), JSON.stringify(shaping));
  });

  it('a budget that is spent: packets go on with their own sizes, and that is said', async () => {
    left.configure(configuration('[shaping]\npadding = "constant"\npadding_budget = 1'));
    await left.command(['reload']);
    // 128 KiB are there from the start: a hundred packets of the longest size.
    await left.node.run('ping', ['-n', '-q', '-c', '150', '-i', '0.002', '-s', '10', to]);
    await seeing(
      (seen) => PINGS.every(({ plain }) => times(seen, plain) > 0),
      '[shaping]\npadding = "constant"\npadding_budget = 1',
    );
    const { counters } = (await left.command(['status'])) as { readonly counters: Record<string, number> };
    assert.ok((counters['padding_over_budget'] ?? 0) > 0);
  });

  it('a stock WireGuard peer takes the padding off', async () => {
    const { wireguard, mesh } = (await left.command(['status'])) as {
      readonly wireguard: { readonly publicKey: string };
      readonly mesh: { readonly networks: readonly [{ readonly ipv4: string }] };
    };
    const [{ ipv4 }] = mesh.networks;
    const endpoint = `${left.node.address}:51900`;
    await stock.set('peer', wireguard.publicKey, 'endpoint', endpoint, 'allowed-ips', `${ipv4}/32`);
    await stock.node.ip(`route add ${ipv4}/32 dev ${stock.name}`);
    await stock.node.mustRun('ping', ['-n', '-c', '1', '-W', '20', ipv4]);
    await seeing(
      isConstant,
      `[[shaping.peer]]\npublic_key = "${stock.publicKey}"\npadding = "constant"`,
      STOCK,
    );
  });

  it('who is named has its own, all others go as they are', async () => {
    const { mesh } = (await right.command(['status'])) as { readonly mesh: { readonly peerId: string } };
    const named = `[[shaping.peer]]\nid = "${mesh.peerId}"`;
    await seeing(
      (seen) => PINGS.every(({ plain }) => times(seen, plain) >= EACH),
      `[shaping]\npadding = "constant"\n${named}\npadding = "off"`,
    );
    await seeing(
      (seen) => PINGS.every(({ bucket }) => times(seen, bucket) >= EACH),
      `${named}\npadding = "buckets"`,
    );
  });
});
