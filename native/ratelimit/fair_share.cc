// SPDX-License-Identifier: Apache-2.0
#include "ratelimit/fair_share.h"

#include <algorithm>

namespace omerta {
namespace {

/// Part of the host's backlog that is worked off in one interval, beside serving the demand.
constexpr uint64_t kBacklogPart = 10;
/// What is left to share at the least, as a part of an interval.
constexpr uint64_t kLeastPart = 2;
/// What was asked for in a longer time says nothing about now.
constexpr uint64_t kLongest = 10'000'000'000;

/// While nothing is known of the demand an identity may take half of the host.
constexpr uint32_t kUnknown = 2 * 65536;

}  // namespace

FairShare::FairShare(std::size_t identities) : before_(identities) { demands_.reserve(identities); }

uint64_t FairShare::level(std::vector<uint64_t>& demands, uint64_t capacity) {
  uint64_t left = capacity;
  uint64_t largest = 0;
  std::size_t asking = demands.size();
  // Serves whoever asks for less than an equal part of what is left, and shares again, until nobody does.
  for (std::size_t served = 1; asking != 0 && served != 0;) {
    const uint64_t part = left / asking;
    served = 0;
    for (std::size_t i = 0; i < asking;) {
      if (demands[i] > part) {
        i++;
        continue;
      }
      left -= demands[i];
      largest = std::max(largest, demands[i]);
      std::swap(demands[i], demands[--asking]);
      served++;
    }
  }
  return asking == 0 ? largest + left : left / asking;
}

uint32_t FairShare::update(std::span<const uint64_t> totals, uint64_t now, uint64_t arrival) {
  demands_.clear();
  for (std::size_t i = 0; i < before_.size(); i++) {
    if (totals[i] != before_[i]) demands_.push_back(totals[i] - before_[i]);
    before_[i] = totals[i];
  }
  const uint64_t elapsed = now - last_update_;
  const bool first = last_update_ == 0;
  last_update_ = now;
  if (first || elapsed == 0 || elapsed > kLongest) return kUnknown;
  // Without this a backlog from before shares were dealt would stay, and with it the host's refusals.
  const uint64_t backlog = arrival > now ? arrival - now : 0;
  const uint64_t capacity = elapsed - std::min(backlog / kBacklogPart, elapsed / kLeastPart);
  const uint64_t share = std::max<uint64_t>(level(demands_, capacity), 1);
  // Rounded up, so that the shares never add up to more than there is.
  const uint64_t factor = ((elapsed << 16) + share - 1) / share;
  return static_cast<uint32_t>(std::min<uint64_t>(factor, UINT32_MAX));
}

}  // namespace omerta
