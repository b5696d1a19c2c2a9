// SPDX-License-Identifier: Apache-2.0
#include "engine/stranger_budgets.h"

#include <sodium.h>

#include <algorithm>
#include <new>

namespace omerta::engine {
namespace {

constexpr PrefixBuckets::Bits kAddress = {32, 64}, kSite = {24, 48};

PrefixBuckets::SecretKey random_key() {
  PrefixBuckets::SecretKey key;
  randombytes_buf(&key, sizeof key);
  return key;
}

/// A share of all control frames; at once, half a second of it.
PrefixBuckets share(uint64_t all, uint64_t divisor, PrefixBuckets::Bits bits) {
  return {std::max<uint64_t>(all / divisor, 1), std::max<uint64_t>(all / divisor / 2, 1), bits, random_key()};
}

/// Pages of it that nobody comes to know cost nothing.
omerta_door* make_door() {
  auto* door = static_cast<omerta_door*>(std::calloc(1, sizeof(omerta_door)));
  if (door == nullptr) throw std::bad_alloc();
  randombytes_buf(door->secret, sizeof door->secret);
  return door;
}

}  // namespace

StrangerBudgets::StrangerBudgets(uint64_t control_frames_per_second, uint64_t stun_per_second)
    : control_(control_frames_per_second, std::max<uint64_t>(control_frames_per_second / 4, 1)),
      control_of_address_(share(control_frames_per_second, 8, kAddress)),
      control_of_site_(share(control_frames_per_second, 4, kSite)),
      control_of_all_known_(kAllKnownPerSecond, kAllKnownPerSecond),
      control_of_known_(kKnownPerSecond, kKnownBurst, kAddress, random_key()),
      control_of_known_site_(kAllKnownPerSecond / 4, kAllKnownPerSecond / 4, kSite, random_key()),
      stun_(stun_per_second, stun_per_second, kSite, random_key()),
      own_(make_door()),
      door_(own_.get()) {}

bool StrangerBudgets::is_known(const omerta_address& address, Nanoseconds now) const {
  const omerta_door* const door = door_.load(std::memory_order_acquire);
  return omerta_is_known(door, omerta_known_hash(door, address.ip), now) != 0;
}

bool StrangerBudgets::take_control(const omerta_address& from, Nanoseconds now) {
  if (is_known(from, now) && control_of_known_.take(from, now) && control_of_known_site_.take(from, now) &&
      control_of_all_known_.take(now))
    return true;
  return control_of_address_.take(from, now) && control_of_site_.take(from, now) && control_.take(now);
}

}  // namespace omerta::engine
