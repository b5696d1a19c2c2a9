// What the core throws at a person's doing: a code, which ts/status/model/wording.ts puts into words.

export const CORE_ERRORS = [
  'invite-scheme',
  'invite-damaged',
  'invite-version',
  'relay-link-scheme',
  'relay-link-damaged',
  'relay-link-version',
  'peer-id-damaged',
  'peer-id-prefix',
  'peer-id-length',
  'unknown-peer',
  'not-a-relay',
] as const;
export type CoreErrorCode = (typeof CORE_ERRORS)[number];

/** The message is the code. What was given (a link is a secret) is not repeated. */
export class CoreError extends Error {
  constructor(readonly code: CoreErrorCode) {
    super(code);
    this.name = 'CoreError';
  }
}
