// SPDX-License-Identifier: Apache-2.0
// Whether this host has more than one address to send from.
#pragma once

#include <cstdint>

namespace omerta::udp {

/// The one address of each family, canonical; all zero where there is none or several.
struct SoleAddresses {
  uint8_t ipv4[16]{};
  uint8_t ipv6[16]{};
  bool several = true;  ///< a family has more than one, or it cannot be told
};

/// Addresses of interfaces that are up, without loopback and link-local ones.
SoleAddresses sole_addresses();

}  // namespace omerta::udp
