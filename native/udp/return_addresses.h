// SPDX-License-Identifier: Apache-2.0
// Which of this host's addresses each remote last sent to. A NAT or firewall lets in only what comes
// from the address its client talked to, so what goes to a remote has to leave from that one, and a host
// with several addresses would otherwise let routing choose.
//
//   bucket   eight words, one cache line; a remote hashes to one bucket
//   word     56 bits of the remote's keyed hash, and the number of a local address (0: empty)
//
// A host with one address of a family needs no telling: routing has no choice. Naming the source of a
// send costs 170 ns, so it is left out then.
//
// Bounded: a full bucket loses one of its remotes, for whom routing then chooses until it sends again.
// Any thread may call anything: a word is one atomic, a local address never changes once it has a number.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>

#include "common/touched_memory.h"
#include "udp/sole_addresses.h"
#include "udp/udp_socket.h"

namespace omerta::udp {

class ReturnAddresses {
 public:
  /// Room for about this many remotes; key: random, so that nobody chooses who shares a bucket.
  ReturnAddresses(size_t remotes, const uint64_t (&key)[2]);

  /// The remote sent to this address of ours. Only what an address proved belongs here.
  void learn(const omerta_address& remote, const LocalAddress& local);
  /// What to send from; all zero when that is not known, or routing chooses it anyway.
  LocalAddress find(const omerta_address& remote) const;
  /// The host's addresses that are the only one of their family, at most one of each.
  void set_sole(const SoleAddresses& sole);
  /// Routing has changed.
  void clear();

 private:
  static constexpr size_t kWays = 8;
  static constexpr uint64_t kNumber = 0xff;  ///< of a local address, in a word
  using Word = std::atomic<uint64_t>;

  uint64_t hash(const omerta_address& remote) const;
  Word* bucket(uint64_t hash) const;
  uint64_t number_of(const LocalAddress& local);
  void note_choice();

  uint64_t key_[2];
  size_t buckets_;
  TouchedMemory words_;
  std::mutex adding_;
  std::atomic<uint64_t> locals_count_{0};
  LocalAddress locals_[kNumber + 1];             ///< by number; 0 stays empty
  SoleAddresses sole_;                           ///< under the mutex
  std::atomic<uint64_t> sole_numbers_[2]{0, 0};  ///< of the host's only IPv4 and IPv6 address
  std::atomic<bool> choice_{false};              ///< remotes talk to other addresses than those
};

}  // namespace omerta::udp
