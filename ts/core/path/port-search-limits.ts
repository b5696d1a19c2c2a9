// What a port search (port-search.ts) may cost, as the operator sets it.

/** What the operator lets a search cost this node and those it sends to. */
export interface PortSearchLimits {
  /** Whether there are searches; this node asks for none and takes part in none when not. */
  readonly enabled: boolean;
  /** Local ports opened for one, each of which sends one probe. */
  readonly ports: number;
  /** Ports of the other side that are probed for one. */
  readonly probes: number;
  /** Packets a second, of either kind. */
  readonly perSecond: number;
}

export const DEFAULT_PORT_SEARCH: PortSearchLimits = {
  enabled: true,
  ports: 256,
  probes: 1024,
  perSecond: 200,
};
/** Packets of a search with these limits, whichever of its two parts is this node's. */
export const mostOfSearch = ({ probes, ports }: PortSearchLimits): number => Math.max(probes, ports);

export const MAX_SEARCH_PROBES = 8192;
export const MAX_SEARCH_RATE = 2000;
