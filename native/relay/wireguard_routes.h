// SPDX-License-Identifier: Apache-2.0
// Routes of relayed WireGuard sessions: (receiver index, source address) -> where it goes. Looked up by
// every worker without a lock while routes come and go; written by one thread at a time.
//
// Slots, index words, generations and reach are those of the forwarding table (forwarding_table.h); the
// key is longer than an index word, so that holds 32 bits of a hash and the entry decides.
#pragma once

#include <omerta/wireguard_relay.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <optional>

#include "common/touched_memory.h"
#include "relay/accounts.h"

namespace omerta::relay {

class WireguardRoutes {
 public:
  struct Secret {
    uint64_t words[2];
  };

  /// `capacity`: routes, at least 1. @throws std::bad_alloc
  WireguardRoutes(std::size_t capacity, Secret secret);

  // One writer at a time.

  /// Adds a route, its counters zero. False when there is no room, or one with this key.
  bool install(const omerta_leg& route);
  /// Removes a route. @returns it with its counters; nullopt when there was none.
  std::optional<omerta_leg> remove(uint32_t receiver_index, const omerta_address& source);
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }

  // Any thread.

  /// What becomes of a transport message of `size` bytes: OMERTA_DROP_UNKNOWN_LEG when no route takes
  /// it, the limit that refuses it, or OMERTA_DROP_NONE: then it is counted, and `route` says where it goes.
  omerta_drop_reason admit(uint32_t receiver_index, const omerta_address& source, uint32_t size, uint64_t now,
                           Accounts& accounts, omerta_leg& route);
  void for_each(const std::function<void(const omerta_leg&)>& visit) const;

 private:
  static constexpr std::size_t not_found = SIZE_MAX;

  uint64_t hash(uint32_t receiver_index, const omerta_address& source) const;
  std::size_t home(uint64_t hash) const { return static_cast<std::size_t>(hash >> 32) & mask_; }
  std::size_t find(uint32_t receiver_index, const omerta_address& source, omerta_leg& out) const;
  bool copy(std::size_t slot, uint64_t word, omerta_leg& out) const;
  void publish(std::size_t slot, uint32_t fingerprint, const omerta_leg& route);

  __u64 secret_[2];
  std::size_t capacity_;
  std::size_t mask_;
  TouchedMemory memory_;
  omerta_leg* entries_;
  std::atomic<uint64_t>* index_;
  std::atomic<std::size_t> reach_{0};
  std::atomic<std::size_t> size_{0};
};

}  // namespace omerta::relay
