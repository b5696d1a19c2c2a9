// What the host and the agent in a guest say to each other. The layout is drawn in native/agent/frame.h, which says
// the same; test/provider/machine.test.ts runs the two against each other, in a guest.

export const Kind = {
  start: 1,
  input: 2,
  inputEnd: 3,
  signal: 4,
  seed: 5,
  ready: 16,
  output: 17,
  errors: 18,
  exited: 19,
  failed: 20,
  taken: 21,
} as const;

export const AGENT_VERSION = 1;
export const SEED_BYTES = 32;
const HEADER_BYTES = 4;
export const MAX_PAYLOAD_BYTES = 65_536;

export interface AgentFrame {
  readonly kind: number;
  readonly payload: Buffer;
}

/** Precondition: the payload has at most MAX_PAYLOAD_BYTES. */
export function agentFrame(kind: number, payload: Uint8Array = new Uint8Array()): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt8(kind, 0);
  header.writeUIntLE(payload.length, 1, 3);
  return Buffer.concat([header, payload]);
}

/**
 * The payload of `start`.
 * @param environment `NAME=VALUE` each
 * @returns undefined when a string holds a zero byte, there is no word, or it does not fit into a frame
 */
export function commandPayload(words: readonly string[], environment: readonly string[]): Buffer | undefined {
  if (words.length === 0 || [...words, ...environment].some((each) => each.includes('\0'))) return undefined;
  const count = Buffer.alloc(2);
  count.writeUInt16LE(Math.min(words.length, 0xffff));
  const payload = Buffer.concat([
    count,
    ...[...words, ...environment].map((each) => Buffer.from(`${each}\0`)),
  ]);
  return payload.length <= MAX_PAYLOAD_BYTES ? payload : undefined;
}

/** Puts frames together from a stream in any pieces; keeps no more than one. */
export class AgentFrameReader {
  #kept: Buffer = Buffer.alloc(0);

  /** The frames completed by this chunk; undefined once one is longer than any. */
  push(chunk: Buffer): AgentFrame[] | undefined {
    const bytes = this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk]);
    const frames: AgentFrame[] = [];
    let at = 0;
    while (bytes.length - at >= HEADER_BYTES) {
      const length = bytes.readUIntLE(at + 1, 3);
      if (length > MAX_PAYLOAD_BYTES) return undefined;
      const end = at + HEADER_BYTES + length;
      if (end > bytes.length) break;
      frames.push({ kind: bytes.readUInt8(at), payload: bytes.subarray(at + HEADER_BYTES, end) });
      at = end;
    }
    this.#kept = bytes.subarray(at);
    return frames;
  }
}
