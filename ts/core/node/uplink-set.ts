// The uplinks of a node: one to each bootstrap that a network of the node names, and to each relay that
// its operator names. They come and go with those names.

import type { SessionKey } from '../../contract/engine.js';
import { sameBytes, toHex } from '../../wire/bytes.js';
import type { MemberTable } from '../members/member-table.js';
import type { Bootstrap } from '../protocol/network.js';
import type { RecordContent } from '../members/own-record.js';
import { earliest } from '../runtime/earliest.js';
import type { Turn } from '../runtime/turn.js';
import { Uplink, type UplinkHost } from '../uplink/uplink.js';

/** What the node lends to its uplinks, and what else of it follows them. */
export interface UplinkSetHost extends Omit<UplinkHost, 'boot' | 'networksOf' | 'depthOf'> {
  readonly members: MemberTable;
  /** Networks (hex) this bootstrap is asked about on behalf of others. */
  followed(bootstrap: Bootstrap): readonly string[];
  /** The depth of such a question. */
  followDepth(network: string, uplink: SessionKey): number | undefined;
  /** Nobody names it any more. */
  gone(uplink: SessionKey, turn: Turn): void;
}

export class UplinkSet {
  readonly #host: UplinkSetHost;
  readonly #uplinks = new Map<SessionKey, Uplink>();
  #relayPeers: readonly Bootstrap[];

  /** @param relayPeers relays the operator named to carry circuits on. */
  constructor(host: UplinkSetHost, relayPeers: readonly Bootstrap[]) {
    this.#host = host;
    this.#relayPeers = relayPeers;
  }

  get(key: SessionKey): Uplink | undefined {
    return this.#uplinks.get(key);
  }

  all(): Iterable<Uplink> {
    return this.#uplinks.values();
  }

  ofIdentity(identity: Uint8Array): Uplink | undefined {
    return [...this.all()].find(({ bootstrap }) => sameBytes(bootstrap.identity, identity));
  }

  /** Where bootstraps see this node. */
  observed(): RecordContent['observed'] {
    return [...this.all()].flatMap(({ bootstrap, observed: address }) =>
      address === undefined ? [] : [{ relay: bootstrap.identity, address }],
    );
  }

  /** Since when each has been asked in vain; undefined = it has answered. */
  silent(): readonly (number | undefined)[] {
    return [...this.all()].map(({ silentSince }) => silentSince);
  }

  /**
   * Whether each network that this one serves is served by another that can be asked, and has answered since.
   * Those that have not are asked.
   */
  replaces(key: SessionKey, since: number, turn: Turn): boolean {
    const others = [...this.all()].filter((other) => {
      const isAble = other.usable && other.shown && other.sessionKey !== key;
      if (isAble && !other.heardSince(since)) other.suspect(turn);
      return isAble && other.heardSince(since);
    });
    const served = new Set(others.flatMap((other) => this.#networksOf(other.sessionKey)));
    return others.length > 0 && this.#networksOf(key).every((network) => served.has(network));
  }

  setRelayPeers(relayPeers: readonly Bootstrap[]): void {
    this.#relayPeers = relayPeers;
  }

  /** Lets go of those no network and no operator names any more. */
  drop(turn: Turn): void {
    for (const [key, uplink] of this.#uplinks) {
      if (this.#networksOf(key).length > 0 || this.#isRelayPeer(uplink)) continue;
      this.#host.gone(key, turn);
      this.#uplinks.delete(key);
      uplink.close(turn);
    }
  }

  /** Takes up those that are named and not there yet. @param boot 8 bytes, new at each start of the node. */
  use(boot: Uint8Array, turn: Turn): void {
    const { members, self } = this.#host;
    const ofNetworks = [...members.networks.values()].map(({ network }) => network.bootstraps);
    for (const bootstrap of [...ofNetworks, this.#relayPeers].flat()) {
      const key = toHex(bootstrap.sessionKey);
      if (this.#uplinks.has(key) || sameBytes(bootstrap.identity, self.identity)) continue;
      this.#uplinks.set(key, new Uplink(bootstrap, this.#lend(bootstrap, boot), turn));
    }
  }

  handleTimeout(turn: Turn): void {
    for (const uplink of this.all()) uplink.handleTimeout(turn);
  }

  deadline(): number | undefined {
    return earliest(...[...this.all()].map((uplink) => uplink.deadline()));
  }

  #lend(bootstrap: Bootstrap, boot: Uint8Array): UplinkHost {
    const host = this.#host;
    const key = toHex(bootstrap.sessionKey);
    return {
      ...host,
      boot,
      networksOf: () => [...new Set([...this.#networksOf(key), ...host.followed(bootstrap)])],
      depthOf: (network) => (host.members.networks.has(network) ? 0 : (host.followDepth(network, key) ?? 0)),
    };
  }

  /** Blinded ids (hex) of the networks that name this bootstrap. */
  #networksOf(key: SessionKey): string[] {
    return [...this.#host.members.networks]
      .filter(([, { network }]) => network.bootstraps.some(({ sessionKey }) => toHex(sessionKey) === key))
      .map(([blindedId]) => blindedId);
  }

  #isRelayPeer({ bootstrap }: Uplink): boolean {
    return this.#relayPeers.some(({ identity }) => sameBytes(identity, bootstrap.identity));
  }
}
