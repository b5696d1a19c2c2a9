// The numbers of `enum omerta_verdict` and `enum omerta_drop_reason` (native/wire/include/omerta/wire.h).

export const enum Verdict {
  Drop = 0,
  WireGuard = 1,
  Stun = 2,
  Control = 3,
  Deliver = 4,
  Forward = 5,
}

export const enum Reason {
  None = 0,
  Empty = 1,
  UnknownProtocol = 2,
  MalformedWireGuard = 3,
  MalformedStun = 4,
  FrameTooShort = 5,
  FrameTooLong = 6,
  UnknownKind = 7,
  ReservedFlags = 8,
  UnknownLeg = 9,
  WrongKind = 10,
  WrongKeyEpoch = 11,
  WrongSource = 12,
  BadTag = 13,
  Expired = 14,
  HopLimit = 15,
  RateLimited = 16,
  ByteCap = 17,
  IdentityRate = 18,
  NetworkRate = 19,
  PrefixRate = 20,
  FairShare = 21,
  HostRate = 22,
  Repeated = 23,
}

/** Verdict and reason in one number: what crosses to JavaScript. */
export function decision(verdict: Verdict, reason: Reason): u32 {
  return u32(verdict) | (u32(reason) << 8);
}
