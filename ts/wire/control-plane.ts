// Which transport payloads the control plane sends, and pings (docs/protocol.md, "Control frames"): they may go by
// another path than data.

const MARKER = 0xc0;
/** Message, ping, pong. */
const FIRST_KIND = 1;
const LAST_KIND = 3;

export function isControlPlane([marker, kind = 0]: Uint8Array): boolean {
  return marker === MARKER && kind >= FIRST_KIND && kind <= LAST_KIND;
}
