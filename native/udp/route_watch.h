// SPDX-License-Identifier: Apache-2.0
// Tells when a datagram that sticks to one of this host's addresses would leave by another interface than it
// did. What leads out there belongs to somebody else, who lets in other addresses only (RFC 2827): sent from
// the former one it never arrives, though the address is still this host's.
//
// Only a change counts. A host may always have answered by another interface than it was asked by, and its
// remotes expect the address they asked.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <thread>

#include "udp/return_addresses.h"
#include "udp/route_lookup.h"

namespace omerta::udp {

class RouteWatch {
 public:
  /// Asked of a remote and the address it is sent to from: whether that is to be forgotten.
  using Moved = std::function<bool(const omerta_address& remote, const LocalAddress& local)>;
  /// Asks it of everything that sticks to an address, and forgets what is to be. On the watch's thread.
  using Review = std::function<void(const Moved& moved)>;

  /// Told when links, addresses or routes have changed, at most four times a second. On the watch's thread.
  using Changed = std::function<void()>;

  /// `addresses` is told which of this host's are to be avoided; it has to outlive this.
  /// @throws std::system_error
  RouteWatch(
      ReturnAddresses& addresses, uint32_t fwmark, Review review, Changed changed = [] {});
  ~RouteWatch();
  RouteWatch(const RouteWatch&) = delete;
  RouteWatch& operator=(const RouteWatch&) = delete;

  /// The mark routes are asked for with from now on.
  void set_fwmark(uint32_t fwmark) { fwmark_.store(fwmark, std::memory_order_relaxed); }

 private:
  /// A remote's IP address and one of this host's.
  using Pair = std::array<uint8_t, 32>;
  struct Way {
    uint32_t interface;
    bool asked = false;    ///< in this review
    bool visited = false;  ///< in this review
    bool moved = false;    ///< as this review found
  };
  /// An address that is avoided, and by what it is seen that it need not be any more.
  struct Witness {
    LocalAddress local;
    Pair pair;
    uint32_t interface;  ///< where it led before
  };

  void run();
  void look(unsigned changed);
  bool moved(const omerta_address& remote, const LocalAddress& local, bool changed);
  uint32_t ask(const Pair& pair);

  ReturnAddresses& addresses_;
  const Review review_;
  const Changed changed_;
  std::atomic<uint32_t> fwmark_;
  RouteLookup lookup_;
  std::map<Pair, Way> ways_;
  std::vector<Witness> avoided_;
  const int stop_event_;
  const int notices_;
  std::thread thread_;
};

}  // namespace omerta::udp
