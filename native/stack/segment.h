// SPDX-License-Identifier: Apache-2.0
// A TCP segment as it is read and written: the header of RFC 9293 3.1, and its options of RFC 9293 3.2
// (maximum segment size), RFC 7323 (window scale, timestamps) and RFC 2018 (selective acknowledgments).
#pragma once

#include <optional>

#include "stack/packet_view.h"
#include "stack/sequence.h"

namespace omerta::stack {

inline constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kEce = 0x40,
                         kCwr = 0x80;

/// IP and TCP headers with all options at most.
inline constexpr size_t kMaxSegmentHeaders = 40 + 60;
/// What a segment has room for where nothing is said (RFC 9293 3.7.1).
inline constexpr uint16_t kDefaultMss4 = 536, kDefaultMss6 = 1220;
inline constexpr uint8_t kMaxWindowShift = 14;  ///< RFC 7323 2.3
inline constexpr size_t kMaxSackBlocks = 4;

struct Timestamps {
  uint32_t value = 0;
  uint32_t echo = 0;
};

/// Bytes from `begin` on, before `end`.
struct SackBlock {
  Sequence begin = 0;
  Sequence end = 0;
  bool operator==(const SackBlock&) const = default;
};

struct Segment {
  Flow flow;  ///< as the stack has it: remote is who sent what was read, and who gets what is written
  Sequence sequence = 0;
  Sequence acknowledgment = 0;
  uint8_t flags = 0;
  uint16_t window = 0;  ///< as it is in the header, not scaled
  uint8_t ecn = 0;      ///< of the IP header
  std::optional<uint16_t> mss;
  std::optional<uint8_t> window_shift;
  bool sack_permitted = false;
  std::optional<Timestamps> timestamps;
  SackBlock sacks[kMaxSackBlocks];
  size_t sack_count = 0;

  // Of what was read:
  Scattered payload;
  size_t segment_size = 0;  ///< of a super-packet, payload bytes of each of its segments; else 0

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
  /// SEG.LEN: SYN and FIN take a sequence number each.
  uint32_t length() const {
    return static_cast<uint32_t>(payload.size()) + (has(kSyn) ? 1 : 0) + (has(kFin) ? 1 : 0);
  }
  Sequence end() const { return sequence + length(); }
};

/// false: its header does not fit, or an option has no sensible length (RFC 9293 3.2, MUST-7). Options that
/// are not known are passed over (MUST-6).
bool parse_segment(const PacketView& packet, Segment& out);

/// Bytes its options take in the header.
size_t option_bytes(const Segment& segment);

/// Writes headers for `payload` bytes, sent in segments of at most `mss`; the port's header says what is left
/// to do (segmentation, checksum). @returns the size of both headers, at most kMaxSegmentHeaders.
size_t write_segment(uint8_t* out, const Segment& segment, size_t payload, size_t mss,
                     inner::VirtioNetHeader& header);

}  // namespace omerta::stack
