// What a node tells of itself.

import type { SessionKey } from '../../contract/engine.js';
import type { Step } from '../../contract/step.js';
import { toHex } from '../../wire/bytes.js';
import type { ExitAgent } from '../exit/exit-agent.js';
import type { Member, MemberTable } from '../members/member-table.js';
import type { NatClassifier } from '../nat/nat-classifier.js';
import type { OwnPolicy } from '../path/own-policy.js';
import type { DirectPaths } from '../path/direct-paths.js';
import type { PathAgent } from '../path/path-agent.js';
import type { RelayBar } from '../path/relay-bar.js';
import type { RuledWays } from '../path/ruled-ways.js';
import { tellWays, whyIndirect, type KnownWays } from '../path/way-status.js';
import { encodePeerId } from '../protocol/peer-id.js';
import { NatBehaviour, type PeerRecord } from '../protocol/peer-record.js';
import type { RelayService } from '../relay/service/relay-service.js';
import type { Counter } from '../runtime/counter.js';
import type { MemberStatus, MeshStatus, NetworkStatus } from '../runtime/mesh-status.js';
import { found } from '../runtime/nat-status.js';
import type { IndirectReason } from '../runtime/way-status.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { UplinkSet } from './uplink-set.js';
import type { WireguardReach } from './wireguard-reach.js';

/** The parts of a node that have something to tell. */
export interface StatusParts {
  readonly name: string;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  readonly members: MemberTable;
  readonly peers: PeerTable;
  readonly paths: PathAgent;
  readonly direct: DirectPaths | undefined;
  readonly rules: RuledWays;
  readonly bar: RelayBar;
  /** What is known of the ways to a member, contact aside. */
  readonly ways: (member: SessionKey) => Pick<KnownWays, 'relayed' | 'relayOf'>;
  readonly uplinks: UplinkSet;
  readonly nat: NatClassifier;
  readonly udp: MeshStatus['udp'];
  readonly mapped: MeshStatus['mapped'];
  readonly wireguard: WireguardReach;
  readonly policy: OwnPolicy | undefined;
  readonly relay: RelayService | undefined;
  readonly exits: ExitAgent;
  readonly drops: Counter;
}

export function nodeStatus(parts: StatusParts, step: Step): MeshStatus {
  const { members, uplinks } = parts;
  const nat = parts.nat.reports(step.now);
  // Where a gateway lets all in, it is something else that keeps members out.
  const ownUnforeseen = parts.mapped === undefined && nat.some(({ ports }) => found(ports) === 'random');
  return {
    peerId: encodePeerId(parts.identity),
    name: parts.name,
    sessionKey: toHex(parts.sessionKey),
    networks: [...members.networks].map(([blindedId, { network, own }]): NetworkStatus => ({
      name: network.name,
      blindedId,
      ipv6: own.ipv6,
      ipv4: own.ipv4,
      addressRound: own.round,
      addressContenders: members.contenders(blindedId).map(encodePeerId),
      members: [...members.members.values()].flatMap((member) =>
        memberStatus(parts, member, blindedId, ownUnforeseen, step.now),
      ),
    })),
    bootstraps: [...uplinks.all()].map((uplink) => uplink.status(step.now)),
    nat,
    udp: parts.udp,
    mapped: parts.mapped,
    wireguard: parts.wireguard.status((key) => uplinks.get(key)),
    standingPolicies: parts.policy?.status() ?? [],
    relay: parts.relay?.status(step),
    exit: parts.exits.status(step.now),
    routes: parts.exits.routeStatus(step.now),
    drops: parts.drops.toRecord(),
  };
}

/** Nothing for who is no member of this network. */
function memberStatus(
  parts: StatusParts,
  member: Member,
  network: string,
  ownUnforeseen: boolean,
  now: number,
): MemberStatus[] {
  const overlay = member.overlay.get(network);
  if (overlay === undefined) return [];
  const { sessionKey, record, identity } = member;
  const { kind, relay, refused } = parts.paths.path(sessionKey);
  const direct = parts.peers.isProven(sessionKey, network) || parts.direct?.active(sessionKey) !== undefined;
  const known: KnownWays = {
    member: sessionKey,
    rules: parts.rules,
    contact: parts.direct?.known(sessionKey),
    ...parts.ways(sessionKey),
  };
  const uplink = relay === undefined || direct ? undefined : parts.uplinks.get(relay);
  const mtu = parts.direct?.mtu(sessionKey);
  return [
    {
      peerId: encodePeerId(identity),
      name: record.name,
      ipv6: overlay.ipv6,
      ipv4: parts.members.owns(overlay.ipv4, identity) ? overlay.ipv4 : undefined,
      sessionKey,
      path: direct ? 'direct' : kind,
      pathMtu: mtu?.path,
      innerMtu: mtu?.inner,
      refused,
      ways: tellWays(known),
      indirect: direct ? undefined : whyNotDirect(parts, known, record, ownUnforeseen),
      search: parts.direct?.search(sessionKey, now),
      barred: parts.bar.isBarred(sessionKey),
      shaping: parts.members.shapingOf(member),
      relayPeerId: uplink === undefined ? undefined : encodePeerId(uplink.bootstrap.identity),
    },
  ];
}

function whyNotDirect(
  { direct, rules }: StatusParts,
  known: KnownWays,
  { nat }: PeerRecord,
  ownUnforeseen: boolean,
): IndirectReason {
  if (direct === undefined) return rules.admitDirect(known.member) ? 'engine' : 'relay-only';
  const depends = nat === NatBehaviour.addressDependent || nat === NatBehaviour.addressAndPortDependent;
  return whyIndirect(known, direct.isCapable(known.member), { own: ownUnforeseen, member: depends });
}
