// The networks a node is a member of, one file each: STATE/networks/NAME.invite holds the invite
// link, mode 0600, since whoever has the link is a member.

import { MAX_RECORD_NETWORKS } from '../../core/protocol/message-limits.js';
import { randomBytes } from 'node:crypto';
import { readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { sameBytes } from '../../wire/bytes.js';
import { decodeInvite, encodeInvite } from '../../core/protocol/invite.js';
import { isName, MAX_NAME_LENGTH, type Bootstrap, type Network } from '../../core/protocol/network.js';
import { NAME_RULE } from '../config/config-rules.js';
import { makeFolders } from '../../host/make-folders.js';
import { ExitCode, OperatorError, fileError, messageOf, systemErrorCode } from '../../host/operator-error.js';
import { wordCoreError } from '../../status/model/wording.js';
import { readPrivate, requirePrivate, writePrivate, type StateDirectory } from './state-directory.js';

const SUFFIX = '.invite';

function pathOf(state: StateDirectory, name: string): string {
  return join(state.networks, name + SUFFIX);
}

/** Reads an invite link. @throws OperatorError; the link is not repeated in it. */
export function parseInvite(link: string): Network {
  try {
    return decodeInvite(link);
  } catch (error) {
    const worded = wordCoreError(error);
    if (worded === undefined) throw error;
    throw new OperatorError(ExitCode.usage, 'invite', worded.what, worded.next);
  }
}

/** Checks the name of a network. @param example what to type. */
export function requireNetworkName(name: string, example = 'omerta network create home'): void {
  if (!isName(name))
    throw new OperatorError(
      ExitCode.usage,
      'network name',
      `"${name}" is not ${NAME_RULE}`,
      `Type for example: ${example}`,
    );
}

/** Every network of a state directory, ordered by name. */
export function loadNetworks(state: StateDirectory): Network[] {
  let names: string[];
  try {
    names = readdirSync(state.networks).filter((name) => name.endsWith(SUFFIX));
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw fileError('networks', state.networks, error);
  }
  requirePrivate('networks', state.networks);
  return names.sort().flatMap((name) => {
    const path = join(state.networks, name);
    const link = readPrivate('network', path);
    if (link === undefined) return []; // left by another process a moment ago
    try {
      return [decodeInvite(link)];
    } catch (error) {
      throw new OperatorError(
        ExitCode.usage,
        'network',
        `${path} does not hold a whole invite link (${wordCoreError(error)?.what ?? messageOf(error)})`,
        `Join again: remove ${path}, then type: omerta network join LINK`,
      );
    }
  });
}

/** The one network meant: the named one, or the only one. */
export function selectNetwork(networks: readonly Network[], name: string | undefined): Network {
  const names = networks.map((network) => network.name).join(', ');
  if (name !== undefined) {
    const network = networks.find((candidate) => candidate.name === name);
    if (network !== undefined) return network;
    throw new OperatorError(
      ExitCode.usage,
      'network',
      `"${name}" is not joined${names === '' ? '' : `; joined: ${names}`}`,
      'Type: omerta network list',
    );
  }
  const [only, ...others] = networks;
  if (only !== undefined && others.length === 0) return only;
  throw new OperatorError(
    ExitCode.usage,
    'network',
    only === undefined ? 'none is joined yet' : `several are joined (${names}), so one has to be named`,
    only === undefined
      ? 'Type: omerta network join LINK'
      : `Type the name after the command, for example: ${only.name}`,
  );
}

/** The name, or the first of NAME-2, NAME-3 … that none of these networks has. */
export function freeNetworkName(networks: readonly Network[], wanted: string): string {
  const taken = new Set(networks.map(({ name }) => name));
  for (let number = 1; ; number++) {
    const suffix = number === 1 ? '' : `-${number}`;
    const name = wanted.slice(0, MAX_NAME_LENGTH - suffix.length) + suffix;
    if (!taken.has(name)) return name;
  }
}

/**
 * Keeps a new network.
 * @param withName what to type for the same under another name.
 * @throws OperatorError when its name or id is taken.
 */
export function addNetwork(
  state: StateDirectory,
  network: Network,
  withName = (free: string): string => `omerta network create ${free}`,
): void {
  state.prepare();
  const networks = loadNetworks(state);
  if (networks.length >= MAX_RECORD_NETWORKS)
    throw new OperatorError(
      ExitCode.usage,
      'network',
      `at most ${MAX_RECORD_NETWORKS} can be joined`,
      'Leave one first with: omerta network leave NAME',
    );
  const twin = networks.find((known) => sameBytes(known.id, network.id));
  if (twin !== undefined)
    throw new OperatorError(
      ExitCode.usage,
      'network',
      `this network is joined already, as "${twin.name}"`,
      'Type: omerta network list',
    );
  try {
    makeFolders(state.networks, 0o700);
  } catch (error) {
    throw fileError('network', state.networks, error);
  }
  try {
    writePrivate('network', pathOf(state, network.name), `${encodeInvite(network)}\n`, 'create');
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    throw nameTaken(networks, network.name, withName);
  }
}

function nameTaken(
  networks: readonly Network[],
  name: string,
  withName: (free: string) => string,
): OperatorError {
  return new OperatorError(
    ExitCode.usage,
    'network name',
    `"${name}" is taken by another network here; the name is this machine's own choice`,
    `Type: ${withName(freeNetworkName(networks, name))}`,
  );
}

/**
 * Gives a network another name on this machine. Under the old one it is there until it is there under
 * the new one.
 * @throws OperatorError when that is taken.
 */
export function renameNetwork(state: StateDirectory, network: Network, name: string): Network {
  const renamed = { ...network, name };
  try {
    writePrivate('network', pathOf(state, name), `${encodeInvite(renamed)}\n`, 'create');
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    const withName = (free: string): string => `omerta network rename ${network.name} ${free}`;
    throw nameTaken(loadNetworks(state), name, withName);
  }
  removeNetworkFile(state, network);
  return renamed;
}

/** Writes a network that is known already anew, for example with new bootstrap addresses. */
export function replaceNetwork(state: StateDirectory, network: Network): void {
  writePrivate('network', pathOf(state, network.name), `${encodeInvite(network)}\n`, 'replace');
}

/** Forgets a network. */
export function removeNetworkFile(state: StateDirectory, network: Network): void {
  try {
    unlinkSync(pathOf(state, network.name));
  } catch (error) {
    throw fileError('network', pathOf(state, network.name), error);
  }
}

/** A new network with random id and key. */
export function newNetwork(name: string, bootstraps: readonly Bootstrap[]): Network {
  return {
    id: new Uint8Array(randomBytes(16)),
    name,
    key: new Uint8Array(randomBytes(32)),
    bootstraps,
  };
}
