// SPDX-License-Identifier: Apache-2.0
// The forwarding table: leg id -> what becomes of a frame on that leg. One control thread writes
// entries; any number of workers look them up, judge by them and count on them without a lock.
//
// Terms
//   entry        a struct omerta_leg, 128 bytes on cache lines of its own, and the 64 of its window behind;
//                exactly `capacity` of them, and nothing else
//   home         the entry an id leads to (omerta/leg_slots.h); the control plane chooses ids whose home
//                is free, so a leg sits there
//   reach        the furthest any leg sits from its home: ids chosen for another capacity, or by chance,
//                share homes, and the leg that comes later sits in the next vacant entry
//
// A look-up ends at the reach, not at a vacant entry. So a removed leg leaves no tombstone that would
// have to be probed past for ever after, and no entry ever moves under a reader.
//
// Publication is that of omerta/leg_slots.h: a reader sees an entry whole or not at all. (To be fooled
// it would have to sleep through a multiple of 2^20 writes of one entry that end with the same leg in
// it.) While it is written, an entry has the id it had: a vacant one stays vacant until it is a leg.
//
// The counters at the end of an entry belong to the workers, as does its window (omerta/leg_window.h).
// Replacing a leg leaves them alone, installing a new one zeroes them. A frame judged at the very moment its
// leg is removed may be counted on the leg that takes the entry next.
#pragma once

#include <omerta/leg_slots.h>
#include <omerta/leg_window.h>
#include <omerta/tag_pair.h>
#include <omerta/wire.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "common/touched_memory.h"
#include "relay/accounts.h"
#include "relay/shared_windows.h"

namespace omerta::relay {

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

/// One received datagram.
struct Datagram {
  uint8_t* data;
  uint32_t size;
  const omerta_address* from;
};

class ForwardingTable {
 public:
  /// Who judges: one worker alone counts without locked instructions.
  enum class Workers { one, several };

  /// Makes room for `capacity` legs, 128 bytes each and 64 for its window, all of it touched here.
  /// @throws std::bad_alloc when the memory cannot be had; std::invalid_argument for capacity 0
  ///   or more than 2^28, and for account capacities out of their range.
  explicit ForwardingTable(std::size_t capacity, const Accounts::Capacity& accounts = {},
                           Workers workers = Workers::several);
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
  /// Charges accounts in memory that others charge too, from now on (Accounts::move_to).
  void share_accounts(const Accounts::Memory& memory);
  /// Judges repetition by windows others judge by too, from now on, of the legs that have one there. They
  /// have to outlive this.
  void share_windows(const SharedWindows& windows);

  // Any thread.

  /// Copies the leg with this id, counters included; false when there is none.
  bool find(uint32_t leg_id, omerta_leg& out) const;
  /// Calls `visit` with a copy of every leg; off the control thread, a leg being replaced is left out.
  void for_each(const std::function<void(const omerta_leg&)>& visit) const;
  /// How many entries a look-up that finds nothing looks at.
  std::size_t reach() const { return reach_.load(std::memory_order_relaxed) + 1; }
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }
  std::size_t capacity() const { return capacity_; }

  /// Classifies any datagram, and judges it if it is a frame: leg, source, tag, expiry, hop limit,
  /// repetition, limits. Counts an accepted frame on its leg; rewrites a forwarded one in place. A dropped
  /// frame is left as it was. `now` is ns of CLOCK_BOOTTIME.
  Decision judge_datagram(const omerta_address& from, uint8_t* data, uint32_t size, uint64_t now);
  /// The same for `count` datagrams, in their order: what the next ones need is fetched from memory
  /// while the first are judged.
  void judge_all(const Datagram* datagrams, std::size_t count, uint64_t now, Decision* decisions);

 private:
  static constexpr uint32_t not_found = UINT32_MAX;

  /// Side by side: apart, every frame of a table larger than the caches would miss the translation of one
  /// more page.
  struct Slot {
    omerta_leg leg;
    omerta_leg_window window;
  };

  uint32_t home_of(uint32_t leg_id) const { return omerta_leg_home(leg_id, capacity_); }
  uint32_t after(uint32_t entry) const { return omerta_leg_slot_after(entry, capacity_); }
  /// Reader: the entry of a leg in use, and a copy of its first `words` 64-bit words.
  uint32_t snapshot(uint32_t leg_id, std::size_t words, omerta_leg& out, uint64_t& first_word) const;
  bool copy(uint32_t entry, uint64_t first_word, std::size_t words, omerta_leg& out) const;
  /// A leg as it was read, and where; `entry` not_found: no leg.
  struct Reading {
    uint32_t entry = not_found;
    uint64_t first_word = 0;
    omerta_leg leg;
  };
  /// Whether it is this leg's, and that was not changed since.
  bool current(const Reading& reading, uint32_t leg_id) const;
  /// The rest of a verdict, of a frame whose leg and sender are known and which ought to have tags.in.
  void judge_tagged(const Reading& reading, const Datagram& frame, const omerta_tag_pair& tags, uint64_t now,
                    Decision& decision);
  void prefetch(uint32_t leg_id) const;
  omerta_leg_window& window_of(const Reading& reading);

  Accounts accounts_;
  std::atomic<bool> shared_;
  std::atomic<const SharedWindows*> shared_windows_{nullptr};
  uint32_t capacity_;
  TouchedMemory memory_;
  Slot* entries_;
  std::vector<uint32_t> displaced_;  ///< writer: how many legs sit 1, 2, 3 … entries from home
  std::atomic<std::size_t> reach_{0};
  std::atomic<std::size_t> size_{0};
};

}  // namespace omerta::relay
