// Sessions between a relay and its client have no preshared key, so they prove nothing about membership: a
// relay and a client that are members of one network prove to each other that they know its key.

import type { SessionKey } from '../../contract/engine.js';
import type { Primitives } from '../../contract/primitives.js';
import { toHex } from '../../wire/bytes.js';
import type { MemberTable } from '../members/member-table.js';
import type { MessageOf } from '../protocol/control-message.js';
import { membershipKey, membershipMessage, membershipProof } from '../protocol/network.js';
import type { Counter } from '../runtime/counter.js';
import type { PeerTable } from '../runtime/peer-table.js';
import type { RequestTable } from '../runtime/request-table.js';
import type { Turn } from '../runtime/turn.js';
import type { Uplink } from '../uplink/uplink.js';

/** What the node lends to its proofs. */
export interface ProofHost {
  readonly primitives: Primitives;
  readonly identity: Uint8Array;
  readonly sessionKey: Uint8Array;
  readonly requests: RequestTable;
  readonly peers: PeerTable;
  readonly members: MemberTable;
  /** Wrong proofs are counted here, as `membership-proof`. */
  readonly drops: Counter;
}

export class MembershipProofs {
  readonly #host: ProofHost;

  constructor(host: ProofHost) {
    this.#host = host;
  }

  /** What proves to a relay that this node is a member of a network (hex); undefined = it is not. */
  membership(
    { bootstrap }: Uplink,
    network: string,
    boot: Uint8Array,
  ): Omit<MessageOf<'join-network'>, 'type'> | undefined {
    const { primitives, members, identity, sessionKey } = this.#host;
    const joined = members.networks.get(network);
    if (joined === undefined) return undefined;
    const { seed, publicKey } = membershipKey(primitives, joined.network);
    const message = membershipMessage({
      relay: bootstrap.identity,
      relaySessionKey: bootstrap.sessionKey,
      boot,
      identity,
      sessionKey,
    });
    return { key: publicKey, signature: primitives.ed25519Sign(seed, message) };
  }

  /** A relay that is a member of a network of ours gets, and gives, a proof of it; once, or `again`. */
  proveTo(uplink: Uplink, again: boolean, turn: Turn): void {
    const member = this.#host.members.bySessionKey(uplink.sessionKey);
    if (member === undefined || !uplink.usable) return;
    for (const id of member.overlay.keys()) {
      const joined = this.#host.members.networks.get(id);
      if (joined === undefined || (!again && this.#host.peers.isProven(uplink.sessionKey, id))) continue;
      const theirs = uplink.bootstrap.sessionKey;
      const message = {
        type: 'prove-membership',
        network: joined.blindedId,
        proof: membershipProof(this.#host.primitives, joined.network, this.#host.sessionKey, theirs),
      } as const;
      this.#host.requests.send(uplink.sessionKey, message, turn, (answer, later) => {
        if (answer?.type !== 'membership-proven') return;
        const expected = membershipProof(
          this.#host.primitives,
          joined.network,
          theirs,
          this.#host.sessionKey,
        );
        if (this.#host.primitives.equal(answer.proof, expected))
          this.#host.peers.prove(uplink.sessionKey, id, later);
      });
    }
  }

  /** @param isClient whether the sender is a client of this relay: only such sessions are in need of a proof. */
  handle(
    peer: SessionKey,
    isClient: boolean,
    request: number,
    message: MessageOf<'prove-membership'>,
    turn: Turn,
  ): void {
    const id = toHex(message.network);
    const joined = this.#host.members.networks.get(id);
    const member = this.#host.members.bySessionKey(peer);
    if (joined === undefined || member?.overlay.has(id) !== true || !isClient) {
      turn.refuse(peer, request, message.type, 'not-a-member');
      return;
    }
    const theirs = member.record.sessionKey;
    const expected = membershipProof(this.#host.primitives, joined.network, theirs, this.#host.sessionKey);
    if (!this.#host.primitives.equal(message.proof, expected)) {
      this.#host.drops.add('membership-proof', 1);
      turn.refuse(peer, request, message.type, 'not-a-member');
      return;
    }
    this.#host.peers.prove(peer, id, turn);
    turn.send(peer, request, {
      type: 'membership-proven',
      network: message.network,
      proof: membershipProof(this.#host.primitives, joined.network, this.#host.sessionKey, theirs),
    });
  }
}
