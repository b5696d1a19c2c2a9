// Reads the configuration file (TOML): one error at a time, which names the key, what it takes and where to
// change it.

import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { TomlError, parse } from 'smol-toml';
import type { z } from 'zod';
import { MAX_WIREGUARD_BINDINGS } from '../../core/relay/relay-limits.js';
import { DEFAULT_CLASS } from '../../core/relay/relay-policy.js';
import { ExitCode, OperatorError, fileError, systemErrorCode } from '../../host/operator-error.js';
import { knownKeys, schema, type Config, type Parsed } from './config-schema.js';

export type { Config } from './config-schema.js';

/** The host name as a machine name: `[a-z0-9-]`, 1–63. */
export function machineName(host: string): string {
  const name = (host.split('.')[0] ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/^-+|-+$/g, '')
    .slice(0, 63);
  return name === '' ? 'node' : name;
}

/**
 * Reads a configuration text.
 * @param source the file's path, for messages.
 * @throws OperatorError naming the first wrong key, what it takes, and where to change it.
 */
export function parseConfig(toml: string, source: string): Config {
  let document: unknown;
  try {
    document = parse(toml);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = (error.message.split('\n')[0] ?? '').replace(/^Invalid TOML document: /, '');
    throw new OperatorError(
      ExitCode.usage,
      'config',
      `${source} line ${error.line} column ${error.column} is not TOML (${reason})`,
      `Correct that line of ${source}`,
    );
  }
  const result = schema.safeParse(document);
  if (!result.success) throw configError(result.error.issues, source);
  const { relay, paths, shaping, wireguard } = result.data;
  checkClasses(relay.classes, source);
  checkOnce('paths', paths.peer, source);
  checkOnce('shaping', shaping.peer, source);
  checkShapedKeys(shaping.peer, wireguard.peers, source);
  checkShaping(shaping, source);
  if (relay.wireguard_bindings + relay.wireguard_servers.length > MAX_WIREGUARD_BINDINGS)
    throw new OperatorError(
      ExitCode.usage,
      'config relay.wireguard_bindings',
      `with the servers in wireguard_servers, at most ${MAX_WIREGUARD_BINDINGS} are possible`,
      `Lower it, or name fewer servers, in ${source}`,
    );
  return {
    ...result.data,
    node: { ...result.data.node, name: result.data.node.name ?? machineName(hostname()) },
  };
}

function checkClasses(classes: Parsed['relay']['classes'], source: string): void {
  const classOf = new Map<string, string>();
  for (const [name, { identities, networks }] of Object.entries(classes))
    for (const [list, members] of [
      ['identities', identities],
      ['networks', networks],
    ] as const)
      for (const member of members) {
        const other = classOf.get(member);
        if (name !== DEFAULT_CLASS && other === undefined) {
          classOf.set(member, name);
          continue;
        }
        throw new OperatorError(
          ExitCode.usage,
          `config relay.classes.${name}.${list}`,
          name === DEFAULT_CLASS
            ? 'the class "default" is for those in no other, so it lists nobody'
            : `${member} is in two classes, "${other ?? ''}" and "${name}"`,
          `Name it once in ${source}`,
        );
      }
}

type PeerTables = readonly { readonly id?: string | undefined; readonly public_key?: string | undefined }[];

function checkOnce(section: 'paths' | 'shaping', peers: PeerTables, source: string): void {
  const ids = peers.map(({ id, public_key: key }) => id ?? key);
  const twice = ids.findIndex((id, index) => ids.indexOf(id) < index);
  if (twice < 0) return;
  throw new OperatorError(
    ExitCode.usage,
    `config ${section}.peer.${twice}.${peers[twice]?.id === undefined ? 'public_key' : 'id'}`,
    `${ids[twice] ?? ''} has a [[${section}.peer]] already`,
    `Say all of a peer in one table of ${source}`,
  );
}

function checkShapedKeys(
  shaped: Parsed['shaping']['peer'],
  peers: Parsed['wireguard']['peers'],
  source: string,
): void {
  const unknown = shaped.findIndex(
    ({ public_key: key }) => key !== undefined && !peers.some((peer) => peer.public_key === key),
  );
  if (unknown < 0) return;
  throw new OperatorError(
    ExitCode.usage,
    `config shaping.peer.${unknown}.public_key`,
    `${shaped[unknown]?.public_key ?? ''} is in no [[wireguard.peers]]`,
    `Add the peer there, or name a member by its id, in ${source}`,
  );
}

/** What would be accepted and do nothing. */
function checkShaping(shaping: Parsed['shaping'], source: string): void {
  const refuse = (field: string, what: string, next: string): never => {
    throw new OperatorError(ExitCode.usage, `config shaping.${field}`, what, `${next} in ${source}`);
  };
  const tables = [shaping, ...shaping.peer].map((table, index) => ({
    ...table,
    at: index === 0 ? '' : `peer.${index - 1}.`,
  }));
  for (const { at, padding, packets_per_second: rate, ...table } of tables) {
    if (padding !== 'constant-rate') continue;
    if ('public_key' in table && table.public_key !== undefined)
      refuse(
        `${at}padding`,
        'a WireGuard peer knows no covers',
        'Write "constant", or name a member by its id,',
      );
    if ((rate ?? shaping.packets_per_second) === undefined)
      refuse(`${at}packets_per_second`, 'a constant rate needs one', 'Add packets_per_second = 50, say,');
  }
  if (Object.keys(shaping.interfaces).length > 0) return;
  const weighted = tables.find((table) => 'weight' in table && table.weight !== undefined)?.at;
  const [network] = Object.keys(shaping.networks);
  const field = weighted ?? (network === undefined ? undefined : `networks.${network}.`);
  if (field !== undefined)
    refuse(
      `${field}weight`,
      'weights share out what a ceiling lets through, and there is none',
      'Add [shaping.interfaces.NAME] with bytes_per_second, or remove the weight,',
    );
}

/** How the section is begun in the file. */
const header = (section: string): string => (section === 'forward' ? '[[forward]]' : `[${section}]`);

function configError(issues: readonly z.core.$ZodIssue[], source: string): OperatorError {
  const issue = issues[0];
  const path = issue?.path.map(String) ?? [];
  if (issue?.code === 'unrecognized_keys') {
    const section = path.join('.');
    const key = [...path, issue.keys[0] ?? ''].join('.');
    const known = knownKeys(section).join(', ');
    return new OperatorError(
      ExitCode.usage,
      `config ${key}`,
      `not a known ${section === '' ? 'section' : `key of [${section}]`}; known: ${known}`,
      `Correct or remove it in ${source}`,
    );
  }
  const expected = issue?.code === 'invalid_key' ? issue.issues[0]?.message : issue?.message;
  return new OperatorError(
    ExitCode.usage,
    `config ${path.join('.')}`,
    path.length === 1
      ? `a section is expected: write ${header(path[0] ?? '')}`
      : `expected ${expected ?? ''}`,
    `Correct it in ${source}`,
  );
}

/** Whether a configuration file has to be there, and why. */
export type ConfigPresence = 'optional' | 'named' | 'read-before';

/**
 * The configuration of a state directory.
 * @returns with it, whether there is a file.
 * @throws OperatorError, also when a file is gone that was named on the command line or read before.
 */
export function loadConfig(
  path: string,
  presence: ConfigPresence,
): { readonly config: Config; readonly read: boolean } {
  let toml: string;
  try {
    toml = readFileSync(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw fileError('config', path, error);
    if (presence === 'optional') return { config: parseConfig('', path), read: false };
    throw new OperatorError(
      ExitCode.usage,
      'config',
      presence === 'named' ? `${path} does not exist` : `${path} was there and is gone; nothing is changed`,
      presence === 'named'
        ? 'Name an existing file with --config FILE, or leave the option out'
        : 'Put it back; an empty file lifts every limit that was in it',
    );
  }
  return { config: parseConfig(toml, path), read: true };
}
