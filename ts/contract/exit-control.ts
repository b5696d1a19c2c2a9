// What peers may send to besides this node itself: nothing, or what an exit forwards.

/**
 * What packets of a peer may be for: `any` destination, as in WireGuard, where routing decides; `none` but this
 * node's own inner addresses; or these and what the exit rules permit (`exit`), what the LAN rules do (`lan`), or what
 * one of both does. What is dropped is counted: `drop_no_exit_right`, `drop_exit_denied`.
 */
export type Transit = 'any' | 'none' | 'exit' | 'lan' | 'exit-and-lan';

export interface ExitRule {
  /** CIDR. */
  readonly prefix: string;
  readonly denied: boolean;
}

export interface ExitControl {
  /**
   * Where an exit forwards, all rules there are: of those that hold a destination the one with the longest prefix
   * decides, of equal ones the last; what none holds is permitted, but for TCP to port 25. Of 64:ff9b::/96 and
   * 2002::/16 the IPv4 address inside has to be permitted too.
   * @param lan the same for LANs behind this node; but what none of these holds is denied, and port 25 is permitted.
   * @throws EngineError BAD_ARGUMENT for what is no prefix.
   */
  setExitRules(rules: readonly ExitRule[], lan: readonly ExitRule[]): void;
}
