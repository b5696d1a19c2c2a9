// What a TypeScript fuzz target is: test/fuzz/targets/NAME.ts exports one as its default.

export interface FuzzTarget {
  /** Real messages, made by the encoders, that mutation starts from beside the corpus. */
  readonly seeds: () => readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /** Feeds the code with an input; throws when something does not hold that has to. */
  readonly run: (input: Uint8Array) => void | Promise<void>;
  /** Words of the format, which no mutation of bytes would guess. */
  readonly dictionary?: readonly (string | Uint8Array)[];
  /**
   * A mutation that knows the format, used half of the time: what is behind a checksum or inside a
   * canonical encoding wants reaching. Undefined: this input is none of the format.
   */
  readonly mutate?: (input: Uint8Array, random: () => number) => Uint8Array | undefined;
  /** Whether how long an input takes is judged; false where sockets are in between, or an input is a program. */
  readonly timed?: boolean;
  /** Gives back what seeds() or run() opened. */
  readonly close?: () => Promise<void>;
}
