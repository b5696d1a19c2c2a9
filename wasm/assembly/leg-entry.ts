// A leg as it lies in memory: `struct omerta_leg` (native/wire/include/omerta/wire.h, 128 bytes), and its
// `struct omerta_leg_window` (omerta/leg_window.h, 64 bytes).

/** An entry's fields by offset. */
export const enum Leg {
  Id = 0,
  Action = 4, // 0 = the slot is vacant
  Flags = 5,
  Epoch = 6,
  NextEpoch = 7,
  SourceIp = 8,
  NextIp = 24,
  SourcePort = 40,
  NextPort = 42,
  NextId = 44,
  Key = 48,
  NextKey = 64,
  ExpiresAt = 80,
  Identity = 88,
  Network = 92,
  Limits = 94,
  TheoreticalArrival = 96,
  Packets = 104,
  Bytes = 112,
  LastUsed = 120,
  Window = 128,
  Size = 192,
}

export const enum Action {
  Forward = 1,
  Deliver = 2,
  Control = 3,
}
