// The [shaping] section as the core takes it.

import type { PeerShaping } from '../../contract/shaping-control.js';
import { peerShaping, type ShapingPolicy, type ShapingRules } from '../../core/members/shaping-policy.js';
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
  return { rules: rulesFor(shaping, {}), members: new Map(members) };
}

/** Of the WireGuard peers of the configuration, which are no members. */
export function stockShaping({ shaping, wireguard }: Config): PeerShaping[] {
  return wireguard.peers.map(({ public_key: key }) => {
    const own = shaping.peer.find((peer) => peer.public_key === key) ?? {};
    return peerShaping(toHex(parseWireguardKey(key) ?? new Uint8Array(32)), rulesFor(shaping, own));
  });
}

function rulesFor(all: Config['shaping'], own: Partial<PeerTable>): ShapingRules {
  return {
    padding: own.padding ?? all.padding,
    paddingBudget: own.padding_budget ?? all.padding_budget,
  };
}
