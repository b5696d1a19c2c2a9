// Two ends of one stream, in memory: what is written to one is read from the other, and waits until it is.

import { Duplex } from 'node:stream';

class End extends Duplex {
  peer: End | undefined;
  /** Of a write of the other end that is not read yet. */
  #taken: (() => void) | undefined;

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    const { peer } = this;
    if (peer === undefined || peer.destroyed || peer.push(chunk)) done();
    else peer.#taken = done;
  }

  override _read(): void {
    const taken = this.#taken;
    this.#taken = undefined;
    taken?.();
  }

  override _final(done: () => void): void {
    this.peer?.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.peer?.readableEnded === false) this.peer.push(null);
    this._read();
    done(error);
  }
}

export function streamPair(): [Duplex, Duplex] {
  const [one, other] = [new End(), new End()];
  one.peer = other;
  other.peer = one;
  return [one, other];
}
