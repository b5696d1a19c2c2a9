// ECN and traffic classes on the wire, between two tunnels and through the relay.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { MeshPair } from '../../ts/lab/mesh-pair.js';
import { Namespace } from '../../ts/lab/namespace.js';
import { ping, type PingResult } from '../../ts/lab/ping.js';
import { labUnavailable } from '../../ts/lab/requirements.js';
import { World } from '../../ts/lab/world.js';
import { wgUnavailable } from '../wg/wg-lab.js';
import { TunnelPair, counted } from './tunnel-pair.js';

const skip = wgUnavailable() ?? false;

for (const outer of [4, 6] as const)
  describe(`the outer header of a tunnel over IPv${outer}`, { skip, timeout: 300_000 }, () => {
    const ip = outer === 4 ? 'ip' : 'ip6';
    let pair: TunnelPair;

    before(async () => {
      pair = await TunnelPair.start({ outer });
      const { left, right } = pair;
      await left.node.nft(`table inet count {
        chain out {
          type filter hook output priority 0
          udp dport ${right.port} ${ip} dscp af41 ${ip} ecn not-ect udp length 156 counter comment "initiation"
          udp dport ${right.port} ${ip} dscp cs0 ${ip} ecn not-ect udp length >= 136 counter comment "plain"
          udp dport ${right.port} ${ip} dscp cs0 ${ip} ecn ect0 counter comment "ect0"
          udp dport ${right.port} ${ip} dscp cs0 ${ip} ecn ect1 counter comment "ect1"
          udp dport ${right.port} ${ip} dscp cs0 ${ip} ecn ce counter comment "ce"
          udp dport ${right.port} ${ip} dscp != { cs0, af41 } counter comment "other"
        }
      }`);
      await right.node.nft(`table inet count {
        chain in {
          type filter hook input priority 0
          iifname ${right.name} ip ecn ce counter comment "inner ce"
          iifname ${right.name} ip dscp af41 ip ecn ect0 counter comment "inner dscp"
        }
        chain out {
          type filter hook output priority 0
          udp sport ${right.port} ${ip} dscp af41 udp length 100 counter comment "response"
        }
      }`);
    });
    after(() => pair.remove());

    const sent = (comment: string): Promise<number> => counted(pair.left.node, 'inet count', comment);

    it('is AF41 for handshakes, also for the packet that waited for one, and DSCP 0 for data', async () => {
      assert.equal(await pair.answered(5), 5);
      assert.equal(await sent('initiation'), 1);
      assert.equal(await counted(pair.right.node, 'inet count', 'response'), 1);
      assert.equal(await sent('plain'), 5);
    });

    it('has the ECN field of the packet inside, but not its DSCP', async () => {
      for (const [tos, comment] of [
        [1, 'ect1'],
        [2, 'ect0'],
        [3, 'ce'],
        [0x88 | 2, 'ect0'],
      ] as const) {
        const before = await sent(comment);
        assert.equal(await pair.answered(5, '-Q', String(tos)), 5);
        assert.equal((await sent(comment)) - before, 5, comment);
      }
      assert.equal(await sent('other'), 0);
      assert.equal(await counted(pair.right.node, 'inet count', 'inner dscp'), 5);
    });

    it('tells the packet inside of congestion met on the way', async () => {
      await pair.right.node.nft(`table netdev congested {
        chain in {
          type filter hook ingress device eth0 priority 0
          udp dport ${pair.right.port} ${ip} ecn { ect0, ect1 } ${ip} ecn set ce
        }
      }`);
      const before = await counted(pair.right.node, 'inet count', 'inner ce');
      assert.equal(await pair.answered(5, '-Q', '2'), 5);
      assert.equal(await pair.answered(5, '-Q', '1'), 5);
      assert.equal((await counted(pair.right.node, 'inet count', 'inner ce')) - before, 10);
      assert.equal(await pair.answered(5), 5, 'what knows no ECN is not marked');
    });

    it('drops a packet that cannot be told of congestion', async () => {
      await pair.right.node.nft(`table netdev congested {
        chain in {
          udp dport ${pair.right.port} udp length >= 136 ${ip} ecn set ce
        }
      }`);
      assert.equal(await pair.answered(3, '-W1'), 0);
      assert.equal(await pair.answered(3, '-Q', '2'), 3);
      await pair.right.node.nft('delete table netdev congested');
      assert.equal(await pair.answered(3), 3);
    });
  });

describe(
  'datagrams of one session with and without a congestion mark',
  { skip: skip !== false ? skip : (labUnavailable(['ethtool']) ?? false), timeout: 300_000 },
  () => {
    it('are not coalesced with each other on receipt', async () => {
      const pair = await TunnelPair.start({ left: ['--disable', 'udp-gso'] });
      const { left, right, world } = pair;
      try {
        assert.equal(await pair.answered(3), 3);
        await pair.coalesceOnReceipt();
        const port = new Namespace(`${world.prefix}net`);
        await port.nft(`table netdev congested {
          chain out {
            type filter hook egress device port2 priority 0
            udp dport ${right.port} ip ecn ect0 ip ecn set ce
          }
        }`);
        await right.node.nft(`table inet count {
          chain outer {
            type filter hook prerouting priority 0
            iifname eth0 udp dport ${right.port} meta length > 300 counter comment "coalesced"
          }
          chain in {
            type filter hook input priority 0
            iifname ${right.name} ip ecn ce counter comment "inner ce"
          }
        }`);
        // Bursts of both kinds at once; had one been joined to the other, its field would be lost or the
        // packet dropped.
        const burst = (tos: string): Promise<PingResult> =>
          ping(left.node, right.inside, 2000, 2, '-l50', '-Q', tos);
        for (const { sent, lost } of await Promise.all([burst('2'), burst('0')]))
          assert.deepEqual({ sent, lost }, { sent: 2000, lost: 0 });
        const marked = await counted(right.node, 'inet count', 'inner ce');
        // It goes on sending while a reply is missing; had all been marked, there were 4000.
        assert.ok(marked >= 2000 && marked < 4000, `${marked} marked`);
        assert.ok((await counted(right.node, 'inet count', 'coalesced')) > 0, 'nothing was coalesced');
      } finally {
        pair.remove();
      }
    });
  },
);

describe('a relayed packet', { skip, timeout: 300_000 }, () => {
  it('arrives with the congestion its first leg met', async () => {
    const world = await World.create();
    try {
      const { left, right, relay } = await MeshPair.start(world, () => undefined);
      await relay.node.nft(`table netdev congested {
        chain in {
          type filter hook ingress device eth0 priority 0
          ip ecn ect0 udp dport 51900 ip ecn set ce
        }
      }
      table inet count {
        chain out {
          type filter hook output priority 0
          udp sport 51900 ip ecn ce ip dscp cs0 counter comment "told on"
        }
      }`);
      await right.omerta.node.nft(`table inet count {
        chain in {
          type filter hook input priority 0
          iifname omerta0 ip6 ecn ce counter comment "inner ce"
        }
      }`);
      for (let i = 0; i < 5; i++)
        await left.omerta.node.mustRun('ping', ['-n', '-c1', '-W15', '-Q2', right.ipv6]);
      assert.equal(await counted(right.omerta.node, 'inet count', 'inner ce'), 5);
      // The requests, and the answers, which take the ECN of the requests and pass the same rule.
      assert.ok((await counted(relay.node, 'inet count', 'told on')) >= 5);
    } finally {
      world.remove();
    }
  });
});
