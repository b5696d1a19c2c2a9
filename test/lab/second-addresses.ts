// A relay with a second address in each family, seen by nodes whose firewall lets in only what answers something.

export const SECOND = '198.51.100.200';
export const SECOND6 = '2001:db8:100::200';

/** Lets in only what answers something: from the very address it was sent to. */
export const STATEFUL_FIREWALL = `table inet firewall {
  chain input {
    type filter hook input priority filter
    iifname != "eth0" accept
    meta l4proto udp ct state != established drop
  }
}
`;
