// Covers inside a session (docs/protocol.md, "Control frames"): what is sent where a peer is sent to at a constant rate
// and has nothing to get. Who receives one counts and forgets it.

const MARKER = 0xc0;
const KIND = 9;

/** Whether a transport payload is one. */
export const isCover = (payload: Uint8Array): boolean => payload[0] === MARKER && payload[1] === KIND;
