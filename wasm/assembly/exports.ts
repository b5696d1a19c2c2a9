// What JavaScript calls: one exchange area in linear memory, and judge() over it.
//
//  exchange area
//    0   the first 32 bytes of the datagram; a forwarded frame's header is rewritten here in place
//   32   source ip [16] · source port u16, big-endian
//   50   leg id u32, written by judge() for control, deliver and forward
//   54   next ip [16] · next port u16, big-endian, written by judge() for forward
//   72   a leg's 128 bytes, read by install()

import { KIND_FORWARD, classify, frameTag } from './frame';
import { Action, Leg } from './leg-entry';
import {
  create,
  find,
  install as installLeg,
  nextEntry,
  remove as removeLeg,
  size as tableSize,
} from './leg-table';
import { windowTakes } from './leg-window';
import { admit, hostAddress, identityAddress, limitsAddress, networkAddress, policyAddress } from './limits';
import { Reason, Verdict, decision } from './verdict';

const FRAME = memory.data(200, 8);
const SOURCE = FRAME + 32;
const LEG_ID = FRAME + 50;
const NEXT = FRAME + 54;
const LEG = FRAME + 72;

export function exchange(): usize {
  return FRAME;
}

export function init(capacity: u32, identities: u32, networks: u32, classes: u32): bool {
  return create(capacity, identities, networks, classes);
}

/** Addresses of what JavaScript reads and writes; it checks the indexes. */
export function limits(index: u32): usize {
  return limitsAddress(index);
}

export function identity(index: u32): usize {
  return identityAddress(index);
}

export function network(index: u32): usize {
  return networkAddress(index);
}

export function host(): usize {
  return hostAddress();
}

export function policy(): usize {
  return policyAddress();
}

export function install(): bool {
  return installLeg(LEG);
}

export function remove(id: u32): bool {
  return removeLeg(id);
}

export function size(): u32 {
  return tableSize();
}

/** Address of a leg's 128 bytes, 0 when there is none. */
export function entry(id: u32): usize {
  return find(id);
}

/** Address of the first leg at or behind an address (0: the first of all), 0 at the end. */
export function next(from: usize): usize {
  return nextEntry(from);
}

function sameSource(leg: usize): bool {
  return (
    ((load<u64>(leg, Leg.SourceIp) ^ load<u64>(SOURCE)) |
      (load<u64>(leg, Leg.SourceIp + 8) ^ load<u64>(SOURCE, 8)) |
      u64(load<u16>(leg, Leg.SourcePort) ^ load<u16>(SOURCE, 16))) ==
    0
  );
}

function judgeFrame(leg: usize, length: u32, now: u64): Reason {
  const action = load<u8>(leg, Leg.Action);
  const isForward = load<u8>(FRAME, 1) == KIND_FORWARD;
  if ((action == Action.Control) == isForward) return Reason.WrongKind;
  if (load<u8>(FRAME, 3) != load<u8>(leg, Leg.Epoch)) return Reason.WrongKeyEpoch;
  const anySource = (load<u8>(leg, Leg.Flags) & 1) != 0;
  if (!anySource && !sameSource(leg)) return Reason.WrongSource;
  // One 64-bit comparison: constant time.
  if (frameTag(leg + Leg.Key, FRAME, length) ^ load<u64>(FRAME, 8)) return Reason.BadTag;
  const expiresAt = load<u64>(leg, Leg.ExpiresAt);
  if (expiresAt != 0 && now >= expiresAt) return Reason.Expired;
  if (action == Action.Forward && load<u8>(FRAME, 2) < 2) return Reason.HopLimit;
  if (
    action != Action.Control &&
    !windowTakes(leg + Leg.Window, load<u64>(FRAME, 16), load<u64>(FRAME, 24), load<u64>(FRAME, 8))
  ) {
    return Reason.Repeated;
  }
  return admit(leg, SOURCE, length, now);
}

/**
 * Judges a datagram of `length` bytes at `now` (ns), whose first 32 bytes and source are in the
 * exchange area. Returns verdict | reason << 8.
 */
export function judge(length: u32, now: u64): u32 {
  const kind = classify(FRAME, length);
  if (kind != decision(Verdict.Forward, Reason.None)) return kind;
  const leg = find(load<u32>(FRAME, 4));
  if (leg == 0) return decision(Verdict.Drop, Reason.UnknownLeg);
  const reason = judgeFrame(leg, length, now);
  if (reason != Reason.None) return decision(Verdict.Drop, reason);

  store<u32>(LEG_ID, load<u32>(leg, Leg.Id));
  const action = load<u8>(leg, Leg.Action);
  if (action == Action.Control) return decision(Verdict.Control, Reason.None);
  if (action == Action.Deliver) return decision(Verdict.Deliver, Reason.None);
  store<u8>(FRAME, load<u8>(FRAME, 2) - 1, 2);
  store<u8>(FRAME, load<u8>(leg, Leg.NextEpoch), 3);
  store<u32>(FRAME, load<u32>(leg, Leg.NextId), 4);
  store<u64>(FRAME, frameTag(leg + Leg.NextKey, FRAME, length), 8);
  memory.copy(NEXT, leg + Leg.NextIp, 16);
  store<u16>(NEXT, load<u16>(leg, Leg.NextPort), 16);
  return decision(Verdict.Forward, Reason.None);
}
