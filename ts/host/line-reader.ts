// Splits a byte stream into lines with a cap, so that a peer that never ends its line costs no more
// memory than the cap.

export class LineReader {
  #parts: Buffer[] = [];
  #length = 0;

  constructor(readonly maxBytes: number) {}

  /** The lines completed by this chunk; undefined once a line is longer than the cap. */
  push(chunk: Buffer): string[] | undefined {
    const lines: string[] = [];
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      if (!this.#keep(chunk.subarray(start, end))) return undefined;
      lines.push(Buffer.concat(this.#parts).toString('utf8'));
      this.#parts = [];
      this.#length = 0;
      start = end + 1;
    }
    return this.#keep(chunk.subarray(start)) ? lines : undefined;
  }

  #keep(part: Buffer): boolean {
    this.#length += part.length;
    if (this.#length > this.maxBytes) return false;
    if (part.length > 0) this.#parts.push(part);
    return true;
  }
}
