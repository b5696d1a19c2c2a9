// SPDX-License-Identifier: Apache-2.0
#include "relay/wireguard_routes.h"

#include <omerta/limits.h>

#include <bit>
#include <cstring>

#include "relay/leg_entry.h"

namespace omerta::relay {
namespace {

// An index word: 32 bits of the hash in bits 0-31, state in bits 32-33, generation above.
enum class State : uint64_t { vacant = 0, writing = 1, used = 2 };

constexpr unsigned state_shift = 32;
constexpr unsigned generation_shift = 34;

State state_of(uint64_t word) { return static_cast<State>((word >> state_shift) & 3); }

uint64_t next_word(uint64_t before, State state, uint32_t fingerprint) {
  return (((before >> generation_shift) + 1) << generation_shift) |
         (static_cast<uint64_t>(state) << state_shift) | fingerprint;
}

std::size_t slots_for(std::size_t capacity) { return std::bit_ceil(capacity * 2); }

omerta_address source_of(const omerta_leg& route) {
  omerta_address source{};
  std::memcpy(source.ip, route.source_ip, 16);
  source.port = route.source_port;
  return source;
}

}  // namespace

WireguardRoutes::WireguardRoutes(std::size_t capacity, Secret secret)
    : secret_{secret.words[0], secret.words[1]},
      capacity_(capacity),
      mask_(slots_for(capacity) - 1),
      memory_(slots_for(capacity) * (sizeof(omerta_leg) + sizeof(uint64_t))),
      entries_(reinterpret_cast<omerta_leg*>(memory_.data())),
      index_(reinterpret_cast<std::atomic<uint64_t>*>(entries_ + slots_for(capacity))) {}

uint64_t WireguardRoutes::hash(uint32_t receiver_index, const omerta_address& source) const {
  return omerta_wireguard_route_hash(secret_, receiver_index, &source);
}

bool WireguardRoutes::copy(std::size_t slot, uint64_t word, omerta_leg& out) const {
  __u64 words[kLegWords];
  // Acquire pairs with the writer's release stores: who sees a new word sees `writing` below.
  for (std::size_t i = 0; i < kLegWords; i++)
    words[i] = word_of(entries_[slot], i).load(std::memory_order_acquire);
  if (index_[slot].load(std::memory_order_relaxed) != word) return false;
  std::memcpy(static_cast<void*>(&out), words, sizeof out);
  return true;
}

std::size_t WireguardRoutes::find(uint32_t receiver_index, const omerta_address& source,
                                  omerta_leg& out) const {
  const uint64_t hashed = hash(receiver_index, source);
  const std::size_t reach = reach_.load(std::memory_order_acquire);
  for (std::size_t distance = 0; distance <= reach;) {
    const std::size_t slot = (home(hashed) + distance) & mask_;
    const uint64_t word = index_[slot].load(std::memory_order_acquire);
    if (static_cast<uint32_t>(word) != static_cast<uint32_t>(hashed) || state_of(word) == State::vacant) {
      distance++;
      continue;
    }
    if (state_of(word) == State::writing || !copy(slot, word, out)) continue;  // a few stores from done
    if (out.leg_id == receiver_index && omerta_same_address(out.source_ip, out.source_port, &source))
      return slot;
    distance++;
  }
  return not_found;
}

void WireguardRoutes::publish(std::size_t slot, uint32_t fingerprint, const omerta_leg& route) {
  __u64 words[kLegWords];
  std::memcpy(words, &route, sizeof route);
  const uint64_t writing =
      next_word(index_[slot].load(std::memory_order_relaxed), State::writing, fingerprint);
  index_[slot].store(writing, std::memory_order_relaxed);
  for (std::size_t i = 0; i < kLegWords; i++)
    word_of(entries_[slot], i).store(words[i], std::memory_order_release);
  index_[slot].store(next_word(writing, State::used, fingerprint), std::memory_order_release);
}

bool WireguardRoutes::install(const omerta_leg& route) {
  omerta_leg present;
  const omerta_address source = source_of(route);
  if (size() == capacity_ || find(route.leg_id, source, present) != not_found) return false;
  const uint64_t hashed = hash(route.leg_id, source);
  std::size_t distance = 0;
  while (state_of(index_[(home(hashed) + distance) & mask_].load(std::memory_order_relaxed)) != State::vacant)
    distance++;
  if (distance > reach_.load(std::memory_order_relaxed)) reach_.store(distance, std::memory_order_release);
  omerta_leg fresh = route;
  fresh.action = OMERTA_LEG_FORWARD;
  fresh.theoretical_arrival = fresh.packets = fresh.bytes = fresh.last_used = 0;
  publish((home(hashed) + distance) & mask_, static_cast<uint32_t>(hashed), fresh);
  size_.store(size() + 1, std::memory_order_relaxed);
  return true;
}

std::optional<omerta_leg> WireguardRoutes::remove(uint32_t receiver_index, const omerta_address& source) {
  omerta_leg route;
  const std::size_t slot = find(receiver_index, source, route);
  if (slot == not_found) return std::nullopt;
  const uint64_t word = index_[slot].load(std::memory_order_relaxed);
  index_[slot].store(next_word(word, State::vacant, 0), std::memory_order_release);
  size_.store(size() - 1, std::memory_order_relaxed);
  return route;
}

omerta_drop_reason WireguardRoutes::admit(uint32_t receiver_index, const omerta_address& source,
                                          uint32_t size, uint64_t now, Accounts& accounts,
                                          omerta_leg& route) {
  const std::size_t slot = find(receiver_index, source, route);
  if (slot == not_found || !omerta_wireguard_route_takes(&route, receiver_index, &source, now))
    return OMERTA_DROP_UNKNOWN_LEG;
  const omerta_books books = accounts.books(route.identity, route.network, route.limits, source);
  return static_cast<omerta_drop_reason>(
      omerta_admit(&entries_[slot], OMERTA_LEG_FORWARD, &books, size, now, 1));
}

void WireguardRoutes::for_each(const std::function<void(const omerta_leg&)>& visit) const {
  for (std::size_t slot = 0; slot <= mask_; slot++) {
    const uint64_t word = index_[slot].load(std::memory_order_acquire);
    omerta_leg route;
    if (state_of(word) == State::used && copy(slot, word, route)) visit(route);
  }
}

}  // namespace omerta::relay
