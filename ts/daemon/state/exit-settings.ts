// What the operator typed about exits: STATE/exit.json, mode 0600, so that it holds after a restart.

import { z } from 'zod';
import { decodePeerId } from '../../core/protocol/peer-id.js';
import { MAX_EXIT_HOPS, MAX_LAN_PREFIXES } from '../../core/protocol/message-limits.js';
import { MAX_CHOICE } from '../../core/exit/exit-client.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import { parsePrefix } from '../../wire/prefix.js';
import { parseIp } from '../../wire/socket-address.js';
import { readPrivate, writePrivate, type StateDirectory } from './state-directory.js';

const peerId = z.string().refine(isPeerId, 'not a peer id');
const sessionKey = z.string().regex(/^[0-9a-f]{64}$/);
const prefix = z
  .string()
  .refine((text) => parsePrefix(text) !== undefined, 'not a prefix such as 10.0.0.0/8');

/** Whom a right is for: a peer id, or whoever holds a session key (64 hex digits). */
export const exitSubjectSchema = z.union([
  z.strictObject({ peer: peerId }),
  z.strictObject({ key: sessionKey }),
]);
export type ExitSubjectSetting = z.infer<typeof exitSubjectSchema>;

export const exitServeSchema = z.strictObject({
  allow: z.array(peerId).max(1024),
  /** Names of networks all of whose members may. */
  networks: z.array(z.string().max(63)).max(8),
  lan: z.array(prefix).max(MAX_LAN_PREFIXES),
  ipv4: z.boolean(),
  ipv6: z.boolean(),
  chain: z.boolean(),
  /** Whether guests' names are resolved here. */
  dns: z.boolean().default(true),
  /** Whom they are asked of; none = those of /etc/resolv.conf. */
  resolvers: z
    .array(z.string().refine((text) => parseIp(text) !== undefined, 'not an address'))
    .max(3)
    .default([]),
});
export type ExitServeSettings = z.infer<typeof exitServeSchema>;

export const exitGrantSchema = z.strictObject({
  subject: exitSubjectSchema,
  /** Milliseconds since 1970; left out = until it is taken back. */
  until: z.int().min(0).optional(),
});
export type ExitGrantSetting = z.infer<typeof exitGrantSchema>;

export const exitUseSchema = z.strictObject({
  exits: z.array(peerId).min(1).max(MAX_CHOICE),
  hops: z.int().min(1).max(MAX_EXIT_HOPS),
  allowLan: z.boolean(),
  include: z.array(prefix).max(256),
  exclude: z.array(prefix).max(256),
  /** Whether nothing leaves but by the tunnel, whatever happens to the daemon. */
  paranoid: z.boolean().default(false),
});
export type ExitUseSettings = z.infer<typeof exitUseSchema>;

/** Rights that are granted one by one, those that ended and are remembered among them. */
export const MAX_GRANTS = 1024;

const settingsSchema = z.strictObject({
  serve: exitServeSchema.optional(),
  grants: z.array(exitGrantSchema).max(MAX_GRANTS),
  use: exitUseSchema.optional(),
});
export type StoredExitSettings = z.infer<typeof settingsSchema>;

const NONE: StoredExitSettings = { grants: [] };

/** Ended rights are kept so long, to be told from rights that never were. */
const REMEMBERED_MS = 7 * 24 * 3_600_000;

/**
 * These rights with one more, in place of an earlier one of the same. Of those that ended the oldest are forgotten first.
 * @param now milliseconds since 1970
 * @throws OperatorError where there are as many as there may be
 */
export function withGrant(
  grants: readonly ExitGrantSetting[],
  grant: ExitGrantSetting,
  now: number,
): ExitGrantSetting[] {
  const end = ({ until = Infinity }: ExitGrantSetting): number => until;
  const others = grants.filter(
    (each) => !isSameSubject(each.subject, grant.subject) && end(each) > now - REMEMBERED_MS,
  );
  const ended = others.filter((each) => end(each) <= now).sort((a, b) => end(a) - end(b));
  const forgotten = new Set(ended.slice(0, Math.max(0, others.length + 1 - MAX_GRANTS)));
  const kept = others.filter((each) => !forgotten.has(each));
  if (kept.length < MAX_GRANTS) return [...kept, grant];
  throw new OperatorError(
    ExitCode.usage,
    'exit grant',
    `${MAX_GRANTS} rights are granted already, and none of them has ended`,
    'Take one back with omerta exit revoke, or serve a network: omerta exit serve --network NAME',
  );
}

export const isSameSubject = (a: ExitSubjectSetting, b: ExitSubjectSetting): boolean =>
  JSON.stringify(a) === JSON.stringify(b);

/** @throws OperatorError when the file is not what this wrote. */
export function loadExitSettings(state: StateDirectory): StoredExitSettings {
  const text = readPrivate('exit settings', state.exitSettings);
  if (text === undefined) return NONE;
  try {
    return settingsSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new OperatorError(
      ExitCode.usage,
      'exit settings',
      `${state.exitSettings} cannot be read (${messageOf(error).replace(/\s+/g, ' ').slice(0, 200)})`,
      'Type: omerta exit off, then say again what is to be served or used',
    );
  }
}

/** @throws OperatorError when the disk refuses it. */
export function saveExitSettings(state: StateDirectory, settings: StoredExitSettings): void {
  writePrivate('exit settings', state.exitSettings, `${JSON.stringify(settings, null, 2)}\n`, 'replace');
}

function isPeerId(text: string): boolean {
  try {
    decodePeerId(text);
    return true;
  } catch {
    return false;
  }
}
