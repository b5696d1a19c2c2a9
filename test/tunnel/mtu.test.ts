// The inner MTU while the tunnel runs, padding on the wire, and outer packets larger than the path.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { until, wgUnavailable } from '../wg/wg-lab.js';
import { TunnelPair, counted } from './tunnel-pair.js';

const skip = wgUnavailable() ?? false;
/** IPv4, ICMP; and what WireGuard and UDP add. */
const INNER_HEADERS = 28;
const OUTER = 32 + 8;

describe('the MTU of a tunnel that runs', { skip, timeout: 300_000 }, () => {
  let pair: TunnelPair;
  before(async () => {
    pair = await TunnelPair.start();
    assert.equal(await pair.answered(1), 1);
  });
  after(() => pair.remove());

  /** How many of three packets of `inner` bytes leave in datagrams with `padded` bytes inside. */
  async function leaving(inner: number, padded: number): Promise<number> {
    const { left, right } = pair;
    await left.node.nft(`table inet sizes {
      chain out {
        type filter hook output priority 0
        udp dport ${right.port} udp length ${padded + OUTER} counter comment "seen"
      }
    }`);
    try {
      assert.equal(await pair.answered(3, '-M', 'do', '-s', String(inner - INNER_HEADERS)), 3);
      return await counted(left.node, 'inet sizes', 'seen');
    } finally {
      await left.node.nft('delete table inet sizes');
    }
  }

  /** Resolves when the left end pads packets of `inner` bytes as the new MTU asks. */
  async function setMtu(mtu: number, inner: number, padded: number): Promise<void> {
    for (const end of [pair.left, pair.right]) await end.node.ip(`link set ${end.name} mtu ${mtu}`);
    await until('the MTU is known', async () => (await leaving(inner, padded)) === 3);
  }

  it('bounds padding to 16 bytes', async () => {
    assert.equal(await leaving(1400, 1408), 3);
    assert.equal(await leaving(1408, 1408), 3);
    assert.equal(await leaving(1409, 1420), 3);
    assert.equal(await leaving(1420, 1420), 3);
  });

  it('is followed when it gets smaller', async () => {
    await setMtu(1402, 1400, 1402);
    assert.equal(await leaving(1402, 1402), 3);
  });

  it('is followed up to jumbo packets, in outer fragments where the path is smaller', async () => {
    await setMtu(9001, 1400, 1408);
    assert.equal(await leaving(8900, 8912), 3);
    assert.equal(await leaving(9001, 9001), 3);
    assert.equal(await leaving(8993, 9001), 3);
  });

  it('is set back to what a datagram can carry', async () => {
    await setMtu(65535, 9000, 9008);
    assert.equal(await leaving(60_000, 60_000), 3);
    assert.equal(await leaving(65_475, 65_475), 3);
    const { left, right } = pair;
    for (const end of [left, right])
      assert.match(await end.node.mustRun('ip', ['link', 'show', end.name]), /mtu 65475 /);
    // The kernel tells the sender; nothing is lost in the tunnel.
    assert.equal(await pair.answered(1, '-M', 'do', '-W1', '-s', String(65_476 - INNER_HEADERS)), 0);
    assert.equal(await pair.answered(3), 3);
  });
});

for (const outer of [4, 6] as const)
  describe(`an outer packet over IPv${outer}`, { skip, timeout: 300_000 }, () => {
    it('is fragmented to what the path carries and never marked "do not fragment"', async () => {
      const pair = await TunnelPair.start({ outer });
      const { left, right } = pair;
      try {
        assert.equal(await pair.answered(2), 2);
        // As the kernel keeps it when a router has told it "too big".
        const to = outer === 4 ? right.node.address : (right.node.address6 ?? '');
        await left.node.ip(`route add ${to} dev eth0 mtu 1300`);
        const ip = outer === 4 ? 'ip protocol udp' : 'meta l4proto udp';
        await right.node.nft(`table netdev count {
          chain in {
            type filter hook ingress device eth0 priority 0
            meta length > 1300 ${ip} counter comment "too large"
            ip frag-off & 0x4000 != 0 udp dport ${right.port} counter comment "do not fragment"
          }
        }`);
        assert.equal(await pair.answered(3, '-M', 'do', '-s', String(1420 - INNER_HEADERS)), 3);
        assert.equal(await counted(right.node, 'netdev count', 'too large'), 0);
        assert.equal(await counted(right.node, 'netdev count', 'do not fragment'), 0);
      } finally {
        pair.remove();
      }
    });
  });
