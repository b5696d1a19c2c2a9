// SPDX-License-Identifier: Apache-2.0
// What guests of an exit may have open, and where it may lead (EXIT limits). Connections and their memory are
// bounded by the stack itself (stack/settings.h).
#pragma once

#include <functional>

#include "stack/flow.h"

namespace omerta::exit {

/// One address that may send by an exit.
struct Guest {
  stack::Address address{};
  bool exit = false;  ///< to the Internet
  bool lan = false;   ///< to LANs behind this node
  /// Of 127.0.0.0/8, in network order: where its questions for names come from. 0: it may ask none.
  uint32_t asks_from = 0;
};

/// Where questions for names go on that guests ask of an address of this node's: ports of 127.0.0.1.
struct Names {
  stack::Address address{};
  uint16_t udp = 0;
  uint16_t tcp = 0;
};

struct ExitPolicy {
  /// Whether what a guest sends may go there: the address is the one that is connected to.
  std::function<bool(const Guest& guest, uint8_t protocol, const stack::Address& address, uint16_t port)>
      permits = [](const Guest&, uint8_t, const stack::Address&, uint16_t) { return true; };
  /// Whether it is one of this node's inner addresses: those are pinged.
  std::function<bool(const stack::Address& address)> is_own = [](const stack::Address&) { return false; };
  uint64_t new_per_second = 200;  ///< flows of a guest
  uint64_t datagrams_per_second = 20'000;
  size_t udp_of_guest = 512;
  size_t udp = 16'384;
  size_t spare_descriptors = 256;  ///< left to the rest of the process
};

struct ExitCounts {
  uint64_t tcp = 0;  ///< open now
  uint64_t udp = 0;
  uint64_t refused = 0;  ///< at a bound, of who is no guest, or to where nothing is forwarded
  uint64_t flows_too_fast = 0;
  uint64_t datagrams_too_fast = 0;
};

}  // namespace omerta::exit
