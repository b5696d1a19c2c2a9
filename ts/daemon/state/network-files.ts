// The networks a node is a member of, one file each: STATE/networks/NAME.invite holds the invite
// link, mode 0600, since whoever has the link is a member.

import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { sameBytes } from '../../wire/bytes.js';
import { decodeInvite, encodeInvite } from '../../core/protocol/invite.js';
import { isName, type Bootstrap, type Network } from '../../core/protocol/network.js';
import { MAX_RECORD_NETWORKS } from '../../core/protocol/peer-record.js';
import { NAME_RULE } from '../config/config.js';
import { ExitCode, OperatorError, fileError, messageOf, systemErrorCode } from '../../host/operator-error.js';
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
    const [expected = '', next = ''] = messageOf(error)
      .replace(/^invite link: /, '')
      .split('; ');
    throw new OperatorError(
      ExitCode.usage,
      'invite',
      expected,
      next === '' ? 'Ask for the link again' : next.charAt(0).toUpperCase() + next.slice(1),
    );
  }
}

/** Checks the name of a network. */
export function requireNetworkName(name: string): void {
  if (!isName(name))
    throw new OperatorError(
      ExitCode.usage,
      'network name',
      `"${name}" is not ${NAME_RULE}`,
      'Type for example: omerta network create home',
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
        `${path} does not hold a whole invite link (${messageOf(error).replace(/^invite link: /, '')})`,
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

/** Keeps a new network. @throws OperatorError when its name or id is taken. */
export function addNetwork(state: StateDirectory, network: Network): void {
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
  mkdirSync(state.networks, { recursive: true, mode: 0o700 });
  try {
    writePrivate('network', pathOf(state, network.name), `${encodeInvite(network)}\n`, 'create');
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
    throw new OperatorError(
      ExitCode.usage,
      'network name',
      `"${network.name}" is taken by another network`,
      `Leave that one first with: omerta network leave ${network.name}`,
    );
  }
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
