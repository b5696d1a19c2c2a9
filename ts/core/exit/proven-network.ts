// What an exit or a route needs of the networks two members share.

import { toHex } from '../../wire/bytes.js';
import type { Member, MemberTable } from '../members/member-table.js';
import type { PeerTable } from '../runtime/peer-table.js';

/** A network this node shares with the member, by whose key the session with it is proven. */
export function provenNetwork(
  members: MemberTable,
  peers: PeerTable,
  { sessionKey, overlay }: Member,
): { readonly id: Uint8Array; readonly hex: string } | undefined {
  for (const hex of overlay.keys()) {
    const joined = members.networks.get(hex);
    if (joined !== undefined && peers.isMember(sessionKey, hex)) return { id: joined.blindedId, hex };
  }
  return undefined;
}

/** Own addresses in a network, by which members of it know this node; undefined = another member has it. */
export function ownAddresses(
  members: MemberTable,
  identity: Uint8Array,
  network: string,
): { readonly ipv4: string | undefined; readonly ipv6: string | undefined } {
  const own = members.networks.get(network)?.own;
  const mine = (address: string | undefined): string | undefined =>
    address !== undefined && members.owns(address, identity) ? address : undefined;
  return { ipv4: mine(own?.ipv4), ipv6: mine(own?.ipv6) };
}

/** What a member sends from in a network, of these families. */
export function addressesOf(
  members: MemberTable,
  { overlay, identity }: Member,
  network: string,
  { ipv4, ipv6 }: { readonly ipv4: boolean; readonly ipv6: boolean },
): string[] {
  const addresses = overlay.get(network);
  if (addresses === undefined) return [];
  const served = [...(ipv6 ? [addresses.ipv6] : []), ...(ipv4 ? [addresses.ipv4] : [])];
  return served.filter((address) => members.owns(address, identity));
}

/** Whether a member's record says that it can do this. */
export const offers = (members: MemberTable, capability: string): Member[] =>
  [...members.members.values()].filter(({ record }) => record.capabilities.includes(capability));

/** The member of an identity. */
export const memberOf = (members: MemberTable, identity: Uint8Array): Member | undefined =>
  members.members.get(toHex(identity));
