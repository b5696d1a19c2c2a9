// SPDX-License-Identifier: Apache-2.0
// What guests of an exit may have open, and where it may lead (EXIT limits). Connections and their memory are
// bounded by the stack itself (stack/settings.h).
#pragma once

#include <functional>

#include "stack/flow.h"

namespace omerta::exit {

struct ExitPolicy {
  /// Whether something may go there: the address is the one that is connected to.
  std::function<bool(const stack::Address& address, uint16_t port)> permits = [](const stack::Address&,
                                                                                 uint16_t) { return true; };
  uint32_t mark = 0;              ///< SO_MARK of what leaves
  uint64_t new_per_second = 200;  ///< flows of a guest
  size_t udp_of_guest = 512;
  size_t udp = 16'384;
  size_t spare_descriptors = 256;  ///< left to the rest of the process
};

struct ExitCounts {
  uint64_t tcp = 0;  ///< open now
  uint64_t udp = 0;
  uint64_t refused = 0;  ///< at a bound, of who is no guest, or to where nothing is forwarded
};

}  // namespace omerta::exit
