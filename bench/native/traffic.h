// SPDX-License-Identifier: Apache-2.0
// The traffic of the relay benchmark, known to the generator, the plain forwarders and the relay's leg
// table (bench/relay-legs.ts derives the very same numbers): leg i of M has a scattered id, and
// everything else follows from that id.
#pragma once

#include <omerta/wire.h>

#include "sockets.h"

namespace omerta::bench {

constexpr uint16_t kFirstClientPort = 40000;
constexpr uint16_t kFirstServerPort = 50000;
constexpr uint8_t kEpoch = 1;
constexpr uint8_t kNextEpoch = 2;
/// The sequence number is the WireGuard counter's place, inside what the tag covers.
constexpr size_t kSequenceAt = 24;
/// And the run's number that of the receiver index.
constexpr size_t kRunAt = 20;
constexpr size_t kTimeAt = 32;
constexpr size_t kMinimumSize = 40;
constexpr int kBufferBytes = 7 << 20;  ///< what the engine asks for

/// The finalizer of MurmurHash3: a bijection, so legs 0, 1, 2 … get different ids all over the table.
constexpr uint32_t leg_id(uint32_t i) {
  uint32_t h = i + 1;
  h ^= h >> 16;
  h *= 0x85ebca6bU;
  h ^= h >> 13;
  h *= 0xc2b2ae35U;
  return h ^ (h >> 16);
}

constexpr uint32_t next_leg_id(uint32_t id) { return id ^ 0x5a5a5a5aU; }

inline void leg_key(uint32_t id, __u64 key[2]) {
  key[0] = id | uint64_t{id ^ 0x9e3779b9U} << 32;
  key[1] = (id ^ 0x85ebca6bU) | uint64_t{id ^ 0xc2b2ae35U} << 32;
}

/// Which of the server's `destinations` (a power of two) ports a leg leads to.
constexpr uint16_t server_port(uint32_t id, uint32_t destinations) {
  return static_cast<uint16_t>(kFirstServerPort + (id & (destinations - 1)));
}

}  // namespace omerta::bench
