// SPDX-License-Identifier: Apache-2.0
// Asks the kernel which interface a datagram would leave by (rtnetlink(7), RTM_GETROUTE).
#pragma once

#include <cstdint>

#include "udp/udp_socket.h"

namespace omerta::udp {

class RouteLookup {
 public:
  /// @throws std::system_error
  RouteLookup();
  ~RouteLookup();
  RouteLookup(const RouteLookup&) = delete;
  RouteLookup& operator=(const RouteLookup&) = delete;

  /// Index of the interface by which a datagram to `to` from `from` (all zero: from any address) leaves; 0:
  /// by none, or nobody can tell.
  uint32_t interface_to(const uint8_t (&to)[16], const uint8_t (&from)[16], uint32_t fwmark);

 private:
  int fd_;
  uint32_t sequence_ = 0;
};

}  // namespace omerta::udp
