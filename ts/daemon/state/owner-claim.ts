// Who owns a state directory: one living process. Symbolic links `owner.N` in the store's directory point
// to the name of a process; the highest number counts, as long as its process lives. A link is made whole
// or not at all, fails when it is there already, and needs no room on a full disk.
//
// A claim makes the next number, and holds if no higher one is there afterwards. Numbers only grow: giving
// up a claim makes the next one too, with nobody's name. So of several processes that claim at once
// exactly one succeeds.

import { readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { systemErrorCode } from '../../host/operator-error.js';

const NOBODY = 'nobody';

export class OwnerClaim {
  constructor(readonly directory: string) {}

  /**
   * Makes `owner` the owner unless the present one is alive.
   * @returns the living owner that stands in the way, if one does.
   * @throws the system's error when the directory cannot be written.
   */
  claim(owner: string, isAlive: (owner: string) => boolean): string | undefined {
    for (;;) {
      const { number, name } = this.#present();
      if (name !== NOBODY && isAlive(name)) return name;
      if (this.#make(number + 1, owner)) return undefined;
    }
  }

  /** Gives up what `claim` gave. */
  release(owner: string): void {
    const { number, name } = this.#present();
    if (name === owner) this.#make(number + 1, NOBODY);
  }

  #path(number: number): string {
    return join(this.directory, `owner.${number}`);
  }

  #numbers(): number[] {
    return readdirSync(this.directory)
      .flatMap((name) => /^owner\.(\d{1,15})$/.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  #present(): { number: number; name: string } {
    const number = this.#numbers().at(-1) ?? 0;
    try {
      return { number, name: readlinkSync(this.#path(number)) };
    } catch (error) {
      // None yet, or removed by the owner of a higher one, who will be seen at the next attempt.
      if (systemErrorCode(error) === 'ENOENT') return { number, name: NOBODY };
      throw error;
    }
  }

  /** Makes a link; whether it is the highest, and was not there before. Lower ones are removed then. */
  #make(number: number, name: string): boolean {
    try {
      symlinkSync(name, this.#path(number));
    } catch (error) {
      if (systemErrorCode(error) === 'EEXIST') return false;
      throw error;
    }
    const numbers = this.#numbers();
    const isHighest = numbers.at(-1) === number;
    for (const other of isHighest ? numbers.slice(0, -1) : [number])
      rmSync(this.#path(other), { force: true });
    return isHighest;
  }
}
