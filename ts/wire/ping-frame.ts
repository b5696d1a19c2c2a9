// Pings inside a session (docs/protocol.md, "Control frames"): the engine of whoever is pinged sends the
// token back, so that a ping costs its control plane nothing.
//
//   ping   C0 02 | 08 00 | token 8 | zero 4
//   pong   C0 03 | 08 00 | token 8 | zero 4

export const PING_TOKEN_SIZE = 8;

const SIZE = 16;
const PING = [0xc0, 2, PING_TOKEN_SIZE, 0] as const;
const PONG_KIND = 3;

/**
 * The answer to a transport payload, padding included, that is a ping; undefined for any other. What only
 * looks like one is left to whoever takes control frames.
 */
export function pongTo(payload: Uint8Array): Uint8Array | undefined {
  const padded = payload.subarray(PING.length + PING_TOKEN_SIZE);
  if (payload.length !== SIZE || PING.some((byte, index) => payload[index] !== byte) || padded.some(Boolean))
    return undefined;
  const pong = payload.slice();
  pong[1] = PONG_KIND;
  return pong;
}
