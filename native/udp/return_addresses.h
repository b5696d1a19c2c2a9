// SPDX-License-Identifier: Apache-2.0
// Which of this host's addresses each remote last sent to. A NAT or firewall lets in only what comes
// from the address its client talked to, so what goes to a remote has to leave from that one, and a host
// with several addresses would otherwise let routing choose.
//
//   bucket   sixteen words, one cache line; a remote hashes to one bucket
//   word     24 bits of the remote's keyed hash, and the number of a local address (0: empty)
//
// A host with one address of a family needs no telling: routing has no choice. Naming the source of a
// send costs 170 ns, so it is left out then; and as long as there is no choice at all, there are no
// buckets and nothing is remembered.
//
// Bounded: a full bucket loses one of its remotes, for whom routing then chooses until it sends again.
// Mistaken: 24 bits tell the remotes of a bucket apart, not all there are. One that has not sent is taken
// for another of its bucket with a chance of 16 in 2^24 at most, and is sent to from an address of ours it
// may not expect, as routing might choose too. And with a chance of one in two million a remote shares its
// word with another, and whichever sent last decides for both: it matters when they talk to different
// addresses of ours.
//
// Any thread may call anything: a word is one atomic, a local address never changes once it has a number.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
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
  /// Takes the memory, once: 8 bytes a remote, when the host has several addresses or remotes talk to
  /// others than its only ones. Touching it takes milliseconds, so no packet waits for it: it is called
  /// at start and by timers. Without memory to be had, routing goes on choosing.
  void prepare();
  /// Bytes taken.
  size_t memory() const;
  /// Whether nothing is to be sent from this address of ours until further notice, though remotes talk to it:
  /// what it is sent by now is not what it was (udp/route_watch.h). Routing chooses then.
  void avoid(const LocalAddress& local, bool avoided);
  bool avoids(const LocalAddress& local) const;
  /// Routing has changed.
  void clear();

 private:
  static constexpr size_t kWays = 16;
  static constexpr uint32_t kNumber = 0xff;  ///< of a local address, in a word
  using Word = std::atomic<uint32_t>;

  uint64_t hash(const omerta_address& remote) const;
  /// nullptr while there is no memory.
  Word* bucket(uint64_t hash) const;
  uint32_t number_of(const LocalAddress& local);
  void note_choice();

  uint64_t key_[2];
  size_t buckets_;
  std::atomic<Word*> words_{nullptr};
  std::mutex changing_;
  std::unique_ptr<TouchedMemory> memory_;  ///< under the mutex; the words
  std::atomic<uint32_t> locals_count_{0};
  LocalAddress locals_[kNumber + 1];             ///< by number; 0 stays empty
  SoleAddresses sole_;                           ///< under the mutex
  std::atomic<uint32_t> sole_numbers_[2]{0, 0};  ///< of the host's only IPv4 and IPv6 address
  std::atomic<bool> choice_{false};              ///< remotes talk to other addresses than those
  std::atomic<uint32_t> avoided_count_{0};
  std::atomic<bool> avoided_[kNumber + 1]{};  ///< by number
};

}  // namespace omerta::udp
