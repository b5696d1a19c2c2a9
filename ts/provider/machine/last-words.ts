// What a guest's kernel and QEMU said last, for whoever asks why a machine ended.

import type { Readable } from 'node:stream';

const KEPT_BYTES = 4096;

/** Keeps the end of what a stream says. */
export class LastWords {
  #text = Buffer.alloc(0);

  constructor(stream: Readable) {
    stream.on('data', (chunk: Buffer) => {
      this.#text = Buffer.concat([this.#text, chunk]).subarray(-KEPT_BYTES);
    });
    stream.on('error', () => undefined);
  }

  /** Why the kernel gave up, or the last lines in one; printable characters alone: a guest may say anything. */
  get lines(): string {
    const lines = this.#text.toString('latin1').split(/[\r\n]+/);
    const readable = lines.map((line) => line.replace(/[^ -~]/g, '').trim()).filter((line) => line !== '');
    return readable.find((line) => line.includes('Kernel panic')) ?? readable.slice(-3).join(' | ');
  }
}
