// What exits change and look after, as the daemon sees it: the machine (exit-host.ts), a private network alone
// (private-exit.ts), or the engine's own stack (stack-exit.ts).

import type { ExitRule } from '../contract/exit-control.js';
import type { ExitGuest, ExitInUse, RouteInUse } from '../core/runtime/exit-change.js';
import type { ExitBackend } from '../status/model/exit-report.js';
import type { DnsNetworks } from './dns-forwarder.js';
import type { GatewayCounts } from './gateway-messages.js';
import type { ExitWish } from './exit-host.js';

export interface ExitPlace {
  /** Whether it is the machine: then the engine's datagrams have to be told from others. */
  readonly isMachine: boolean;
  /** What forwards for guests. */
  readonly backend: ExitBackend;
  /** Whether anything is changed. */
  readonly isChanged: boolean;
  /** Why it is not as it should be; undefined = it is. */
  readonly error: string | undefined;
  /** When all that was asked for so far is done, or has failed. */
  readonly done: Promise<void>;
  /** Where guests ask for names, and where these are resolved. */
  readonly names: DnsNetworks;
  /** @throws OperatorError; what was closed stays closed. */
  set(wish: ExitWish): Promise<void>;
  /** Whom an exit, or LANs that are advertised, are forwarded for. */
  setGuests(of: 'exit' | 'lan', guests: readonly ExitGuest[]): Promise<void>;
  setRoutesInUse(routes: readonly RouteInUse[]): Promise<void>;
  setInUse(use: ExitInUse | undefined): Promise<void>;
  /** Looks after it. @returns whether what others had taken away was made again */
  check(): Promise<boolean>;
  clear(): Promise<void>;
  keepClosed(): Promise<void>;
  /** What the engine forwards to. */
  rules(lan: readonly string[], tunnel: string): ExitRule[];
  lanRules(advertised: readonly string[], tunnel: string): ExitRule[];
  /** Of prefixes that are accepted, those that are on-link here, so that they are reached directly. */
  onLink(prefixes: readonly string[], tunnel: string): string[];
  /** @throws OperatorError naming what else sends everything elsewhere. */
  requireNoRival(): Promise<void>;
  foreignDrops(): Promise<string[]>;
  /** New flows of guests that were refused at a cap, by counter. */
  capped(): Promise<Readonly<Record<string, number>>>;
  /** What goes by a gateway; undefined = there is none. */
  readonly gateway: GatewayCounts | undefined;
  /** Of a node's inner addresses, those that are there. */
  innerAddresses(own: readonly string[]): readonly string[];
}
