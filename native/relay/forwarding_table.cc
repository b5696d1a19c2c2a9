// SPDX-License-Identifier: Apache-2.0
#include "relay/forwarding_table.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "relay/leg_entry.h"
#include "relay/tag_lanes.h"

namespace omerta::relay {
namespace {

constexpr uint32_t id_of(uint64_t word) { return static_cast<uint32_t>(word); }

uint32_t checked(std::size_t capacity) {
  if (capacity == 0 || capacity > (std::size_t{1} << 28))
    throw std::invalid_argument("forwarding table: capacity must be 1 to 2^28 legs");
  return static_cast<uint32_t>(capacity);
}

}  // namespace

ForwardingTable::ForwardingTable(std::size_t capacity, const Accounts::Capacity& accounts, Workers workers)
    : accounts_(accounts),
      shared_(workers == Workers::several),
      capacity_(checked(capacity)),
      memory_(capacity * sizeof(Slot), TouchedMemory::Pages::huge),
      entries_(reinterpret_cast<Slot*>(memory_.data())) {}

bool ForwardingTable::copy(uint32_t entry, uint64_t first_word, std::size_t words, omerta_leg& out) const {
  auto* to = reinterpret_cast<__u64*>(&out);

  to[0] = first_word & OMERTA_LEG_POLICY_BITS;
  // Acquire keeps the second load of the first word after the loads of the others, and pairs with
  // the writer's release stores: who sees a new word of the entry sees it being written, too.
  for (std::size_t i = 1; i < words; i++)
    to[i] = word_of(entries_[entry].leg, i).load(std::memory_order_acquire);
  return word_of(entries_[entry].leg, 0).load(std::memory_order_relaxed) == first_word;
}

uint32_t ForwardingTable::snapshot(uint32_t leg_id, std::size_t words, omerta_leg& out,
                                   uint64_t& first_word) const {
  std::size_t to_probe = reach_.load(std::memory_order_acquire) + 1;

  for (uint32_t entry = home_of(leg_id);;) {
    const uint64_t word = word_of(entries_[entry].leg, 0).load(std::memory_order_acquire);
    if (id_of(word) != leg_id || (word & OMERTA_LEG_ACTION_BITS) == 0) {
      if (--to_probe == 0) return not_found;
      entry = after(entry);
    } else if ((word & OMERTA_LEG_WRITING_BIT) == 0 && copy(entry, word, words, out)) {
      first_word = word;
      return entry;
    }
    // Else it is being replaced: a few stores away from done, look again.
  }
}

void ForwardingTable::share_accounts(const Accounts::Memory& memory) {
  shared_.store(true, std::memory_order_relaxed);
  accounts_.move_to(memory);
}

void ForwardingTable::share_windows(const SharedWindows& windows) {
  shared_.store(true, std::memory_order_relaxed);
  shared_windows_.store(&windows, std::memory_order_release);
}

omerta_leg_window& ForwardingTable::window_of(const Reading& reading) {
  if (const SharedWindows* const windows = shared_windows_.load(std::memory_order_acquire);
      windows != nullptr) [[unlikely]]
    if (omerta_leg_window* const window = windows->of(reading.leg.leg_id); window != nullptr) return *window;
  return entries_[reading.entry].window;
}

bool ForwardingTable::install(const omerta_leg& leg) {
  accounts_.check(leg);
  omerta_leg present;
  uint64_t first_word;
  uint32_t entry = snapshot(leg.leg_id, kLegWords, present, first_word);
  if (entry != not_found) {
    if (present.identity != leg.identity || present.network != leg.network) {
      // What it carried so far was the former accounts'.
      accounts_.settle(present);
      present.identity = leg.identity;
      present.network = leg.network;
      accounts_.settle(present, -1);
    }
    publish_leg(entries_[entry].leg, leg, kLegPolicyWords);
    return true;
  }
  if (size() == capacity_) return false;

  entry = home_of(leg.leg_id);
  while ((word_of(entries_[entry].leg, 0).load(std::memory_order_relaxed) & OMERTA_LEG_ACTION_BITS) != 0)
    entry = after(entry);
  const uint32_t distance = omerta_leg_distance(entry, leg.leg_id, capacity_);
  if (distance != 0) {
    if (distance > displaced_.size()) displaced_.resize(distance);
    displaced_[distance - 1]++;
    // Before the leg can be found there, readers must look that far.
    reach_.store(displaced_.size(), std::memory_order_release);
  }
  omerta_leg fresh = leg;
  fresh.theoretical_arrival = fresh.packets = fresh.bytes = fresh.last_used = 0;
  omerta_window_clear(&entries_[entry].window);
  publish_leg(entries_[entry].leg, fresh, kLegWords);
  size_.store(size() + 1, std::memory_order_relaxed);
  return true;
}

bool ForwardingTable::remove(uint32_t leg_id) {
  omerta_leg counted;
  uint64_t first_word;
  const uint32_t entry = snapshot(leg_id, kLegWords, counted, first_word);
  if (entry == not_found) return false;
  accounts_.settle(counted);
  publish_leg(entries_[entry].leg, {}, kLegPolicyWords);
  if (const uint32_t distance = omerta_leg_distance(entry, leg_id, capacity_); distance != 0) {
    displaced_[distance - 1]--;
    while (!displaced_.empty() && displaced_.back() == 0) displaced_.pop_back();
    reach_.store(displaced_.size(), std::memory_order_release);
  }
  size_.store(size() - 1, std::memory_order_relaxed);
  return true;
}

bool ForwardingTable::find(uint32_t leg_id, omerta_leg& out) const {
  uint64_t first_word;
  return snapshot(leg_id, kLegWords, out, first_word) != not_found;
}

void ForwardingTable::for_each(const std::function<void(const omerta_leg&)>& visit) const {
  for (uint32_t entry = 0; entry < capacity_; entry++) {
    const uint64_t word = word_of(entries_[entry].leg, 0).load(std::memory_order_acquire);
    omerta_leg leg;

    if ((word & OMERTA_LEG_ACTION_BITS) != 0 && (word & OMERTA_LEG_WRITING_BIT) == 0 &&
        copy(entry, word, kLegWords, leg))
      visit(leg);
  }
}

bool ForwardingTable::current(const Reading& reading, uint32_t leg_id) const {
  return reading.entry != not_found && id_of(reading.first_word) == leg_id &&
         word_of(entries_[reading.entry].leg, 0).load(std::memory_order_acquire) == reading.first_word;
}

void ForwardingTable::judge_tagged(const Reading& reading, const Datagram& frame, const omerta_tag_pair& tags,
                                   uint64_t now, Decision& decision) {
  const omerta_leg& leg = reading.leg;
  __u8 reason = omerta_leg_judge_tag(&leg, frame.data, tags.in, now);
  if (reason == OMERTA_DROP_NONE && leg.action != OMERTA_LEG_CONTROL &&
      !omerta_window_takes(&window_of(reading), omerta_load64(frame.data + 16),
                           omerta_load64(frame.data + 24), tags.in, shared_ ? 1 : 0))
    reason = OMERTA_DROP_REPEATED;
  if (reason == OMERTA_DROP_NONE) {
    const omerta_books books = accounts_.books(leg.identity, leg.network, leg.limits, *frame.from);
    omerta_leg& entry = entries_[reading.entry].leg;
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

void ForwardingTable::prefetch(uint32_t leg_id) const {
  const auto* entry = reinterpret_cast<const uint8_t*>(&entries_[home_of(leg_id)]);
  __builtin_prefetch(entry);
  __builtin_prefetch(entry + 64, 1);
  __builtin_prefetch(entry + 128, 1);
}

void ForwardingTable::judge_all(const Datagram* datagrams, std::size_t count, uint64_t now,
                                Decision* decisions) {
  constexpr std::size_t kAhead = 8;
  const auto leg_of = [&](std::size_t i) { return omerta_load32(datagrams[i].data + 4); };
  /// Whether the i-th frame names another leg than the one before it. The same leg is fetched already.
  const auto names_another = [&](std::size_t i) {
    return i < count && datagrams[i].size >= OMERTA_FRAME_MIN_SIZE &&
           (datagrams[i - 1].size < OMERTA_FRAME_MIN_SIZE || leg_of(i) != leg_of(i - 1));
  };
  // One more than frames are judged at a time: the first frame may go by the reading of the last one before.
  Reading readings[kTagLanes + 1];
  std::size_t latest = 0;

  for (std::size_t i = 1; i < kAhead; i++)
    if (names_another(i)) prefetch(leg_of(i));
  for (std::size_t first = 0; first < count; first += kTagLanes) {
    const std::size_t end = std::min(first + kTagLanes, count);
    // Those whose leg and sender are in order: only the tags are missing.
    TagWork work[kTagLanes];
    omerta_tag_pair tags[kTagLanes];
    const Reading* reading_of[kTagLanes];
    std::size_t index_of[kTagLanes];
    std::size_t tagged = 0;
    for (std::size_t i = first; i < end; i++) {
      if (names_another(i + kAhead)) prefetch(leg_of(i + kAhead));
      const Datagram& datagram = datagrams[i];
      const omerta_classification c = omerta_classify(datagram.data, datagram.size);
      // Each field by itself: a whole Decision is made elsewhere first and copied in pieces that do not match
      // those it was written in, for which the processor waits.
      decisions[i].verdict = static_cast<omerta_verdict>(c.verdict);
      decisions[i].reason = static_cast<omerta_drop_reason>(c.reason);
      decisions[i].leg_id = 0;
      if (c.verdict != OMERTA_FORWARD) continue;
      decisions[i].verdict = OMERTA_DROP;
      if (!current(readings[latest], leg_of(i))) {
        latest = (latest + 1) % std::size(readings);
        Reading& fresh = readings[latest];
        fresh.entry = snapshot(leg_of(i), kLegPolicyWords, fresh.leg, fresh.first_word);
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

}  // namespace omerta::relay
