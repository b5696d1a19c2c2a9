// Whether a gateway still knows the mappings it gave. It says with every response for how long it has kept its
// table; when that does not fit with the time that passed, it began anew in between.

interface Heard {
  readonly serverSeconds: number;
  readonly atSeconds: number;
}

export class ServerEpoch {
  readonly #rule: 'pcp' | 'nat-pmp';
  #last: Heard | undefined;

  constructor(rule: 'pcp' | 'nat-pmp') {
    this.#rule = rule;
  }

  /** @param serverSeconds what the gateway says. @returns whether what it gave before is lost. */
  heard(serverSeconds: number, nowMs: number): boolean {
    const before = this.#last;
    const now = { serverSeconds, atSeconds: nowMs / 1000 };
    this.#last = now;
    return before !== undefined && !(this.#rule === 'pcp' ? pcpFits(before, now) : natPmpFits(before, now));
  }
}

/** RFC 6887, section 8.5. */
function pcpFits(before: Heard, now: Heard): boolean {
  if (now.serverSeconds < before.serverSeconds - 1) return false;
  const client = now.atSeconds - before.atSeconds;
  const server = now.serverSeconds - before.serverSeconds;
  return client + 2 >= server - server / 16 && server + 2 >= client - client / 16;
}

/** RFC 6886, section 3.6. */
function natPmpFits(before: Heard, now: Heard): boolean {
  const expected = before.serverSeconds + ((now.atSeconds - before.atSeconds) * 7) / 8;
  return now.serverSeconds >= expected - 2;
}
