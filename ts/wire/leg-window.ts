// What a leg has let through, so that what somebody overheard and sends again is not forwarded, counted and
// charged once more: native/wire/include/omerta/leg_window.h, which says why it is enough, as the model has it.

/** Receiver indices a leg knows, and handshake messages it remembers. */
const SESSIONS = 3;
const HANDSHAKES = 3;
/** Counters behind the greatest that are told apart exactly, and that are taken at all. */
const SEEN = 32;
const REACH = 65536;

interface Session {
  readonly index: number;
  /** Modulo 2^32, as every counter here. */
  greatest: number;
  /** Counters of the last SEEN that came by. */
  seen: Set<number>;
  /** Older ones that never did. */
  missed: number;
}

const behind = (session: Session, counter: number): number => (session.greatest - counter) >>> 0;

export class LegWindow {
  #sessions: Session[] = [];
  #handshakes: number[] = [];

  /**
   * Whether an authentic frame's WireGuard message is new to the leg; it is not from then on. `payload` are its
   * first 16 bytes, `tag` the frame's. What is no WireGuard message always is.
   */
  takes(payload: Uint8Array, tag: Uint8Array): boolean {
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const type = view.getUint32(0, true);
    if (type < 1 || type > 4) return true;
    if (type === 4) return this.#takesTransport(view.getUint32(4, true), view.getUint32(8, true));
    return this.#takesHandshake(new DataView(tag.buffer, tag.byteOffset, tag.length).getUint32(0, true));
  }

  #takesHandshake(tag: number): boolean {
    if (tag !== 0 && this.#handshakes.includes(tag)) return false;
    this.#handshakes = [tag, ...this.#handshakes].slice(0, HANDSHAKES);
    return true;
  }

  #takesTransport(index: number, counter: number): boolean {
    const session = this.#sessions.find((one) => one.index === index);
    if (session === undefined) {
      const seen = new Set([counter]);
      // There are no counters below 0 to be missed.
      for (let before = counter - SEEN + 1; before < 0; before++) seen.add(before >>> 0);
      const begun = { index, greatest: counter, seen, missed: 0 };
      this.#sessions = [begun, ...this.#sessions].slice(0, SESSIONS);
      return true;
    }
    const age = behind(session, counter);
    const ahead = (counter - session.greatest) >>> 0;
    if (ahead > 0 && ahead < 2 ** 31) {
      const before = SEEN - session.seen.size + ahead;
      session.greatest = counter;
      session.seen = new Set([...session.seen, counter].filter((one) => behind(session, one) < SEEN));
      // What is unseen now and was not counted as missed yet is still among the last SEEN.
      const left = before - (SEEN - session.seen.size) - 1;
      session.missed = Math.min(session.missed + left, REACH);
      return true;
    }
    if (age < SEEN) {
      if (session.seen.has(counter)) return false;
      session.seen.add(counter);
      return true;
    }
    if (age >= REACH || session.missed === 0) return false;
    session.missed--;
    return true;
  }
}
