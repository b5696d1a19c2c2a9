// SPDX-License-Identifier: Apache-2.0
// Tells this engine's own datagrams among the packets its TUN interface hands over. They get there when a
// peer's or relay's endpoint is routed into the tunnel: sealed and sent once more, each would come round
// again, without end.
//
// A UDP packet from this engine's port and one of this host's addresses is its own: nobody else here sends
// from that port. What a host behind this one sends from the same port number has that host's address. A
// fragment after the first carries no port; sealed once, it is a datagram that is told here. Two engines of
// one host whose endpoints lead into each other's tunnel are not told from their users.
#pragma once

#include <array>
#include <vector>

#include "common/clock.h"
#include "inner/ip.h"

namespace omerta::engine {

class OwnDatagrams {
 public:
  /// Whether the packet is one; `port`: this engine's.
  bool contain(const inner::IpView& ip, const uint8_t* packet, uint16_t port, Nanoseconds now) {
    return source_port(ip, packet) == port && is_own(ip, now);
  }

 private:
  /// Of a UDP packet that has one; 0: it has none.
  static uint16_t source_port(const inner::IpView& ip, const uint8_t* packet);
  /// Whether this host has the packet's source address; they are looked up at most once a second.
  bool is_own(const inner::IpView& ip, Nanoseconds now);

  std::vector<std::array<uint8_t, 16>> addresses_;  ///< canonical
  Nanoseconds next_look_up_ = 0;
};

}  // namespace omerta::engine
