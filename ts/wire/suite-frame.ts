// Suite frames inside a session (docs/protocol.md, "Suites"): told apart, for who has one suite and offers none.

const MARKER = 0xc0;
const OFFER = { kind: 4, body: 12 };
const PROOF = { kind: 5, body: 1 };
/** Both are one block of a transport message. */
const SIZE = 16;

/** Whether a transport payload is an offer or a proof of one. */
export function isSuiteFrame(payload: Uint8Array): boolean {
  const [marker, kind, low, high] = payload;
  const body = kind === OFFER.kind ? OFFER.body : kind === PROOF.kind ? PROOF.body : undefined;
  return payload.length === SIZE && marker === MARKER && body !== undefined && low === body && high === 0;
}
