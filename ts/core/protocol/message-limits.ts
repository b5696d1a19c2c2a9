// How much records, policies and control messages may hold. Apart from their codecs, for who checks what is typed.

/** Relays in a circuit at most: every one adds its latency, and frames start with a hop limit of 8. */
export const MAX_CIRCUIT_RELAYS = 3;
/** Exits that traffic may leave by, one after the other. */
export const MAX_EXIT_HOPS = 3;
/** Local ports that are opened for one port search. */
export const MAX_SEARCH_PORTS = 512;
/** Prefixes behind it that a member may tell another of. */
export const MAX_LAN_PREFIXES = 16;
/** Networks a record says its owner is in: what a machine can join. */
export const MAX_RECORD_NETWORKS = 8;
/** Whom a standing policy accepts. */
export const MAX_POLICY_IDENTITIES = 16;
export const MAX_POLICY_NETWORKS = MAX_RECORD_NETWORKS;
/** How long ahead a relay may say that it will go. */
export const MAX_DRAIN_SECONDS = 86_400;
