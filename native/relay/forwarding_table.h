// SPDX-License-Identifier: Apache-2.0
// The forwarding table: leg id -> what becomes of a frame on that leg. One control thread writes
// entries; any number of workers look them up, judge by them and count on them without a lock.
//
// Terms
//   slot     a place in the table: one word of the index and one entry
//   index    one 64-bit word per slot: leg id, state and generation; probing reads only this array
//   entry    a struct omerta_leg, 128 bytes on its own pair of cache lines
//
//   home     the slot an id hashes to; a leg sits there or a few slots further (linear probing)
//   reach    the furthest any leg ever sat from its home
//
// Probing ends at the reach, not at a vacant slot. So a removed leg leaves no tombstone that would
// have to be probed past for ever after, and no entry ever moves under a reader.
//
// Publication. An entry fills its 128 bytes, so its sequence counter is the generation in the index
// word, which a reader loads anyway to find the slot. The writer marks the word `writing`, stores
// the entry, then stores the word as `used` with the next generation. A reader copies the entry
// between two loads of the word and starts again if they differ: it sees an entry whole or not at
// all. (A reader would have to sleep through 2^29 writes of one slot to be fooled.)
//
// The counters at the end of an entry belong to the workers. Replacing a leg leaves them alone,
// installing a new one zeroes them. A frame judged at the very moment its leg is removed may be
// counted on the leg that takes the slot next.
#pragma once

#include <omerta/wire.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "relay/accounts.h"

namespace omerta {

/// What becomes of one datagram.
struct Decision {
  omerta_verdict verdict = OMERTA_DROP;
  /// Why it is dropped; OMERTA_DROP_NONE for every other verdict.
  omerta_drop_reason reason = OMERTA_DROP_NONE;
  /// The leg the frame came on. Valid for OMERTA_CONTROL, OMERTA_DELIVER and OMERTA_FORWARD.
  uint32_t leg_id = 0;
  /// Where the rewritten frame goes. Valid for OMERTA_FORWARD.
  omerta_address next{};
};

class ForwardingTable {
 public:
  /// Who calls judge(): one worker alone counts without locked instructions.
  enum class Workers { one, several };

  /// Makes room for `capacity` legs. All memory is touched here; nothing is allocated later.
  /// @throws std::bad_alloc when the memory cannot be had; std::invalid_argument for capacity 0
  ///   or more than 2^28, and for account capacities out of their range.
  explicit ForwardingTable(std::size_t capacity, const Accounts::Capacity& accounts = {},
                           Workers workers = Workers::several);
  ~ForwardingTable();
  ForwardingTable(const ForwardingTable&) = delete;
  ForwardingTable& operator=(const ForwardingTable&) = delete;

  // Control thread only.

  /// Adds a leg, or replaces the one with its id and keeps that one's counters (the counters in
  /// `leg` are not read). False when the table is full; then nothing changed.
  /// @throws std::out_of_range when it names an account or class of limits there is none of.
  bool install(const omerta_leg& leg);
  /// Removes a leg; false when there was none.
  bool remove(uint32_t leg_id);

  /// The limits legs are held to, and what is charged to their accounts.
  Accounts& accounts() { return accounts_; }

  // Any thread.

  /// Copies the leg with this id, counters included; false when there is none.
  bool find(uint32_t leg_id, omerta_leg& out) const;
  /// Calls `visit` with a copy of every leg; off the control thread, a leg being replaced is left out.
  void for_each(const std::function<void(const omerta_leg&)>& visit) const;
  /// How many slots a lookup that finds nothing looks at.
  std::size_t reach() const { return reach_.load(std::memory_order_relaxed) + 1; }
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }
  std::size_t capacity() const { return capacity_; }

  /// Judges a frame that omerta_classify() passed (verdict OMERTA_FORWARD): leg, source, tag,
  /// expiry, hop limit, limits. Counts an accepted frame on its leg; rewrites a forwarded one in
  /// place. A dropped frame is left as it was. `now` is ns of CLOCK_BOOTTIME.
  Decision judge(const omerta_address& from, uint8_t* frame, uint32_t size, uint64_t now);
  /// Classifies any datagram and judges it if it is a frame.
  Decision judge_datagram(const omerta_address& from, uint8_t* data, uint32_t size, uint64_t now);

 private:
  static constexpr std::size_t not_found = SIZE_MAX;

  std::size_t home(uint32_t leg_id) const;
  /// Writer: the slot of a leg in use.
  std::size_t slot_of(uint32_t leg_id) const;
  /// Reader: the slot of a leg in use, and a copy of its first `words` 64-bit words.
  std::size_t snapshot(uint32_t leg_id, std::size_t words, omerta_leg& out) const;
  bool snapshot_slot(std::size_t slot, uint64_t word, std::size_t words, omerta_leg& out) const;
  void publish(std::size_t slot, const omerta_leg& leg, std::size_t words);

  Accounts accounts_;
  bool shared_;
  std::size_t capacity_;
  std::size_t slots_;
  unsigned shift_;
  std::size_t mapped_bytes_;
  omerta_leg* entries_;
  std::atomic<uint64_t>* index_;
  std::atomic<std::size_t> reach_{0};
  std::atomic<std::size_t> size_{0};
};

}  // namespace omerta
