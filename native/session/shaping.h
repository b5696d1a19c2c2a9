// SPDX-License-Identifier: Apache-2.0
// How what is sent to one peer is shaped (ts/contract/shaping-control.ts). Most peers have none of it.
//
//   Shaping      what was asked for; never changed, but replaced as a whole: workers read it without a lock
//                and hold it until they are quiescent (common/qsbr.h)
//   ShapingUse   what came of it; the next Shaping of the peer takes it along
#pragma once

#include <array>
#include <atomic>
#include <memory>

#include "common/bytes.h"
#include "crypto/aead.h"

namespace omerta::session {

/// Packets longer than this are never padded, so that a batch of them has room in a worker's arena.
inline constexpr size_t kMaxPaddedSize = 2048;
inline constexpr size_t kMaxPaddedSizes = 8;
/// Padding a budget lets through before there was data, and at most at once, bytes.
inline constexpr int64_t kFirstPaddingCredit = int64_t{128} << 10;
inline constexpr int64_t kMostPaddingCredit = int64_t{1} << 20;

struct ShapingSettings {
  Key32 peer{};
  /// A packet is padded to the first of these it is not longer than, ascending; none: it is not.
  std::array<uint16_t, kMaxPaddedSizes> padded_sizes{};
  size_t padded_size_count = 0;
  uint32_t padding_budget = 0;  ///< bytes of padding for 100 of data; 0: as many as it takes
  bool queued = false;          ///< packets ask whether they may leave, and wait if not (engine/egress.h)
  bool covered = false;         ///< they leave at a constant rate, and covers where there is none

  bool shapes() const { return padded_size_count != 0 || queued; }
};

struct ShapingUse {
  std::atomic<uint64_t> data_bytes{0};  ///< of packets, with the padding WireGuard gives them
  std::atomic<uint64_t> padding_bytes{0};
  std::atomic<uint64_t> unpadded_packets{0};  ///< for want of budget
  std::atomic<uint64_t> covers{0};            ///< packets that hold nothing; their bytes are padding
  std::atomic<uint64_t> covers_left_out{0};   ///< likewise for want of budget
  std::atomic<int64_t> padding_credit{kFirstPaddingCredit};
};

/// For those who show it.
struct ShapingCounts {
  uint64_t data_bytes;
  uint64_t padding_bytes;
  uint64_t unpadded_packets;
  uint64_t covers;
  uint64_t covers_left_out;
};

class Shaping {
 public:
  /// `before`: what this replaces; nullptr: the peer had none.
  Shaping(const ShapingSettings& wanted, const Shaping* before)
      : settings(wanted), use(before == nullptr ? std::make_shared<ShapingUse>() : before->use) {}

  const ShapingSettings settings;
  const std::shared_ptr<ShapingUse> use;

  /// Bytes of plaintext for a packet of `size`, where none may have more than `limit` but for longer packets.
  size_t text_size(size_t size, size_t limit) const;
  /// Packets of `data` bytes are about to be sent with `padding` bytes more. false: there is no budget for
  /// it.
  bool afford(size_t packets, size_t data, size_t padding) const;
  /// The same for a cover of so many bytes.
  bool afford_cover(size_t size) const;
};

/// Pads what a job seals (session/transport_message.h) to `text_size`, if that is more. There is room for it.
inline void pad_to(crypto::AeadJob& job, size_t text_size) {
  if (text_size <= job.size) return;
  std::memset(job.text + job.size, 0, text_size - job.size);
  job.size = text_size;
}

}  // namespace omerta::session
