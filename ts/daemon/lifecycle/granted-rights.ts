// Rights to leave by this machine, or to reach LANs behind it, as its settings give them: what the node is told of them, and which are left to
// somebody who has lost one.

import type { ExitSettings } from '../../core/exit/exit-agent.js';
import type { ExitRight } from '../../core/exit/exit-rights.js';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import type { MeshStatus } from '../../core/runtime/mesh-status.js';
import { networkOf } from '../../exit/denied-ranges.js';
import { parsePrefix } from '../../wire/prefix.js';
import type { ExitSubjectSetting, StoredExitSettings } from '../state/exit-settings.js';

/** A right that is left; `file`: the configuration allows it. */
export type ExitRightLeft = ExitSubjectSetting | { readonly network: string } | { readonly file: string };

/**
 * Of these members, and of all members of these networks.
 * @param networkId the id of a joined network
 */
export function lastingRights(
  { allow, networks }: { readonly allow: readonly string[]; readonly networks: readonly string[] },
  networkId: (name: string) => Uint8Array | undefined,
): ExitRight[] {
  return [
    ...allow.map((peer) => ({ subject: { identity: decodePeerId(peer) }, until: undefined })),
    ...networks.flatMap((name) => {
      const network = networkId(name);
      return network === undefined ? [] : [{ subject: { network }, until: undefined }];
    }),
  ];
}

/**
 * @param networkId the id of a joined network
 * @param dns whether names are resolved for guests
 */
export function nodeExitSettings(
  { serve, use, grants }: StoredExitSettings,
  networkId: (name: string) => Uint8Array | undefined,
  dns: boolean,
): ExitSettings {
  const rights: ExitRight[] = [
    ...(serve === undefined ? [] : lastingRights(serve, networkId)),
    ...grants.map(({ subject, until }): ExitRight => ({
      subject: 'peer' in subject ? { identity: decodePeerId(subject.peer) } : { sessionKey: subject.key },
      until,
    })),
  ];
  return {
    service: serve && {
      rights,
      ipv4: serve.ipv4,
      ipv6: serve.ipv6,
      dns,
      lan: serve.lan.flatMap((text) => parsePrefix(text) ?? []).map(networkOf),
      chain: serve.chain,
    },
    choice: use && { exits: use.exits.map(decodePeerId), hops: use.hops },
  };
}

/**
 * Rights that reach whom this one was for: by a network, by the session key, by the identity.
 * @param file the configuration, where it says who may leave
 */
export function rightsLeft(
  subject: ExitSubjectSetting,
  { serve, grants }: StoredExitSettings,
  { networks }: Pick<MeshStatus, 'networks'>,
  file: string | undefined,
): ExitRightLeft[] {
  const isHolder = ({ peerId, sessionKey }: { peerId: string; sessionKey: string }): boolean =>
    'peer' in subject ? peerId === subject.peer : sessionKey === subject.key;
  const member = networks.flatMap(({ members }) => members).find(isHolder);
  if (member === undefined) return [];
  const allow = serve?.allow ?? [];
  const typed = [
    ...(file === undefined ? allow.map((peer) => ({ subject: { peer }, until: undefined })) : []),
    ...grants,
  ];
  return [
    ...networks
      .filter(({ name, members }) => serve?.networks.includes(name) === true && members.some(isHolder))
      .map(({ name }) => ({ network: name })),
    ...(file !== undefined && allow.includes(member.peerId) ? [{ file }] : []),
    ...typed
      .filter(({ until }) => until === undefined || until > Date.now())
      .map((right) => right.subject)
      .filter((other) => ('peer' in other ? other.peer === member.peerId : other.key === member.sessionKey)),
  ];
}
