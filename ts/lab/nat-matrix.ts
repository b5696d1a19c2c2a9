// Every kind of NAT with every other: which way two nodes behind them take to each other, how long it takes to
// find it, and what is lost meanwhile. Two nodes of each kind run the shipped binary; those on the left begin.

import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { NatKind } from './nat.js';
import { NAT_KINDS } from './nat.js';
import { OmertaNode, type OmertaNodeOptions } from './omerta-node.js';
import { PingWatch } from './ping.js';
import type { Nat, Node, World } from './world.js';

/** Where a node is: at a public address, or behind a NAT of a kind. */
export type Place = 'public' | NatKind;

export const PLACES: readonly Place[] = ['public', ...NAT_KINDS];

export type Way = 'direct' | 'relay' | 'none';

export interface Cell {
  readonly from: string;
  readonly to: string;
  /** What these two networks allow without guessing ports. */
  readonly expected: Way;
  /** The way in use at the end. */
  readonly way: Way;
  /** From the first ping sent to its answer. */
  readonly firstReplyMs: number | undefined;
  /** From the first ping sent until data goes directly. */
  readonly directMs: number | undefined;
  /** Packets both sent in a search for ports; undefined = there was none. */
  readonly searched?: number | undefined;
  readonly pings: number;
  readonly lost: number;
  /**
   * Packets the relay's interface took in during the last second or so, by the kernel's count, per ping and answer
   * sent in it: what the way in use is told by, whatever a node says.
   */
  readonly relayedShare: number;
}

/** How long both are waited for to have been told of each other. */
const KNOWN_WITHIN_MS = 30_000;
/** How long a way that is possible is waited for. */
const DIRECT_WITHIN_MS = 10_000;
/** How long a way that should not be possible is waited for, and a search for ports beyond it. */
const NOT_WITHIN_MS = 3000;
const SEARCHED_WITHIN_MS = 40_000;
const SETTLED_MS = 1000;
const POLL_MS = 20;
/** Between two pings of PingWatch. */
const PING_MS = 20;
/** Both directions through the relay make 2; what it does beside that is far below this. */
const RELAYED = 0.5;

const banner = z.object({ networks: z.tuple([z.object({ invite: z.string() })]) });
const status = z.object({
  mesh: z.object({
    networks: z.tuple([
      z.object({
        ipv6: z.string(),
        members: z.array(
          z.object({
            name: z.string(),
            path: z.enum(['relay', 'direct', 'none']),
            search: z.object({ sent: z.number(), end: z.string().optional() }).optional(),
          }),
        ),
      }),
    ]),
  }),
});

/**
 * RFC 4787's kinds in pairs: a hole can be punched unless one side's mapping depends on whom it sends to and the
 * other's filter on the port it is sent from.
 */
export function expectedWay(from: Place, to: Place): Way {
  const depends = (place: Place): boolean => place === 'symmetric';
  const filtersPorts = (place: Place): boolean => place === 'symmetric' || place === 'port-restricted';
  return (depends(from) && filtersPorts(to)) || (depends(to) && filtersPorts(from)) ? 'relay' : 'direct';
}

export interface PlacedMember {
  readonly omerta: OmertaNode;
  readonly ipv6: string;
  /** Undefined at a public address. */
  readonly nat: Nat | undefined;
}

export class NatMatrix {
  private constructor(
    private readonly relay: OmertaNode,
    private readonly left: ReadonlyMap<Place, PlacedMember>,
    private readonly right: ReadonlyMap<Place, PlacedMember>,
  ) {}

  /** Starts a relay and two nodes in each of these places. */
  static async start(world: World, places: readonly Place[]): Promise<NatMatrix> {
    const { relay, invite } = await startRelay(world);
    const side = async (name: string): Promise<Map<Place, PlacedMember>> => {
      const members = new Map<Place, PlacedMember>();
      for (const [index, place] of places.entries())
        members.set(place, await joinFrom(world, place, `${name}${index}`, invite));
      return members;
    };
    return new NatMatrix(relay, await side('left'), await side('right'));
  }

  /** Two nodes that have not spoken before, of which `from`'s begins. */
  async measure(from: Place, to: Place): Promise<Cell> {
    const [left, right] = [this.left.get(from), this.right.get(to)];
    if (left === undefined || right === undefined) throw new Error(`no node is in ${from} or ${to}`);
    const expected = expectedWay(from, to);
    return measurePair(this.relay, left, right, { from, to, expected });
  }
}

/** Two nodes that have not spoken before, of which `left` begins. */
export async function measurePair(
  relay: OmertaNode,
  left: PlacedMember,
  right: PlacedMember,
  { from, to, expected }: Pick<Cell, 'from' | 'to' | 'expected'>,
): Promise<Cell> {
  await known(left, right);
  const watch = PingWatch.start(left.omerta.node, right.ipv6);
  try {
    const begin = performance.now();
    const deadline = begin + (expected === 'direct' ? DIRECT_WITHIN_MS : NOT_WITHIN_MS);
    let directMs: number | undefined;
    for (let searching = false; directMs === undefined;) {
      const now = performance.now();
      if (now >= (searching ? begin + SEARCHED_WITHIN_MS : deadline)) break;
      const { path, search } = await told(left, right);
      searching = search !== undefined && search.end === undefined;
      if (path === 'direct') directMs = performance.now() - begin;
      else await sleep(POLL_MS);
    }
    await watch.steady(SETTLED_MS, SETTLED_MS * 10);
    const before = await relay.node.received('eth0');
    const since = performance.now();
    await sleep(SETTLED_MS);
    const after = await relay.node.received('eth0');
    const sent = (performance.now() - since) / PING_MS; // on a busy machine in more than a second
    const relayedShare = (after.packets - before.packets) / sent;
    const { first, last, lost } = watch.seen();
    const [there, back] = [await told(left, right), await told(right, left)];
    const searches = [there.search, back.search].filter((search) => search !== undefined);
    return {
      from,
      to,
      expected,
      way: there.path === 'direct' && relayedShare > RELAYED ? 'relay' : there.path,
      searched: searches.length === 0 ? undefined : searches.reduce((sum, { sent }) => sum + sent, 0),
      firstReplyMs: first === undefined ? undefined : first.at - begin,
      directMs,
      pings: last?.sequence ?? 0,
      lost,
      relayedShare,
    };
  } finally {
    watch.close();
  }
}

/** Starts a relay at a public address; `invite` is to its network. */
export async function startRelay(
  world: World,
): Promise<{ readonly relay: OmertaNode; readonly invite: string }> {
  const relay = new OmertaNode(world, await world.addNode('relay'), 'relay');
  const {
    networks: [{ invite }],
  } = banner.parse(await relay.start('relay'));
  return { relay, invite };
}

export interface JoinOptions extends Pick<OmertaNodeOptions, 'portMapping'> {
  /** Behind this one instead of a new one. */
  readonly nat?: Nat;
  /** What is done to its machine before it joins. */
  readonly prepare?: (node: Node) => Promise<void>;
  /** Rules its machine has before it joins. */
  readonly firewall?: string;
  /** Its UDP port; default: as shipped. */
  readonly port?: number;
}

/** Starts a member that is there, and takes direct paths. */
export async function joinFrom(
  world: World,
  place: Place,
  name: string,
  invite: string,
  options: JoinOptions = {},
): Promise<PlacedMember> {
  const { nat: present, portMapping, firewall, prepare, port } = options;
  const nat = place === 'public' ? undefined : (present ?? (await world.addNat(`${name}-nat`, place)));
  const node = await world.addNode(name, nat === undefined ? {} : { behind: nat });
  const omerta = new OmertaNode(world, node, name, {
    direct: true,
    ...(portMapping && { portMapping }),
  });
  await prepare?.(node);
  if (firewall !== undefined) await node.nft(firewall);
  await omerta.command(['network', 'join', '-'], invite);
  await omerta.start('up', '--foreground', ...(port === undefined ? [] : ['--port', String(port)]));
  const { mesh } = status.parse(await omerta.request({ command: 'status' }));
  return { omerta, ipv6: mesh.networks[0].ipv6, nat };
}

/** Waits until the two have been told of each other, and use the addresses of the interfaces they made. */
async function known(...members: readonly [PlacedMember, PlacedMember]): Promise<void> {
  const deadline = performance.now() + KNOWN_WITHIN_MS;
  for (const [index, { omerta }] of members.entries()) {
    const other = members[1 - index]?.omerta.name;
    const isKnown = async (): Promise<boolean> => {
      const { mesh } = status.parse(await omerta.request({ command: 'status' }));
      return mesh.networks[0].members.some(({ name }) => name === other);
    };
    while (!(await isKnown())) {
      if (performance.now() > deadline)
        throw new Error(
          `${omerta.name} was not told of ${other} within ${KNOWN_WITHIN_MS} ms: ${omerta.log}`,
        );
      await sleep(POLL_MS);
    }
  }
  await sleep(SETTLED_MS);
}

/** The way `from` says it takes to `to`. */
export async function wayTold(from: PlacedMember, to: PlacedMember): Promise<Way> {
  return (await told(from, to)).path;
}

type Told = z.infer<typeof status>['mesh']['networks'][0]['members'][number];

async function told(from: PlacedMember, to: PlacedMember): Promise<Pick<Told, 'path' | 'search'>> {
  const { mesh } = status.parse(await from.omerta.request({ command: 'status' }));
  return mesh.networks[0].members.find(({ name }) => name === to.omerta.name) ?? { path: 'none' };
}
