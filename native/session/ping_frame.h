// SPDX-License-Identifier: Apache-2.0
// Pings inside a session (docs/protocol.md, "Control frames"): the engine of whoever is pinged sends the
// token back, so that a ping costs its control plane nothing.
//
//   ping   C0 02 | 08 00 | token 8 | zero 4
//   pong   C0 03 | 08 00 | token 8 | zero 4
#pragma once

#include <array>

#include "session/control_frame.h"

namespace omerta::session {

inline constexpr size_t kPingTokenSize = 8;
inline constexpr size_t kPingFrameSize = 16;
using PingFrame = std::array<uint8_t, kPingFrameSize>;

/// Whether a transport payload, padding included, is a ping. What only looks like one is left to whoever
/// takes control frames.
inline bool is_ping(Bytes payload) {
  return payload.size() == kPingFrameSize && has_control_header(payload, ControlKind::ping, kPingTokenSize) &&
         all_zero(payload.subspan(kControlHeaderSize + kPingTokenSize));
}

/// The answer to a payload that is one.
inline PingFrame pong_to(Bytes ping) {
  PingFrame pong = load<PingFrame>(ping.data());
  write_control_header(pong.data(), ControlKind::pong, kPingTokenSize);
  return pong;
}

}  // namespace omerta::session
