// The [shaping] section as the core takes it.

import type { Ceiling, PeerShaping } from '../../contract/shaping-control.js';
import {
  NO_NETWORK,
  peerShaping,
  type ShapingPolicy,
  type ShapingRules,
} from '../../core/members/shaping-policy.js';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import { parseWireguardKey } from '../../host/wireguard-key.js';
import { toHex } from '../../wire/bytes.js';
import type { Config } from './config.js';

type PeerTable = Config['shaping']['peer'][number];

/** What is said of a member replaces what is said of all, key by key. */
export function shapingPolicy({ shaping }: Config): ShapingPolicy {
  const members = shaping.peer.flatMap((peer): [string, ShapingRules][] =>
    peer.id === undefined ? [] : [[toHex(decodePeerId(peer.id)), rulesFor(shaping, peer)]],
  );
  const networks = Object.entries(shaping.networks).map(([name, { weight }]): [string, number] => [
    name,
    weight,
  ]);
  return {
    rules: rulesFor(shaping, {}),
    members: new Map(members),
    networks: new Map(networks),
    limited: isLimited(shaping),
  };
}

/** Of the WireGuard peers of the configuration, which are no members and share as one network; they know no covers. */
export function stockShaping({ shaping, wireguard }: Config): PeerShaping[] {
  const share = isLimited(shaping) ? { network: NO_NETWORK, weight: 1 } : undefined;
  return wireguard.peers.map(({ public_key: key }) => {
    const own = shaping.peer.find((peer) => peer.public_key === key) ?? {};
    const rules = rulesFor(shaping, own);
    const padding = rules.padding === 'constant-rate' ? 'constant' : rules.padding;
    const sessionKey = toHex(parseWireguardKey(key) ?? new Uint8Array(32));
    return peerShaping(sessionKey, { ...rules, padding }, share);
  });
}

export function ceilingsOf({ shaping }: Config): Ceiling[] {
  return Object.entries(shaping.interfaces).map(([name, { bytes_per_second: bytesPerSecond }]) => ({
    interface: name,
    bytesPerSecond,
  }));
}

/** Whether anything is asked of an engine. */
export function asksForShaping({ shaping }: Config): boolean {
  return [shaping, ...shaping.peer].some(({ padding }) => (padding ?? 'off') !== 'off') || isLimited(shaping);
}

const isLimited = ({ interfaces }: Config['shaping']): boolean => Object.keys(interfaces).length > 0;

function rulesFor(all: Config['shaping'], own: Partial<PeerTable>): ShapingRules {
  return {
    padding: own.padding ?? all.padding,
    paddingBudget: budgetOf(own.padding_budget ?? all.padding_budget),
    packetsPerSecond: own.packets_per_second ?? all.packets_per_second,
    weight: own.weight ?? 1,
  };
}

const budgetOf = (budget: Config['shaping']['padding_budget']): number | undefined =>
  budget === 'none' ? undefined : budget;
