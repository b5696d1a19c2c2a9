// What the operator typed about LANs behind members: STATE/routes.json, mode 0600, so that it holds after a restart.

import { z } from 'zod';
import { whyNoLan } from '../../core/exit/lan-prefix.js';
import { MAX_ACCEPTED } from '../../core/exit/route-client.js';
import { MAX_LAN_PREFIXES } from '../../core/protocol/message-limits.js';
import { ExitCode, messageOf, OperatorError } from '../../host/operator-error.js';
import { parsePrefix } from '../../wire/prefix.js';
import { isPeerId } from '../config/config-rules.js';
import { readPrivate, writePrivate, type StateDirectory } from './state-directory.js';

const peerId = z.string().refine(isPeerId, 'not a peer id');
const prefix = z.string().refine((text) => {
  const parsed = parsePrefix(text);
  return parsed !== undefined && whyNoLan(parsed) === undefined;
}, 'not a prefix of a LAN such as 192.168.7.0/24');

export const routeAdvertiseSchema = z.strictObject({
  prefixes: z.array(prefix).min(1).max(MAX_LAN_PREFIXES),
  allow: z.array(peerId).max(1024),
  /** Names of networks all of whose members may. */
  networks: z.array(z.string().max(63)).max(8),
});
export type RouteAdvertiseSettings = z.infer<typeof routeAdvertiseSchema>;

export const routeAcceptSchema = z.array(z.strictObject({ prefix, from: peerId })).max(MAX_ACCEPTED);
export type RouteAcceptSettings = z.infer<typeof routeAcceptSchema>;

const settingsSchema = z.strictObject({
  advertise: routeAdvertiseSchema.optional(),
  accept: routeAcceptSchema.default([]),
});
export type StoredRouteSettings = z.infer<typeof settingsSchema>;

export const NO_ROUTES: StoredRouteSettings = { accept: [] };

/** Accepted routes with more, in place of the same ones. @throws OperatorError where they would be too many */
export function acceptBeside(known: RouteAcceptSettings, more: RouteAcceptSettings): RouteAcceptSettings {
  const isSame = (route: RouteAcceptSettings[number]): boolean =>
    more.some(({ prefix: other, from }) => other === route.prefix && from === route.from);
  const all = [...known.filter((route) => !isSame(route)), ...more];
  if (all.length <= MAX_ACCEPTED) return all;
  throw new OperatorError(
    ExitCode.usage,
    'accept',
    `it would be ${all.length} prefixes with those that are accepted already, and at most ${MAX_ACCEPTED} are possible`,
    'Accept a shorter prefix that holds some of them, or take some out: omerta route off PREFIX',
  );
}

/** @throws OperatorError when the file is not what this wrote. */
export function loadRouteSettings(state: StateDirectory): StoredRouteSettings {
  const text = readPrivate('route settings', state.routeSettings);
  if (text === undefined) return NO_ROUTES;
  try {
    return settingsSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new OperatorError(
      ExitCode.usage,
      'route settings',
      `${state.routeSettings} cannot be read (${messageOf(error).replace(/\s+/g, ' ').slice(0, 200)})`,
      'Type: omerta route off, then say again what is to be advertised or accepted',
    );
  }
}

/** @throws OperatorError when the disk refuses it. */
export function saveRouteSettings(state: StateDirectory, settings: StoredRouteSettings): void {
  writePrivate('route settings', state.routeSettings, `${JSON.stringify(settings, null, 2)}\n`, 'replace');
}
