// A virtual machine's device at an engine, played over its socket: what is its own goes to a peer and comes back, and of
// every kind of rogue frame none leaves, each is counted by its kind, and the socket counted as many.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { EngineError, Engine } from '../../ts/contract/engine.js';
import {
  DEFAULT_GUEST_MAC,
  guestDrops,
  guestFramesJudged,
  parseMac,
  type GuestSocket,
  type GuestSocketCounts,
} from '../../ts/contract/guest-control.js';
import { openGuestSocket } from '../../ts/engine/native/guest-socket.js';
import { openNativeEngine } from '../../ts/engine/native/native-engine.js';
import {
  ethernet,
  GATEWAY,
  GUEST,
  innocentNoise,
  ipv4,
  ipv6,
  MachineDevice,
  rogueFrames,
  udp,
} from '../../ts/lab/machine-frames.js';
import { addonMissing } from './addon.js';
import { ConformanceNode } from './conformance.js';

const A = { ipv4: '100.64.1.2', ipv6: 'fd6f::2' };
const B = { ipv4: '100.70.0.9', ipv6: 'fd6f::9' };
const ADDRESSES = { ...A, member4: B.ipv4, member6: B.ipv6 };

async function until(holds: () => boolean, what: string): Promise<void> {
  for (let tries = 0; !holds(); tries++) {
    assert.ok(tries < 1000, `in 20 s never: ${what}`);
    await sleep(20);
  }
}

describe(
  'a virtual machine at the inside of an engine',
  { skip: addonMissing() ?? false, timeout: 120_000 },
  () => {
    const folder = mkdtempSync(join(tmpdir(), 'omerta-vm-'));
    const sockets: GuestSocket[] = [];
    const nodes: ConformanceNode[] = [];
    let [a, b]: (MachineDevice | undefined)[] = [];

    const listen = (name: string): GuestSocket => {
      const socket = openGuestSocket(join(folder, name));
      sockets.push(socket);
      return socket;
    };
    const open = async (socket: GuestSocket, own: typeof A): Promise<ConformanceNode> => {
      const node = await ConformanceNode.open(openNativeEngine, {
        bind: '127.0.0.1',
        guest: { socket, mac: DEFAULT_GUEST_MAC, mtu: 1400, addresses: [`${own.ipv4}/10`, `${own.ipv6}/64`] },
      });
      nodes.push(node);
      return node;
    };
    const meet = (
      from: ConformanceNode,
      to: ConformanceNode,
      allowedIps: readonly string[],
      first: boolean,
    ): void =>
      from.engine.setPeers([
        {
          sessionKey: to.sessionKey,
          presharedKey: undefined,
          allowedIps,
          endpoint: first ? { address: to.address } : undefined,
          persistentKeepalive: 0,
        },
      ]);
    const engine = (index: number): Engine => {
      const node = nodes[index];
      assert.ok(node !== undefined);
      return node.engine;
    };
    const counter = (index: number, name: string): number => engine(index).counters().get(name) ?? NaN;
    /** Of the first machine's socket. */
    const socketCounts = (): GuestSocketCounts => {
      const [socket] = sockets;
      assert.ok(socket !== undefined);
      return socket.counts();
    };
    /** The one who plays the machine. */
    const device = (which: MachineDevice | undefined): MachineDevice => {
      assert.ok(which !== undefined);
      return which;
    };

    before(async () => {
      const [first, second] = [await open(listen('a'), A), await open(listen('b'), B)];
      // To the machine all the world is behind the other, as behind an exit: what passes the gateway is sent.
      meet(first, second, ['0.0.0.0/0', '::/0'], true);
      meet(second, first, [`${A.ipv4}/32`, `${A.ipv6}/128`], false);
      a = await MachineDevice.connect(join(folder, 'a'));
      b = await MachineDevice.connect(join(folder, 'b'));
      await until(() => sockets.every((socket) => socket.counts().connected), 'both are connected');
    });
    after(async () => {
      a?.close();
      b?.close();
      for (const node of nodes) await node.engine.close();
      for (const socket of sockets) socket.close();
      rmSync(folder, { recursive: true });
    });

    it('carries packets of both families both ways, with headers of the other link', async () => {
      const there = [
        ipv4(A.ipv4, B.ipv4, 17, udp(1, 2, Buffer.from('there'))),
        ipv6(A.ipv6, B.ipv6, 17, udp(1, 2, Buffer.from('there'))),
      ];
      device(a).send(...there.map((packet, index) => ethernet(index === 0 ? 0x0800 : 0x86dd, packet)));
      await until(() => device(b).frames.length === 2, 'both packets are there');
      assert.deepEqual(
        device(b).frames,
        there.map((packet, index) => ethernet(index === 0 ? 0x0800 : 0x86dd, packet, GUEST, GATEWAY)),
      );
      device(b).send(ethernet(0x0800, ipv4(B.ipv4, A.ipv4, 17, udp(2, 1, Buffer.from('back')))));
      await until(() => device(a).frames.length === 1, 'the answer is there');
      assert.match(String(device(a).frames[0]), /back$/);
      assert.equal(socketCounts().framesRead, 2);
      assert.equal(statSync(join(folder, 'a')).mode & 0o777, 0o600);
    });

    it('lets no rogue frame out, and counts each by its kind', async () => {
      const rogue = rogueFrames(ADDRESSES);
      const before = {
        sent: counter(0, 'transport_sent'),
        inside: counter(0, 'tun_rx_packets'),
        arrived: device(b).frames.length,
      };
      const dropped = guestDrops(engine(0).counters());
      assert.deepEqual(dropped, {});
      device(a).send(...rogue.map(({ frame }) => frame));
      const read = socketCounts().framesRead;
      await until(() => socketCounts().framesRead >= 2 + rogue.length, `all are read, of ${read}`);
      await until(
        () => guestFramesJudged(engine(0).counters()) >= 2 + rogue.length,
        'something became of all',
      );
      const expected: Record<string, number> = {};
      for (const { kind } of rogue) expected[kind] = (expected[kind] ?? 0) + 1;
      assert.deepEqual(
        Object.entries(guestDrops(engine(0).counters())).sort(),
        Object.entries(expected).sort(),
      );
      assert.equal(counter(0, 'tun_rx_packets'), before.inside, 'none reaches the worker');
      // A last one that may leave is behind them all: whatever had left would be there before it.
      device(a).send(ethernet(0x0800, ipv4(A.ipv4, B.ipv4, 17, udp(1, 2, Buffer.from('last')))));
      await until(() => device(b).frames.length > before.arrived, 'the last one is there');
      assert.deepEqual(
        device(b)
          .frames.slice(before.arrived)
          .map((frame) => String(frame.subarray(-4))),
        ['last'],
      );
      assert.equal(counter(0, 'transport_sent'), before.sent + 1);
      assert.equal(socketCounts().framesRead, guestFramesJudged(engine(0).counters()));
    });

    it('tells innocent noise apart', async () => {
      const dropped = guestDrops(engine(0).counters());
      const noise = innocentNoise(ADDRESSES);
      device(a).send(...noise);
      await until(() => counter(0, 'guest_noise') === noise.length, 'all of it is noise');
      assert.deepEqual(guestDrops(engine(0).counters()), dropped);
    });

    it('ends a connection by which garbage comes, and takes the next one', async () => {
      device(a).socket.write(Buffer.from('ffffffff', 'hex'));
      await until(() => device(a).isEnded, 'it is closed');
      assert.equal(socketCounts().badLengths, 1);
      a = await MachineDevice.connect(join(folder, 'a'));
      const arrived = device(b).frames.length;
      device(a).send(ethernet(0x0800, ipv4(A.ipv4, B.ipv4, 17, udp(1, 2, Buffer.from('again')))));
      await until(() => device(b).frames.length > arrived, 'it is heard again');
      assert.equal(socketCounts().connections, 2);
    });

    it('tells its resolvers, and refuses what is no address by naming it', async () => {
      const before = device(a).frames.length;
      engine(0).guest?.setNameServers([B.ipv4, B.ipv6]);
      await until(() => device(a).frames.length > before, 'a router advertisement is there');
      assert.equal(device(a).frames[before]?.[54], 134);
      assert.throws(
        () => engine(0).guest?.setNameServers(['example.com']),
        (error: EngineError) => error.code === 'BAD_ARGUMENT' && error.message.includes("'example.com'"),
      );
    });

    it('keeps the machine connected while another engine takes the place of the first', async () => {
      const [first, second] = nodes;
      const [socket] = sockets;
      assert.ok(first !== undefined && second !== undefined && socket !== undefined);
      await first.engine.close();
      nodes.shift();
      const next = await open(socket, A);
      nodes.reverse(); // the machine's is the first again
      second.engine.removePeers([first.sessionKey]);
      meet(second, next, [`${A.ipv4}/32`], false);
      meet(next, second, ['0.0.0.0/0'], true);
      const arrived = device(b).frames.length;
      device(a).send(ethernet(0x0800, ipv4(A.ipv4, B.ipv4, 17, udp(1, 2, Buffer.from('on')))));
      await until(() => device(b).frames.length > arrived, 'it goes on');
      assert.ok(!device(a).isEnded);
      assert.equal(socket.counts().framesRead, 1);
    });

    it('refuses what cannot be', () => {
      const socket = listen('other');
      const guest = { socket, mac: DEFAULT_GUEST_MAC, mtu: 1400, addresses: [] };
      const refused = (options: object, code: string, text: string): void =>
        assert.throws(
          () =>
            openNativeEngine({
              privateKey: Buffer.alloc(32, 1),
              port: 0,
              bind: '127.0.0.1',
              maxLegs: 4,
              maxPeers: 4,
              controlFramesPerSecond: 1,
              ...options,
            }),
          (error: EngineError) => error.code === code && error.message.includes(text),
        );
      refused({ guest: { ...guest, mac: '01:00:00:00:00:01' } }, 'BAD_ARGUMENT', 'mac: ');
      refused({ guest: { ...guest, mtu: 1000 } }, 'BAD_ARGUMENT', 'mtu: ');
      refused({ guest, workers: 2 }, 'BAD_ARGUMENT', 'one worker');
      refused({ guest, stack: { addresses: [], mtu: 1400 } }, 'BAD_ARGUMENT', 'stack');
      assert.throws(
        () => openGuestSocket(join(folder, 'b')),
        (error: EngineError) => error.code === 'GUEST_SOCKET' && error.message.includes(join(folder, 'b')),
      );
      assert.equal(parseMac('02:6f:6d:65:72:74'), undefined, 'the gateway’s');
    });
  },
);
