// SPDX-License-Identifier: Apache-2.0
#include "engine/path_events.h"

namespace omerta::engine {
namespace {

void write_ends(uint8_t* at, const session::Endpoint& ends) {
  if (ends.relayed()) {
    store(at + 20, ends.receive_leg);
    return;
  }
  std::memcpy(at, ends.remote.ip, 16);
  store(at + 16, __builtin_bswap16(ends.remote.port));
  std::memcpy(at + 24, ends.local.ip, 16);
  store(at + 40, ends.local.interface);
  store(at + 44, __builtin_bswap16(static_cast<uint16_t>(ends.local.port)));
}

}  // namespace

PathRecord record_of(const session::PathEvent& event) {
  using Kind = session::PathEvent::Kind;
  PathRecord record{EventType::padding, {}, 0};
  uint8_t* data = record.data.data();
  const auto become = [&record](EventType type, size_t size) {
    record.type = type;
    record.size = size;
  };
  switch (event.kind) {
    case Kind::answered:
      write_ends(data, event.ends);
      store(data + kPathEndsSize, event.frame.token);
      store(data + kPathEndsSize + 8, event.rtt);
      std::memcpy(data + kPathEndsSize + 16, event.frame.observed.ip, 16);
      store(data + kPathEndsSize + 32, __builtin_bswap16(event.frame.observed.port));
      store(data + kPathEndsSize + 34, event.frame.size);
      become(EventType::probe_answer, kPathEndsSize + 36);
      break;
    case Kind::strange_probe:
      write_ends(data, event.ends);
      become(EventType::probe_from, kPathEndsSize);
      break;
    case Kind::arrival:
      write_ends(data, event.ends);
      store(data + kPathEndsSize, uint32_t{event.path});
      become(EventType::path_arrival, kPathEndsSize + 4);
      break;
    case Kind::silent:
    case Kind::heard:
      store(data, uint32_t{event.path});
      become(event.kind == Kind::silent ? EventType::path_silent : EventType::path_heard, 4);
      break;
    case Kind::report:
      store(data, uint32_t{event.path});
      store(data + 8, event.sent);
      store(data + 16, event.frame.received);
      become(EventType::path_report, 24);
      break;
  }
  return record;
}

}  // namespace omerta::engine
