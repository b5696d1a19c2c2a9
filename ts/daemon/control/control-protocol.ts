// What the CLI and a running daemon say to each other over STATE/omerta.sock: one JSON object per
// line, a request with a number, an answer with the same number.
//
//   -> {"v":1,"id":1,"command":"status"}
//   <- {"v":1,"id":1,"ok":true,"result":{…}}
//   <- {"v":1,"id":1,"ok":false,"error":{"exitCode":2,"field":"…","expected":"…","next":"…"}}

import { ExitCode } from '../../host/operator-error.js';

export const CONTROL_VERSION = 1;
/** Bytes of one request line: every request is small. */
export const MAX_REQUEST_BYTES = 16_384;
/** Bytes of one answer line: a status with thousands of peers and circuits fits. */
export const MAX_RESPONSE_BYTES = 64 * 1024 * 1024;

export type ControlResponse =
  | { readonly v: typeof CONTROL_VERSION; readonly id: number; readonly ok: true; readonly result: unknown }
  | {
      readonly v: typeof CONTROL_VERSION;
      readonly id: number;
      readonly ok: false;
      readonly error: {
        readonly exitCode: ExitCode;
        readonly field: string;
        readonly expected: string;
        readonly next: string;
      };
    };

/** Undefined when the line is no JSON. */
export function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    return undefined;
  }
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null ? (value as Fields) : undefined;
}

/** Reads an answer line; undefined when it is not one. */
export function parseResponse(line: string): ControlResponse | undefined {
  const { v, id, ok, result, error } = fieldsOf(jsonOf(line)) ?? {};
  if (v !== CONTROL_VERSION || typeof id !== 'number' || !Number.isSafeInteger(id)) return undefined;
  if (ok === true) return { v, id, ok, result };
  const { exitCode, field, expected, next } = fieldsOf(error) ?? {};
  const code = Object.values(ExitCode).find((known) => known === exitCode);
  if (ok !== false || code === undefined) return undefined;
  if (typeof field !== 'string' || typeof expected !== 'string' || typeof next !== 'string') return undefined;
  return { v, id, ok, error: { exitCode: code, field, expected, next } };
}
