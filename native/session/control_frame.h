// SPDX-License-Identifier: Apache-2.0
// What all control frames inside a session begin with (docs/protocol.md, "Control frames"):
//
//   C0 | kind u8 | length of the body u16 | body | zero padding to a multiple of 16
//
// Suite frames and path frames are the engines' own and pings are answered by them; messages and pongs are
// the control plane's. A cover says nothing: it is sent where a peer is sent to at a constant rate and has
// nothing to get, its body is zeros, and who receives it counts and forgets it.
#pragma once

#include <algorithm>

#include "common/bytes.h"

namespace omerta::session {

inline constexpr uint8_t kControlMarker = 0xC0;
inline constexpr size_t kControlHeaderSize = 4;

enum class ControlKind : uint8_t {
  message = 1,
  ping = 2,
  pong = 3,
  suite_offer = 4,
  suite_proof = 5,
  probe = 6,
  probe_answer = 7,
  path_report = 8,
  cover = 9,
};

/// Whether a transport payload is a control frame, of the control plane's or of the engines'.
inline bool is_control_frame(Bytes payload) { return payload.size() >= 2 && payload[0] == kControlMarker; }

/// Whether it says of itself to be one of these kinds, well-formed or not.
inline bool is_control_frame(Bytes payload, ControlKind first, ControlKind last) {
  return is_control_frame(payload) && payload[1] >= static_cast<uint8_t>(first) &&
         payload[1] <= static_cast<uint8_t>(last);
}

inline bool is_cover(Bytes payload) {
  return is_control_frame(payload, ControlKind::cover, ControlKind::cover);
}

/// `frame` has room for the header. `length`: bytes of the body, without padding.
inline void write_control_header(uint8_t* frame, ControlKind kind, size_t length) {
  frame[0] = kControlMarker;
  frame[1] = static_cast<uint8_t>(kind);
  store(frame + 2, static_cast<uint16_t>(length));
}

/// Whether it is of this kind and its header says that its body is so long.
inline bool has_control_header(Bytes payload, ControlKind kind, size_t length) {
  return payload.size() >= kControlHeaderSize && is_control_frame(payload, kind, kind) &&
         load<uint16_t>(payload.data() + 2) == length;
}

inline bool all_zero(Bytes bytes) {
  return std::ranges::all_of(bytes, [](uint8_t byte) { return byte == 0; });
}

}  // namespace omerta::session
