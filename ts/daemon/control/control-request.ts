// What may be asked over the control socket, and how the daemon reads it.

import { z } from 'zod';
import { MAX_DRAIN_SECONDS } from '../../core/protocol/message-limits.js';
import {
  exitGrantSchema,
  exitServeSchema,
  exitSubjectSchema,
  exitUseSchema,
} from '../state/exit-settings.js';
import { routeAcceptSchema, routeAdvertiseSchema } from '../state/route-settings.js';
import { ExitCode, OperatorError } from '../../host/operator-error.js';
import { CONTROL_VERSION, jsonOf } from './control-protocol.js';

const requestSchema = z.discriminatedUnion('command', [
  z.strictObject({ v: z.literal(CONTROL_VERSION), id: z.int().min(0), command: z.literal('status') }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('down'),
    /** Take the kernel path away, whatever `detach` says. */
    unload: z.boolean().optional(),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('reload-networks'),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('reload-configuration'),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('relay-accounts'),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('ping'),
    /** A peer id. */
    peer: z.string().max(128),
    timeoutMs: z.int().min(1).max(60_000),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('receipts'),
    /** A peer id; everybody when absent. */
    peer: z.string().max(128).optional(),
    timeoutMs: z.int().min(1).max(60_000),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('relay-circuits'),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('relay-drain'),
    seconds: z.int().min(1).max(MAX_DRAIN_SECONDS),
    /** Whether the daemon goes on when the drain is over. */
    stay: z.boolean(),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('relay-undrain'),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('relay-receipts'),
    peer: z.string().max(128).optional(),
    most: z.int().min(1).max(10_000),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('exit-status'),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('exit-serve'),
    serve: exitServeSchema,
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('exit-use'),
    use: exitUseSchema,
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('exit-grant'),
    grant: exitGrantSchema,
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('exit-revoke'),
    subject: exitSubjectSchema,
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('exit-off'),
    serve: z.boolean(),
    use: z.boolean(),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('route-list'),
    /** Ask members which LANs are behind them first. */
    ask: z.boolean(),
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('route-advertise'),
    advertise: routeAdvertiseSchema,
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('route-accept'),
    accept: routeAcceptSchema,
  }),
  z.strictObject({
    v: z.literal(CONTROL_VERSION),
    id: z.int().min(0),
    command: z.literal('route-off'),
    advertise: z.boolean(),
    /** Prefixes that are accepted no more; `true`: all. */
    accept: z.union([z.boolean(), z.array(z.string().max(64)).max(256)]),
  }),
]);

export type ControlRequest = z.infer<typeof requestSchema>;
type WithoutEnvelope<Request> = Request extends unknown ? Omit<Request, 'v' | 'id'> : never;
/** A request as a caller writes it: version and number are the client's business. */
export type ControlCommand = WithoutEnvelope<ControlRequest>;

/** Reads a request line. @throws OperatorError that goes back to the sender. */
export function parseRequest(line: string): ControlRequest {
  const value = jsonOf(line);
  if (typeof value !== 'object' || value === null)
    throw new OperatorError(
      ExitCode.usage,
      'request',
      'one JSON object per line is expected',
      'See docs/cli.md',
    );
  if (!('v' in value) || value.v !== CONTROL_VERSION)
    throw new OperatorError(
      ExitCode.usage,
      'protocol version',
      `this daemon speaks version ${CONTROL_VERSION}`,
      'Use the omerta command of the same installation, or restart the daemon: omerta down, then omerta up',
    );
  const result = requestSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new OperatorError(
    ExitCode.usage,
    `request ${issue?.path.join('.') ?? ''}`.trim(),
    issue?.message ?? 'not understood',
    'See docs/cli.md',
  );
}

/** The number of a request that could not be understood, for the answer to it. */
export function requestId(line: string): number {
  const value = jsonOf(line);
  const id = typeof value === 'object' && value !== null && 'id' in value ? value.id : undefined;
  return typeof id === 'number' && Number.isSafeInteger(id) ? id : 0;
}
