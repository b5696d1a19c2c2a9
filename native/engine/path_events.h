// SPDX-License-Identifier: Apache-2.0
// What a path set tells, as it lies in the event ring behind the peer's key (engine/event_ring.h).
//
//   ends   remote ip 16 | port u16 | zero u16 | leg u32 | local ip 16, zero: not known | interface u32 | zero
//   u32
#pragma once

#include <array>

#include "engine/event_ring.h"
#include "session/path_set.h"

namespace omerta::engine {

struct PathRecord {
  EventType type;
  std::array<uint8_t, 96> data;
  size_t size;
  Bytes bytes() const { return Bytes(data).first(size); }
};

inline constexpr size_t kPathEndsSize = 48;

PathRecord record_of(const session::PathEvent& event);

}  // namespace omerta::engine
