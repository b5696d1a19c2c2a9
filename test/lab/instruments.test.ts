import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { tcpThroughput } from '../../ts/lab/iperf.js';
import { PingWatch, parseReply, ping } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { percentile } from '../../ts/lab/statistics.js';
import { wireguardGo } from '../../ts/lab/wireguard-go.js';
import { World, type Node } from '../../ts/lab/world.js';

const DROP_ONE_IN_FIVE = 'icmp type echo-request numgen inc mod 5 == 0 drop';

describe('percentile', () => {
  it('is the nearest rank', () => {
    const values = Array.from({ length: 100 }, (_, index) => 100 - index);
    assert.equal(percentile(values, 0.5), 50);
    assert.equal(percentile(values, 0.99), 99);
    assert.equal(percentile(values, 1), 100);
    assert.equal(percentile([7], 0.01), 7);
    assert.equal(percentile([], 0.5), undefined);
  });
});

describe('parseReply', () => {
  it('reads a reply and refuses duplicates and everything else', () => {
    const line = '64 bytes from 198.51.100.10: icmp_seq=12 ttl=64 time=0.043 ms';
    assert.deepEqual(parseReply(line), { sequence: 12, milliseconds: 0.043 });
    assert.equal(parseReply(`${line} (DUP!)`), undefined);
    assert.equal(parseReply('From 198.51.100.11 icmp_seq=1 Destination Host Unreachable'), undefined);
  });
});

describe('the measuring instruments', { skip: labUnavailable(['ping', 'iperf3', 'ss']) ?? false }, () => {
  let world: World;
  let left: Node;
  let right: Node;

  before(async () => {
    world = await World.create();
    left = await world.addNode('left');
    right = await world.addNode('right');
  });
  after(() => world.remove());

  it('ping counts no loss on a clean link', async () => {
    const result = await ping(left, right.address, 50, 5);
    assert.equal(result.sent, 50);
    assert.equal(result.lost, 0);
    assert.ok(result.p50 !== undefined && result.p50 > 0 && result.p50 <= (result.p99 ?? 0));
  });

  it('ping counts exactly the pings a rule drops', async () => {
    await right.nft(
      [
        'table ip loss {',
        'chain in {',
        'type filter hook input priority 0;',
        DROP_ONE_IN_FIVE,
        '}',
        '}',
      ].join('\n'),
    );
    const result = await ping(left, right.address, 50, 5);
    await right.mustRun('nft', ['delete', 'table', 'ip', 'loss']);
    assert.equal(result.lost, 10);
  });

  it('PingWatch measures an outage from its cause to the first reply after it', async () => {
    const watch = PingWatch.start(left, right.address);
    assert.equal(await watch.steady(300, 20_000), true);
    const start = performance.now();
    await right.ip('link set eth0 down');
    await setTimeout(500);
    await right.ip('link set eth0 up');
    assert.equal(await watch.steady(300, 20_000), true);
    watch.close();
    const { lost, milliseconds } = watch.outage(start);
    // About 25; a busy machine sends fewer.
    assert.ok(lost >= 5, `${lost} pings lost`);
    assert.ok(milliseconds >= 500 && milliseconds < 20_000, `${milliseconds} ms`);
  });

  it('PingWatch reports no outage when there was none', async () => {
    const watch = PingWatch.start(left, right.address);
    const start = performance.now();
    assert.equal(await watch.steady(300, 3000), true);
    watch.close();
    assert.deepEqual(watch.outage(start), { lost: 0, milliseconds: 0 });
  });

  it('iperf3 measures a rate near the one the link is held to', async () => {
    await left.mustRun('tc', 'qdisc add dev eth0 root tbf rate 50mbit burst 32k latency 50ms'.split(' '));
    const { megabitsPerSecond, bytes } = await tcpThroughput(left, right, right.address, 1);
    await left.mustRun('tc', ['qdisc', 'del', 'dev', 'eth0', 'root']);
    assert.ok(megabitsPerSecond > 25 && megabitsPerSecond < 60, `${megabitsPerSecond} Mbit/s`);
    assert.ok(bytes > 3e6 && bytes < 7.5e6, `${bytes} bytes`);
  });

  it('iperf3 to an address that is not there is an error', async () => {
    await assert.rejects(tcpThroughput(left, right, '198.51.100.99', 1), /iperf3 does not listen/);
  });

  it(
    'a wireguard-go tunnel for comparison carries packets',
    { skip: labUnavailable(['wireguard-go', 'wg']) ?? false },
    async () => {
      const [, inside] = await wireguardGo(left, right);
      const result = await ping(left, inside, 20, 5);
      assert.equal(result.lost, 0);
    },
  );
});
