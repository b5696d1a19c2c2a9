// Numbers and names by which what exits change on a host is told from what others do.

/** SO_MARK of the engine's sockets, and the number of the routing table. */
export const EXIT_MARK = 28_525;
export const EXIT_TABLE = 28_525;
/** The kernel's table main, and by whom our routes in it are (rtm_protocol of rtnetlink(7), below 256). */
export const MAIN_TABLE = 254;
export const ROUTE_PROTOCOL = 109;
/** Tables of nftables. */
export const SERVE_TABLE = 'omerta_exit';
export const USE_TABLE = 'omerta_use';
export const GUARD_TABLE = 'omerta_guard';
/** The machine's own, of `omerta guard`; in no journal. */
export const BOOT_TABLE = 'omerta_boot';
/** Before those of others: Tailscale's begin at 5210, wg-quick's are at 32764. */
export const RULE_PRIORITIES = { excluded: 5101, onLink: 5102, exit: 5103 } as const;
