// The kinds of NAT home routers and carriers use, in RFC 4787's words, as nftables rules.

/** mapping / filtering behaviour: EIM = endpoint-independent, ADF/APDF = address(-and-port)-dependent. */
export type NatKind =
  | 'full-cone' // EIM / endpoint-independent filtering
  | 'address-restricted' // EIM / ADF
  | 'port-restricted' // EIM / APDF
  | 'symmetric'; // address-and-port-dependent mapping / APDF

export const NAT_KINDS: readonly NatKind[] = [
  'full-cone',
  'address-restricted',
  'port-restricted',
  'symmetric',
];

/** The name of a NAT's outside interface. */
export const WAN = 'wan';
/** The bridge its clients are on. */
export const LAN = 'lan';

/** What a NAT that hairpins has to know (RFC 4787 6): both its sides. */
export interface Hairpin {
  /** Its outside IPv4 address. */
  readonly address: string;
  /** CIDR of its clients. */
  readonly clients: string;
}

/**
 * The ruleset for one kind. Cone NATs keep the client's source port, so two clients behind one cone
 * must not use the same port: the second would take over the first one's mapping. The same holds behind one that
 * hairpins: what a client sends to another's outside address and port arrives there, from the sender's own outside
 * address and port, whatever it filters of strangers outside.
 */
export function natRules(kind: NatKind, hairpin?: Hairpin): string {
  if (kind === 'symmetric' && hairpin !== undefined)
    throw new Error('a symmetric NAT has no mapping that others could send to: it cannot hairpin');
  const masquerade = kind === 'symmetric' ? 'masquerade fully-random' : 'masquerade';
  const admits = kind === 'full-cone' || kind === 'address-restricted';
  const learns = admits || hairpin !== undefined;
  // Both sets are filled when a mapping is made and read when a stranger's packet arrives.
  const learn = [
    'meta l4proto udp update @mapped { udp sport : ip saddr . udp sport }',
    ...(kind === 'address-restricted' ? ['meta l4proto udp update @contacted { udp sport . ip daddr }'] : []),
  ];
  const known = kind === 'address-restricted' ? 'udp dport . ip saddr @contacted ' : '';
  const lines = [
    'table ip omerta_nat {',
    ...(learns
      ? ['map mapped { type inet_service : ipv4_addr . inet_service; flags dynamic; size 4096; }']
      : []),
    ...(kind === 'address-restricted'
      ? ['set contacted { type inet_service . ipv4_addr; flags dynamic; size 4096; }']
      : []),
    'chain inbound {',
    'type nat hook prerouting priority dstnat; policy accept;',
    ...(admits ? [`iifname "${WAN}" ${known}dnat ip to udp dport map @mapped`] : []),
    ...(hairpin === undefined
      ? []
      : [`iifname "${LAN}" ip daddr ${hairpin.address} dnat ip to udp dport map @mapped`]),
    '}',
    // A refused stranger must leave no connection entry: the next mapping to that stranger would
    // find its port taken, get another one, and the NAT would look symmetric.
    'chain refuse {',
    'type filter hook prerouting priority -50; policy accept;',
    `iifname "${WAN}" ct state new ct status ! dnat drop`,
    '}',
    'chain outbound {',
    'type nat hook postrouting priority srcnat; policy accept;',
    ...(learns ? learn.map((rule) => `oifname "${WAN}" ${rule}`) : []),
    `oifname "${WAN}" ${masquerade}`,
    ...(hairpin === undefined
      ? []
      : [`oifname "${LAN}" ip saddr ${hairpin.clients} ct status dnat snat to ${hairpin.address}`]),
    '}',
    '}',
  ];
  return `${lines.join('\n')}\n`;
}
