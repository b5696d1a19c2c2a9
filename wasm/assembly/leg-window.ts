// What a leg has let through (native/wire/include/omerta/leg_window.h, which says why it is enough). One thread.

/** Fields by offset; 64 bytes, as in the header. */
const enum Window {
  Handshakes = 4,
  Sessions = 16,
}

const enum Session {
  Index = 0,
  Greatest = 4,
  Seen = 8, // 0: no session
  Missed = 12,
  Size = 16,
}

const SESSIONS: usize = 3;
const HANDSHAKES: usize = 3;
const SEEN: u32 = 32;
const REACH: u32 = 65536;

/** Whether this counter is new to the session; it is not from then on. */
function sessionTakes(session: usize, counter: u32): bool {
  const greatest = load<u32>(session, Session.Greatest);
  const seen = load<u32>(session, Session.Seen);
  const missed = load<u32>(session, Session.Missed);
  const ahead = counter - greatest;
  const behind = greatest - counter;
  if (i32(ahead) > 0) {
    // What leaves `seen` without having come by, and what it passes over.
    const left = ahead < SEEN ? popcnt(~seen >> (SEEN - ahead)) : SEEN - popcnt(seen) + (ahead - SEEN);
    const total = u64(missed) + u64(left);
    store<u32>(session, counter, Session.Greatest);
    store<u32>(session, (ahead < SEEN ? seen << ahead : 0) | 1, Session.Seen);
    store<u32>(session, total > u64(REACH) ? REACH : u32(total), Session.Missed);
    return true;
  }
  if (behind < SEEN) {
    if ((seen >> behind) & 1) return false;
    store<u32>(session, seen | (1 << behind), Session.Seen);
    return true;
  }
  if (behind >= REACH || missed == 0) return false;
  store<u32>(session, missed - 1, Session.Missed);
  return true;
}

function transportTakes(window: usize, index: u32, counter: u32): bool {
  const sessions = window + Window.Sessions;
  for (let i: usize = 0; i < SESSIONS; i++) {
    const session = sessions + i * Session.Size;
    if (load<u32>(session, Session.Index) == index && load<u32>(session, Session.Seen) != 0) {
      return sessionTakes(session, counter);
    }
  }
  // The oldest is forgotten.
  memory.copy(sessions + Session.Size, sessions, (SESSIONS - 1) * Session.Size);
  store<u32>(sessions, index, Session.Index);
  store<u32>(sessions, counter, Session.Greatest);
  // There are no counters below 0 to be missed.
  store<u32>(sessions, counter < SEEN - 1 ? (u32(-1) << (counter + 1)) | 1 : 1, Session.Seen);
  store<u32>(sessions, 0, Session.Missed);
  return true;
}

function handshakeTakes(window: usize, tag: u32): bool {
  const handshakes = window + Window.Handshakes;
  for (let i: usize = 0; i < HANDSHAKES; i++) {
    if (tag != 0 && load<u32>(handshakes + i * 4) == tag) return false;
  }
  memory.copy(handshakes + 4, handshakes, (HANDSHAKES - 1) * 4);
  store<u32>(handshakes, tag);
  return true;
}

/**
 * Whether an authentic frame's message, whose first 16 bytes are these, is new to the leg with this window; it
 * is not from then on. What is no WireGuard message always is.
 */
export function windowTakes(window: usize, first: u64, second: u64, tag: u64): bool {
  const type = u32(first);
  if (type < 1 || type > 4) return true;
  return type == 4 ? transportTakes(window, u32(first >> 32), u32(second)) : handshakeTakes(window, u32(tag));
}
