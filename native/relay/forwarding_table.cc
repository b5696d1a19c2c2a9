// SPDX-License-Identifier: Apache-2.0
#include "relay/forwarding_table.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <new>
#include <stdexcept>

#include "relay/tag_lanes.h"

namespace omerta {
namespace {

// The first word of an entry: leg id u32 · action u8 · flags u8 · epoch u8 · next epoch u8. Of these
// bytes a leg uses two, one, four and four bits; the others hold the sequence counter. Action 0: vacant.
constexpr uint64_t leg_bits = 0x0f0f0103ffffffff;
constexpr uint64_t sequence_bits = ~leg_bits;
/// The counter's lowest bit: the writer is at the entry.
constexpr uint64_t writing_bit = sequence_bits & -sequence_bits;
constexpr uint64_t action_bits = 0x0000000300000000;

/// The sequence counter of `word`, one further: carries run through the leg's bits, which are all ones.
constexpr uint64_t next_sequence(uint64_t word) { return ((word | leg_bits) + 1) & sequence_bits; }

constexpr uint32_t id_of(uint64_t word) { return static_cast<uint32_t>(word); }

constexpr std::size_t leg_words = sizeof(omerta_leg) / sizeof(__u64);
/// What the control plane writes and a verdict needs; the counters come after it.
constexpr std::size_t policy_words = offsetof(omerta_leg, theoretical_arrival) / sizeof(__u64);
/// In a vacant entry: which one is vacant next.
constexpr std::size_t next_free_word = offsetof(omerta_leg, expires_at) / sizeof(__u64);

/// The i-th 64-bit word of an entry. Entries are only ever read and written through these.
std::atomic_ref<__u64> word_of(omerta_leg& entry, std::size_t i) {
  return std::atomic_ref<__u64>(reinterpret_cast<__u64*>(&entry)[i]);
}

std::size_t checked(std::size_t capacity) {
  if (capacity == 0 || capacity > (std::size_t{1} << 28))
    throw std::invalid_argument("forwarding table: capacity must be 1 to 2^28 legs");
  return capacity;
}

}  // namespace

ForwardingTable::ForwardingTable(std::size_t capacity, const Accounts::Capacity& accounts, Workers workers)
    : accounts_(accounts), shared_(workers == Workers::several), capacity_(checked(capacity)) {
  // At most two thirds full: a leg is at home or a few slots further.
  slots_ = std::bit_ceil(capacity + capacity / 2 + 1);
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots_));
  entry_mask_ = static_cast<uint32_t>(std::bit_ceil(capacity + 1) - 1);
  mapped_bytes_ = capacity * sizeof(omerta_leg) + slots_ * sizeof(uint32_t);
  void* memory = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  // Huge pages spare a TLB miss per lookup; without them the table is only slower.
  madvise(memory, mapped_bytes_, MADV_HUGEPAGE);
  std::memset(memory, 0, mapped_bytes_);
  entries_ = static_cast<omerta_leg*>(memory);
  index_ = reinterpret_cast<std::atomic<uint32_t>*>(entries_ + capacity);
  for (std::size_t entry = capacity; entry-- > 0;) {
    word_of(entries_[entry], next_free_word).store(free_, std::memory_order_relaxed);
    free_ = static_cast<uint32_t>(entry);
  }
}

ForwardingTable::~ForwardingTable() { munmap(entries_, mapped_bytes_); }

ForwardingTable::Place ForwardingTable::place_of(uint32_t leg_id) const {
  // Fibonacci hashing (Knuth, TAOCP 6.4): ids are random, but not all of them are ours.
  const uint64_t hash = leg_id * 0x9E3779B97F4A7C15ULL;
  return {static_cast<std::size_t>(hash >> shift_), static_cast<uint32_t>(hash >> 11) & ~entry_mask_};
}

bool ForwardingTable::copy(uint32_t entry, uint64_t first_word, std::size_t words, omerta_leg& out) const {
  auto* to = reinterpret_cast<__u64*>(&out);

  to[0] = first_word & leg_bits;
  // Acquire keeps the second load of the first word after the loads of the others, and pairs with
  // the writer's release stores: who sees a new word of the entry sees it being written, too.
  for (std::size_t i = 1; i < words; i++) to[i] = word_of(entries_[entry], i).load(std::memory_order_acquire);
  return word_of(entries_[entry], 0).load(std::memory_order_relaxed) == first_word;
}

uint32_t ForwardingTable::snapshot(uint32_t leg_id, std::size_t words, omerta_leg& out,
                                   uint64_t& first_word) const {
  const std::size_t mask = slots_ - 1;
  const std::size_t reach = reach_.load(std::memory_order_acquire);
  const Place place = place_of(leg_id);

  for (std::size_t distance = 0; distance <= reach;) {
    const uint32_t found = index_[(place.home + distance) & mask].load(std::memory_order_acquire);
    const uint32_t entry = (found & entry_mask_) - 1;

    if (found == 0 || (found & ~entry_mask_) != place.fingerprint) {
      distance++;
      continue;
    }
    const uint64_t word = word_of(entries_[entry], 0).load(std::memory_order_acquire);
    if (id_of(word) != leg_id || (word & action_bits) == 0)
      distance++;
    else if ((word & writing_bit) == 0 && copy(entry, word, words, out)) {
      first_word = word;
      return entry;
    }
    // Else it is being replaced: a few stores away from done, look again.
  }
  return not_found;
}

uint32_t ForwardingTable::entry_at(std::size_t slot) const {
  return (index_[slot].load(std::memory_order_relaxed) & entry_mask_) - 1;
}

std::size_t ForwardingTable::slot_of(uint32_t leg_id) const {
  const std::size_t reach = reach_.load(std::memory_order_relaxed);
  const Place place = place_of(leg_id);

  for (std::size_t distance = 0; distance <= reach; distance++) {
    const std::size_t slot = (place.home + distance) & (slots_ - 1);
    const uint32_t found = index_[slot].load(std::memory_order_relaxed);

    if (found != 0 && (found & ~entry_mask_) == place.fingerprint &&
        entries_[entry_at(slot)].leg_id == leg_id)
      return slot;
  }
  return slots_;
}

void ForwardingTable::publish(uint32_t entry, const omerta_leg& leg, std::size_t words) {
  __u64 copy[leg_words];
  const uint64_t before = word_of(entries_[entry], 0).load(std::memory_order_relaxed);
  const uint64_t writing = next_sequence(before);

  std::memcpy(copy, &leg, sizeof(leg));
  copy[0] &= leg_bits;
  word_of(entries_[entry], 0).store(copy[0] | writing, std::memory_order_relaxed);
  for (std::size_t i = 1; i < words; i++)
    word_of(entries_[entry], i).store(copy[i], std::memory_order_release);
  word_of(entries_[entry], 0).store(copy[0] | next_sequence(writing), std::memory_order_release);
}

void ForwardingTable::share_accounts(const Accounts::Memory& memory) {
  shared_.store(true, std::memory_order_relaxed);
  accounts_.move_to(memory);
}

bool ForwardingTable::install(const omerta_leg& leg) {
  accounts_.check(leg);
  const std::size_t present = slot_of(leg.leg_id);
  if (present != slots_) {
    const omerta_leg& before = entries_[entry_at(present)];
    if (before.identity != leg.identity || before.network != leg.network) {
      // What it carried so far was the former accounts'.
      omerta_leg counted;
      find(leg.leg_id, counted);
      accounts_.settle(counted);
      counted.identity = leg.identity;
      counted.network = leg.network;
      accounts_.settle(counted, -1);
    }
    publish(entry_at(present), leg, policy_words);
    return true;
  }
  if (size() == capacity_) return false;

  const uint32_t entry = free_;
  free_ = static_cast<uint32_t>(word_of(entries_[entry], next_free_word).load(std::memory_order_relaxed));
  omerta_leg fresh = leg;
  fresh.theoretical_arrival = fresh.packets = fresh.bytes = fresh.last_used = 0;
  publish(entry, fresh, leg_words);

  const Place place = place_of(leg.leg_id);
  std::size_t distance = 0;
  std::size_t slot = place.home;
  while (index_[slot].load(std::memory_order_relaxed) != 0) {
    slot = (slot + 1) & (slots_ - 1);
    distance++;
  }
  // Before the leg can be found there, readers must look that far.
  if (distance > reach_.load(std::memory_order_relaxed)) reach_.store(distance, std::memory_order_release);
  index_[slot].store(place.fingerprint | (entry + 1), std::memory_order_release);
  size_.store(size() + 1, std::memory_order_relaxed);
  return true;
}

bool ForwardingTable::remove(uint32_t leg_id) {
  const std::size_t slot = slot_of(leg_id);
  if (slot == slots_) return false;
  const uint32_t entry = entry_at(slot);
  omerta_leg counted;
  find(leg_id, counted);
  accounts_.settle(counted);
  index_[slot].store(0, std::memory_order_release);
  omerta_leg vacant{};
  vacant.expires_at = free_;
  publish(entry, vacant, policy_words);
  free_ = entry;
  size_.store(size() - 1, std::memory_order_relaxed);
  return true;
}

bool ForwardingTable::find(uint32_t leg_id, omerta_leg& out) const {
  uint64_t first_word;
  return snapshot(leg_id, leg_words, out, first_word) != not_found;
}

void ForwardingTable::for_each(const std::function<void(const omerta_leg&)>& visit) const {
  for (uint32_t entry = 0; entry < capacity_; entry++) {
    const uint64_t word = word_of(entries_[entry], 0).load(std::memory_order_acquire);
    omerta_leg leg;

    if ((word & action_bits) != 0 && (word & writing_bit) == 0 && copy(entry, word, leg_words, leg))
      visit(leg);
  }
}

bool ForwardingTable::current(const Reading& reading, uint32_t leg_id) const {
  return reading.entry != not_found && id_of(reading.first_word) == leg_id &&
         word_of(entries_[reading.entry], 0).load(std::memory_order_acquire) == reading.first_word;
}

void ForwardingTable::judge_tagged(const Reading& reading, const Datagram& frame, const omerta_tag_pair& tags,
                                   uint64_t now, Decision& decision) {
  const omerta_leg& leg = reading.leg;
  __u8 reason = omerta_leg_judge_tag(&leg, frame.data, tags.in, now);
  if (reason == OMERTA_DROP_NONE) {
    const omerta_books books = accounts_.books(leg.identity, leg.network, leg.limits, *frame.from);
    omerta_leg& entry = entries_[reading.entry];
    reason = shared_ ? omerta_admit(&entry, leg.action, &books, frame.size, now, 1)
                     : omerta_admit(&entry, leg.action, &books, frame.size, now, 0);
  }
  decision.reason = static_cast<omerta_drop_reason>(reason);
  if (reason != OMERTA_DROP_NONE) return;

  decision.leg_id = leg.leg_id;
  switch (leg.action) {
    case OMERTA_LEG_FORWARD:
      omerta_store64(frame.data, omerta_next_header(&leg, omerta_load64(frame.data)));
      omerta_store64(frame.data + 8, tags.out);
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
}

Decision ForwardingTable::judge_datagram(const omerta_address& from, uint8_t* data, uint32_t size,
                                         uint64_t now) {
  const Datagram datagram = {data, size, &from};
  Decision decision;
  judge_all(&datagram, 1, now, &decision);
  return decision;
}

void ForwardingTable::prefetch_index(uint32_t leg_id) const {
  __builtin_prefetch(&index_[place_of(leg_id).home]);
}

void ForwardingTable::prefetch_entry(uint32_t leg_id) const {
  const Place place = place_of(leg_id);
  for (std::size_t distance = 0; distance < 4; distance++) {
    const uint32_t found = index_[(place.home + distance) & (slots_ - 1)].load(std::memory_order_relaxed);
    if (found == 0 || (found & ~entry_mask_) != place.fingerprint) continue;
    const auto* entry = reinterpret_cast<const uint8_t*>(&entries_[(found & entry_mask_) - 1]);
    __builtin_prefetch(entry);
    __builtin_prefetch(entry + 64, 1);
    return;
  }
}

void ForwardingTable::judge_all(const Datagram* datagrams, std::size_t count, uint64_t now,
                                Decision* decisions) {
  constexpr std::size_t kIndexAhead = 16, kEntryAhead = 8;
  const auto leg_of = [&](std::size_t i) { return omerta_load32(datagrams[i].data + 4); };
  /// Whether the i-th names a leg that the one before it did not: nothing to fetch for it else.
  const auto names_another = [&](std::size_t i) {
    return i < count && datagrams[i].size >= OMERTA_FRAME_MIN_SIZE &&
           (datagrams[i - 1].size < OMERTA_FRAME_MIN_SIZE || leg_of(i) != leg_of(i - 1));
  };
  // One more than there are frames at a time: the last one's may be the next one's.
  Reading readings[kTagLanes + 1];
  std::size_t latest = 0;

  for (std::size_t i = 1; i < kIndexAhead; i++)
    if (names_another(i)) prefetch_index(leg_of(i));
  for (std::size_t first = 0; first < count; first += kTagLanes) {
    const std::size_t end = std::min(first + kTagLanes, count);
    // Those whose leg and sender are in order: only the tags are missing.
    TagWork work[kTagLanes];
    omerta_tag_pair tags[kTagLanes];
    const Reading* reading_of[kTagLanes];
    std::size_t index_of[kTagLanes];
    std::size_t tagged = 0;
    for (std::size_t i = first; i < end; i++) {
      if (names_another(i + kIndexAhead)) prefetch_index(leg_of(i + kIndexAhead));
      if (names_another(i + kEntryAhead)) prefetch_entry(leg_of(i + kEntryAhead));
      const Datagram& datagram = datagrams[i];
      const omerta_classification c = omerta_classify(datagram.data, datagram.size);
      decisions[i] = {
          static_cast<omerta_verdict>(c.verdict), static_cast<omerta_drop_reason>(c.reason), 0, {}};
      if (c.verdict != OMERTA_FORWARD) continue;
      decisions[i].verdict = OMERTA_DROP;
      if (!current(readings[latest], leg_of(i))) {
        latest = (latest + 1) % std::size(readings);
        Reading& fresh = readings[latest];
        fresh.entry = snapshot(leg_of(i), policy_words, fresh.leg, fresh.first_word);
      }
      const Reading& reading = readings[latest];
      decisions[i].reason = reading.entry == not_found
                                ? OMERTA_DROP_UNKNOWN_LEG
                                : static_cast<omerta_drop_reason>(
                                      omerta_leg_judge_sender(&reading.leg, datagram.data, datagram.from));
      if (decisions[i].reason != OMERTA_DROP_NONE) continue;
      work[tagged] = {&reading.leg, datagram.data, datagram.size};
      reading_of[tagged] = &reading;
      index_of[tagged++] = i;
    }
    if (tagged == kTagLanes && tag_lanes_available())
      tag_lanes(work, tags);
    else
      for (std::size_t j = 0; j < tagged; j++)
        tags[j] = omerta_tag_pair_of(work[j].leg, work[j].frame, work[j].size);
    for (std::size_t j = 0; j < tagged; j++)
      judge_tagged(*reading_of[j], datagrams[index_of[j]], tags[j], now, decisions[index_of[j]]);
  }
}

}  // namespace omerta
