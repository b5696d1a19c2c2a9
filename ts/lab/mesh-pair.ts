// The lab's standard world: a relay with a public address and two nodes behind two different NATs
// (port-restricted and symmetric: the pair that hole punching cannot connect).

import { setTimeout } from 'node:timers/promises';
import { z } from 'zod';
import { tcpThroughput, type Throughput } from './iperf.js';
import { OmertaNode } from './omerta-node.js';
import { PingWatch } from './ping.js';
import type { Node, World } from './world.js';

const banner = z.object({
  networks: z.tuple([z.object({ invite: z.string().startsWith('omerta://join/') })]),
});

const status = z.object({
  engine: z.object({ summary: z.string(), aead: z.string() }),
  mesh: z.object({
    networks: z.array(
      z.object({
        ipv6: z.string(),
        ipv4: z.string().optional(),
        members: z.array(z.object({ name: z.string(), path: z.enum(['relay', 'direct', 'none']) })),
      }),
    ),
  }),
});

const peers = z.array(
  z.object({
    name: z.string(),
    session: z
      .object({ handshakeAgeSeconds: z.number().optional(), endpoint: z.string().optional() })
      .optional(),
  }),
);

export type Status = z.infer<typeof status>;

export interface Member {
  readonly omerta: OmertaNode;
  readonly ipv6: string;
  readonly ipv4: string | undefined;
}

/** Milliseconds. */
export interface StartTimes {
  /** From typing `omerta up` on the first node until it is registered with the relay. */
  readonly registered: number;
  /** From typing `omerta up --foreground` on the second node until its daemon serves. */
  readonly serving: number;
  /** From then until the first packet went through the tunnel and back: admission, handshakes, circuit. */
  readonly firstPacket: number;
}

export interface MeshPairOptions {
  /** What the relay is started with beside `relay`. */
  readonly relayArguments?: readonly string[];
  /** Called when every node is there and none has been started. */
  readonly prepare?: (nodes: readonly Node[]) => Promise<void>;
}

export class MeshPair {
  private constructor(
    readonly relay: OmertaNode,
    readonly left: Member,
    readonly right: Member,
    readonly times: StartTimes,
    private readonly relayCommand: readonly string[],
  ) {}

  static async start(
    world: World,
    say: (text: string) => void,
    { relayArguments = [], prepare }: MeshPairOptions = {},
  ): Promise<MeshPair> {
    const relayNode = await world.addNode('relay');
    const home = await world.addNat('home', 'port-restricted');
    const mobile = await world.addNat('mobile', 'symmetric');
    const nodes = {
      left: await world.addNode('left', { behind: home }),
      right: await world.addNode('right', { behind: mobile }),
    };

    await prepare?.([relayNode, nodes.left, nodes.right]);

    say('the relay starts');
    const relay = new OmertaNode(world, relayNode, 'relay');
    const relayCommand = ['relay', ...relayArguments];
    const { networks } = banner.parse(await relay.start(...relayCommand));
    const [{ invite }] = networks;

    say('two nodes join');
    const join = async (node: Node, name: string): Promise<OmertaNode> => {
      const omerta = new OmertaNode(world, node, name);
      await omerta.command(['network', 'join', '-'], invite);
      return omerta;
    };
    const [left, right] = await Promise.all([join(nodes.left, 'left'), join(nodes.right, 'right')]);
    const begin = performance.now();
    await left.command(['up']);
    const registered = performance.now();
    await right.start('up', '--foreground');
    const serving = performance.now();
    say('waiting for the first packet');
    const members = [await member(left), await member(right)] as const;
    await firstReply(...members);
    const times = {
      registered: registered - begin,
      serving: serving - registered,
      firstPacket: performance.now() - serving,
    };
    return new MeshPair(relay, ...members, times, relayCommand);
  }

  /** What the left node knows about its mesh. */
  status(): Promise<Status> {
    return readStatus(this.left.omerta);
  }

  /** The left node's session with the right one: seconds since its handshake, and where it leads. */
  async handshake(): Promise<{ readonly age: number; readonly endpoint: string } | undefined> {
    const rows = peers.parse(await this.left.omerta.command(['peers']));
    const session = rows.find(({ name }) => name === 'right')?.session;
    if (session?.handshakeAgeSeconds === undefined) return undefined;
    return { age: session.handshakeAgeSeconds, endpoint: session.endpoint ?? 'unknown' };
  }

  /** How the left node reaches the right one. */
  async path(): Promise<string> {
    const { mesh } = await this.status();
    return mesh.networks[0]?.members.find(({ name }) => name === 'right')?.path ?? 'none';
  }

  /**
   * One TCP stream from left to right. `relayedBytes` is what came in at the relay's network
   * interface meanwhile, by the kernel's count: proof of the way the stream took.
   */
  async throughput(seconds: number): Promise<Throughput & { readonly relayedBytes: number }> {
    const before = await this.relay.node.received('eth0');
    const nodes = [this.left.omerta.node, this.right.omerta.node] as const;
    const stream = await tcpThroughput(...nodes, this.right.ipv6, seconds);
    return { ...stream, relayedBytes: (await this.relay.node.received('eth0')).bytes - before.bytes };
  }

  /** Starts the relay again, as it was started first. */
  async startRelay(): Promise<void> {
    await this.relay.start(...this.relayCommand);
  }

  /**
   * Kills the relay with SIGKILL, starts it again, and tells how long the tunnel was out of
   * service. @throws Error when no ping gets through before or within 30 s after.
   */
  async killRelay(): Promise<{ readonly lost: number; readonly milliseconds: number }> {
    const watch = PingWatch.start(this.left.omerta.node, this.right.ipv6);
    try {
      if (!(await watch.steady(500, 10_000)))
        throw new Error('no ping gets through before the relay is killed');
      const start = performance.now();
      await this.relay.kill();
      await this.startRelay();
      if (!(await watch.steady(1000, 30_000))) throw new Error('the tunnel did not come back within 30 s');
      return watch.outage(start);
    } finally {
      watch.close();
    }
  }
}

async function readStatus(omerta: OmertaNode): Promise<Status> {
  return status.parse(await omerta.command(['status']));
}

async function member(omerta: OmertaNode): Promise<Member> {
  const [network] = (await readStatus(omerta)).mesh.networks;
  if (network === undefined) throw new Error(`${omerta.name} is in no network`);
  return { omerta, ipv6: network.ipv6, ipv4: network.ipv4 };
}

async function firstReply(from: Member, to: Member): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const { code } = await from.omerta.node.run('ping', ['-n', '-c1', '-W', '0.2', to.ipv6]);
    if (code === 0) return;
    await setTimeout(20);
  }
  const logs = [from, to].map(({ omerta }) => `${omerta.name}:\n${omerta.log}`);
  throw new Error(`no ping from ${from.omerta.name} reaches ${to.ipv6}\n${logs.join('\n')}`);
}
