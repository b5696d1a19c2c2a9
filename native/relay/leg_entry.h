// SPDX-License-Identifier: Apache-2.0
// An entry of a table of legs as those see it who share the memory: one writer, readers on other threads, and
// the XDP program (omerta/leg_slots.h, Publication).
#pragma once

#include <omerta/leg_slots.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <optional>

namespace omerta::relay {

constexpr std::size_t kLegWords = sizeof(omerta_leg) / sizeof(__u64);
/// What the control plane writes and a verdict needs; the counters come after it.
constexpr std::size_t kLegPolicyWords = offsetof(omerta_leg, theoretical_arrival) / sizeof(__u64);

/// The i-th 64-bit word of an entry. Entries are only ever read and written through these.
inline std::atomic_ref<__u64> word_of(omerta_leg& entry, std::size_t i) {
  return std::atomic_ref<__u64>(reinterpret_cast<__u64*>(&entry)[i]);
}

/// The writer: replaces the first `words` words. Until then the entry keeps the id it had, so that nobody
/// waits for a leg that is only being made.
inline void publish_leg(omerta_leg& entry, const omerta_leg& leg, std::size_t words) {
  __u64 from[kLegWords];
  std::memcpy(from, &leg, sizeof leg);
  from[0] &= OMERTA_LEG_POLICY_BITS;
  const __u64 before = word_of(entry, 0).load(std::memory_order_relaxed);
  __u64 writing = omerta_leg_next_sequence(before);
  // An earlier writer of shared memory died at the entry.
  if ((writing & OMERTA_LEG_WRITING_BIT) == 0) writing = omerta_leg_next_sequence(writing);
  word_of(entry, 0).store((before & OMERTA_LEG_POLICY_BITS) | writing, std::memory_order_relaxed);
  for (std::size_t i = 1; i < words; i++) word_of(entry, i).store(from[i], std::memory_order_release);
  word_of(entry, 0).store(from[0] | omerta_leg_next_sequence(writing), std::memory_order_release);
}

/// The slot of a leg in use at most `reach` from its home.
inline std::optional<uint32_t> slot_of(omerta_leg* entries, uint32_t slots, uint32_t reach, uint32_t id) {
  uint32_t slot = omerta_leg_home(id, slots);
  for (uint32_t distance = 0; distance <= std::min(reach, slots - 1); distance++) {
    const __u64 word = word_of(entries[slot], 0).load(std::memory_order_relaxed);
    if (static_cast<uint32_t>(word) == id && (word & OMERTA_LEG_ACTION_BITS) != 0) return slot;
    slot = omerta_leg_slot_after(slot, slots);
  }
  return std::nullopt;
}

}  // namespace omerta::relay
