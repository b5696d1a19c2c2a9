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

/** One address that may send by the engine's own stack. */
export interface StackGuest {
  readonly address: string;
  /** To the Internet; to LANs behind this node. */
  readonly exit: boolean;
  readonly lan: boolean;
  /** Of 127.0.0.0/8: where its questions for names come from. */
  readonly asksFrom: string;
}

/** Ports of 127.0.0.1 that questions go on to which guests ask of an address of this node; 0: they may not. */
export interface StackNames {
  readonly address: string;
  readonly udp: number;
  readonly tcp: number;
}

export interface StackCounts {
  /** Connections, and ports of guests that datagrams are of, now. */
  readonly tcp: number;
  readonly udp: number;
  /** At a bound, of who is no guest, or to where nothing is forwarded. */
  readonly refused: number;
  /** Beyond what a guest may begin, and send, in a second. */
  readonly flowsTooFast: number;
  readonly datagramsTooFast: number;
}

/** A TCP/IP stack in the engine that ends what guests send, and goes on by sockets of the machine. */
export interface StackControl {
  /** All guests there are: what others have open ends. @throws EngineError BAD_ARGUMENT for what is no address */
  setGuests(guests: readonly StackGuest[]): void;
  /** All there are. @throws EngineError BAD_ARGUMENT */
  setNames(names: readonly StackNames[]): void;
  counts(): StackCounts;
}

export interface ExitControl {
  /** Undefined: what is forwarded leaves by the interface. */
  readonly stack?: StackControl | undefined;
  /**
   * Where an exit forwards, all rules there are: of those that hold a destination the one with the longest prefix
   * decides, of equal ones the last; what none holds is permitted, but for TCP to port 25. Of 64:ff9b::/96 and
   * 2002::/16 the IPv4 address inside has to be permitted too.
   * @param lan the same for LANs behind this node; but what none of these holds is denied, and port 25 is permitted.
   * @throws EngineError BAD_ARGUMENT for what is no prefix.
   */
  setExitRules(rules: readonly ExitRule[], lan: readonly ExitRule[]): void;
}
