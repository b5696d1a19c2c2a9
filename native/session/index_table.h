// SPDX-License-Identifier: Apache-2.0
// Receiver index → the handshake or the session it was given to. Indices are random 32-bit numbers, new
// for every handshake; the low bits of one choose its slot, and a slot holds one at a time. Look-ups take no
// lock; the table doubles when half its slots are taken, and readers of the old one are waited for.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "common/qsbr.h"
#include "session/cookie.h"

namespace omerta::session {

class Keypair;
class Peer;

class IndexTable {
 public:
  explicit IndexTable(Qsbr& qsbr);
  ~IndexTable();
  IndexTable(const IndexTable&) = delete;
  IndexTable& operator=(const IndexTable&) = delete;

  /// Any thread between Qsbr::quiescent calls; nullptr: no session has this index.
  Keypair* find(uint32_t index) const;

  // --- writers exclude each other -----------------------------------------------------------------
  /// The peer whose handshake has this index; nullptr: none.
  Peer* handshake(uint32_t index) const;
  /// Gives the peer's handshake an index nobody has, never 0.
  uint32_t allocate(Peer& peer, const RandomBytes& random);
  /// Takes the index of a handshake back.
  void release(uint32_t index);
  /// The handshake with the keypair's index became a session.
  void promote(Keypair& keypair);
  /// From now on nobody finds the session. Who found it before may still hold it (Qsbr).
  void remove(const Keypair& keypair);
  /// From now on index i stands in words[i & mask]; one that is not in use any more stays there until another
  /// takes the place. With a mask of most_slots() - 1 no two that are in use share a place, because the table
  /// itself keeps them apart by fewer bits.
  void mirror(uint64_t* words, uint32_t mask);
  /// The number of slots the table can grow to with so many peers.
  static uint32_t most_slots(size_t peers);

 private:
  struct Slot {
    std::atomic<Keypair*> keypair{nullptr};
    Peer* handshake = nullptr;
    uint32_t handshake_index = 0;
  };
  struct Slots {
    explicit Slots(uint32_t count) : mask(count - 1), slot(new Slot[count]) {}
    Slot& of(uint32_t index) const { return slot[index & mask]; }
    const uint32_t mask;
    const std::unique_ptr<Slot[]> slot;
  };
  void grow();
  void write_mirror(uint32_t index) const;

  Qsbr& qsbr_;
  std::atomic<Slots*> slots_;
  uint32_t used_ = 0;
  uint64_t* mirror_ = nullptr;
  uint32_t mirror_mask_ = 0;
};

}  // namespace omerta::session
