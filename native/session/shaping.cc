// SPDX-License-Identifier: Apache-2.0
#include "session/shaping.h"

#include <algorithm>

#include "session/transport_message.h"

namespace omerta::session {

size_t Shaping::text_size(size_t size, size_t limit) const {
  const size_t standard = padded_size(size, limit);
  const size_t longest = std::min(limit, kMaxPaddedSize);
  for (size_t i = 0; i < settings.padded_size_count; i++)
    if (settings.padded_sizes[i] >= size)
      return std::max(standard, padded_size(std::min<size_t>(settings.padded_sizes[i], longest), longest));
  return standard;
}

bool Shaping::afford(size_t packets, size_t data, size_t padding) const {
  use->data_bytes.fetch_add(data, std::memory_order_relaxed);
  if (settings.padding_budget != 0) {
    const auto earned = static_cast<int64_t>(data * settings.padding_budget / 100);
    const auto cost = static_cast<int64_t>(padding);
    int64_t before = use->padding_credit.load(std::memory_order_relaxed);
    int64_t after = 0;
    bool enough = false;
    do {
      after = std::min(before + earned, kMostPaddingCredit);
      enough = after >= cost;
      if (enough) after -= cost;
    } while (!use->padding_credit.compare_exchange_weak(before, after, std::memory_order_relaxed));
    if (!enough) {
      use->unpadded_packets.fetch_add(packets, std::memory_order_relaxed);
      return false;
    }
  }
  use->padding_bytes.fetch_add(padding, std::memory_order_relaxed);
  return true;
}

bool Shaping::afford_cover(size_t size) const {
  const bool enough = afford(0, 0, size);
  (enough ? use->covers : use->covers_left_out).fetch_add(1, std::memory_order_relaxed);
  return enough;
}

}  // namespace omerta::session
