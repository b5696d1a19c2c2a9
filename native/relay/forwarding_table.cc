// SPDX-License-Identifier: Apache-2.0
#include "relay/forwarding_table.h"

#include <sys/mman.h>

#include <bit>
#include <cstring>
#include <new>
#include <stdexcept>

namespace omerta {
namespace {

// An index word: leg id in bits 0-31, state in bits 32-33, generation above. A fresh table is
// zeroed memory, so `vacant` is 0.
enum class State : uint64_t { vacant = 0, writing = 1, used = 2 };

constexpr unsigned state_shift = 32;
constexpr unsigned generation_shift = 34;

constexpr State state_of(uint64_t word) { return static_cast<State>((word >> state_shift) & 3); }

constexpr uint32_t id_of(uint64_t word) { return static_cast<uint32_t>(word); }

/// The word of the next generation of `previous`.
constexpr uint64_t next_word(uint64_t previous, State state, uint32_t leg_id) {
  return (((previous >> generation_shift) + 1) << generation_shift) |
         (static_cast<uint64_t>(state) << state_shift) | leg_id;
}

constexpr std::size_t leg_words = sizeof(omerta_leg) / sizeof(__u64);
/// What the control plane writes and a verdict needs; the counters come after it.
constexpr std::size_t policy_words = offsetof(omerta_leg, theoretical_arrival) / sizeof(__u64);

/// The i-th 64-bit word of an entry. Entries are only ever read and written through these.
std::atomic_ref<__u64> word_of(omerta_leg& entry, std::size_t i) {
  return std::atomic_ref<__u64>(reinterpret_cast<__u64*>(&entry)[i]);
}

}  // namespace

ForwardingTable::ForwardingTable(std::size_t capacity, const Accounts::Capacity& accounts, Workers workers)
    : accounts_(accounts), shared_(workers == Workers::several), capacity_(capacity) {
  if (capacity == 0 || capacity > (std::size_t{1} << 28))
    throw std::invalid_argument("forwarding table: capacity must be 1 to 2^28 legs");
  // At most half full: a leg is at home or a few slots further.
  slots_ = std::bit_ceil(capacity * 2);
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots_));
  mapped_bytes_ = slots_ * (sizeof(omerta_leg) + sizeof(uint64_t));
  void* memory = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  // Huge pages spare a TLB miss per lookup; without them the table is only slower.
  madvise(memory, mapped_bytes_, MADV_HUGEPAGE);
  std::memset(memory, 0, mapped_bytes_);
  entries_ = static_cast<omerta_leg*>(memory);
  index_ = reinterpret_cast<std::atomic<uint64_t>*>(entries_ + slots_);
}

ForwardingTable::~ForwardingTable() { munmap(entries_, mapped_bytes_); }

std::size_t ForwardingTable::home(uint32_t leg_id) const {
  // Fibonacci hashing (Knuth, TAOCP 6.4): ids are random, but not all of them are ours.
  return static_cast<std::size_t>((leg_id * 0x9E3779B97F4A7C15ULL) >> shift_);
}

bool ForwardingTable::snapshot_slot(std::size_t slot, uint64_t word, std::size_t words,
                                    omerta_leg& out) const {
  __u64 copy[leg_words];

  // Acquire keeps the second load of the index word after the loads of the entry, and pairs
  // with the writer's release stores: who sees a new word of the entry sees `writing` too.
  for (std::size_t i = 0; i < words; i++)
    copy[i] = word_of(entries_[slot], i).load(std::memory_order_acquire);
  if (index_[slot].load(std::memory_order_relaxed) != word) return false;
  std::memcpy(static_cast<void*>(&out), copy, words * sizeof(__u64));
  return true;
}

std::size_t ForwardingTable::snapshot(uint32_t leg_id, std::size_t words, omerta_leg& out) const {
  const std::size_t mask = slots_ - 1;
  const std::size_t reach = reach_.load(std::memory_order_acquire);
  const std::size_t first = home(leg_id);

  for (std::size_t distance = 0; distance <= reach;) {
    const std::size_t slot = (first + distance) & mask;
    const uint64_t word = index_[slot].load(std::memory_order_acquire);

    if (id_of(word) != leg_id || state_of(word) == State::vacant)
      distance++;
    else if (state_of(word) == State::used && snapshot_slot(slot, word, words, out))
      return slot;
    // Else it is being replaced: a few stores away from done, look again.
  }
  return not_found;
}

std::size_t ForwardingTable::slot_of(uint32_t leg_id) const {
  const std::size_t reach = reach_.load(std::memory_order_relaxed);

  for (std::size_t distance = 0; distance <= reach; distance++) {
    const std::size_t slot = (home(leg_id) + distance) & (slots_ - 1);
    const uint64_t word = index_[slot].load(std::memory_order_relaxed);

    if (id_of(word) == leg_id && state_of(word) == State::used) return slot;
  }
  return not_found;
}

void ForwardingTable::publish(std::size_t slot, const omerta_leg& leg, std::size_t words) {
  __u64 copy[leg_words];
  const uint64_t before = index_[slot].load(std::memory_order_relaxed);
  const uint64_t writing = next_word(before, State::writing, leg.leg_id);

  std::memcpy(copy, &leg, sizeof(leg));
  index_[slot].store(writing, std::memory_order_relaxed);
  for (std::size_t i = 0; i < words; i++)
    word_of(entries_[slot], i).store(copy[i], std::memory_order_release);
  index_[slot].store(next_word(writing, State::used, leg.leg_id), std::memory_order_release);
}

bool ForwardingTable::install(const omerta_leg& leg) {
  accounts_.check(leg);
  const std::size_t present = slot_of(leg.leg_id);
  if (present != not_found) {
    const omerta_leg& before = entries_[present];
    if (before.identity != leg.identity || before.network != leg.network) {
      // What it carried so far was the former accounts'.
      omerta_leg counted;
      find(leg.leg_id, counted);
      accounts_.settle(counted);
      counted.identity = leg.identity;
      counted.network = leg.network;
      accounts_.settle(counted, -1);
    }
    publish(present, leg, policy_words);
    return true;
  }
  if (size() == capacity_) return false;

  std::size_t distance = 0;
  std::size_t slot = home(leg.leg_id);
  while (state_of(index_[slot].load(std::memory_order_relaxed)) != State::vacant) {
    slot = (slot + 1) & (slots_ - 1);
    distance++;
  }
  // Before the leg can be found there, readers must look that far.
  if (distance > reach_.load(std::memory_order_relaxed)) reach_.store(distance, std::memory_order_release);
  omerta_leg fresh = leg;
  fresh.theoretical_arrival = fresh.packets = fresh.bytes = fresh.last_used = 0;
  publish(slot, fresh, leg_words);
  size_.store(size() + 1, std::memory_order_relaxed);
  return true;
}

bool ForwardingTable::remove(uint32_t leg_id) {
  const std::size_t slot = slot_of(leg_id);
  if (slot == not_found) return false;
  omerta_leg counted;
  find(leg_id, counted);
  accounts_.settle(counted);
  const uint64_t word = index_[slot].load(std::memory_order_relaxed);
  index_[slot].store(next_word(word, State::vacant, 0), std::memory_order_release);
  size_.store(size() - 1, std::memory_order_relaxed);
  return true;
}

bool ForwardingTable::find(uint32_t leg_id, omerta_leg& out) const {
  return snapshot(leg_id, leg_words, out) != not_found;
}

void ForwardingTable::for_each(const std::function<void(const omerta_leg&)>& visit) const {
  for (std::size_t slot = 0; slot < slots_; slot++) {
    const uint64_t word = index_[slot].load(std::memory_order_acquire);
    omerta_leg leg;

    if (state_of(word) == State::used && snapshot_slot(slot, word, leg_words, leg)) visit(leg);
  }
}

Decision ForwardingTable::judge(const omerta_address& from, uint8_t* frame, uint32_t size, uint64_t now) {
  omerta_leg leg;
  Decision decision;

  const std::size_t slot = snapshot(omerta_load32(frame + 4), policy_words, leg);
  if (slot == not_found) {
    decision.reason = OMERTA_DROP_UNKNOWN_LEG;
    return decision;
  }
  decision.reason = static_cast<omerta_drop_reason>(omerta_leg_judge(&leg, frame, size, &from, now));
  if (decision.reason != OMERTA_DROP_NONE) return decision;

  const omerta_books books = accounts_.books(leg.identity, leg.network, leg.limits, from);
  omerta_leg& entry = entries_[slot];
  decision.reason =
      static_cast<omerta_drop_reason>(shared_ ? omerta_admit(&entry, leg.action, &books, size, now, 1)
                                              : omerta_admit(&entry, leg.action, &books, size, now, 0));
  if (decision.reason != OMERTA_DROP_NONE) return decision;

  decision.leg_id = leg.leg_id;
  switch (leg.action) {
    case OMERTA_LEG_FORWARD:
      omerta_leg_rewrite(&leg, frame, size);
      std::memcpy(decision.next.ip, leg.next_ip, sizeof(leg.next_ip));
      decision.next.port = leg.next_port;
      decision.verdict = OMERTA_FORWARD;
      break;
    case OMERTA_LEG_DELIVER:
      decision.verdict = OMERTA_DELIVER;
      break;
    default:
      decision.verdict = OMERTA_CONTROL;
  }
  return decision;
}

Decision ForwardingTable::judge_datagram(const omerta_address& from, uint8_t* data, uint32_t size,
                                         uint64_t now) {
  const omerta_classification c = omerta_classify(data, size);

  if (c.verdict == OMERTA_FORWARD) return judge(from, data, size, now);
  Decision decision;
  decision.verdict = static_cast<omerta_verdict>(c.verdict);
  decision.reason = static_cast<omerta_drop_reason>(c.reason);
  return decision;
}

}  // namespace omerta
