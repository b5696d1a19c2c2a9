// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <omerta/wire.h>

namespace omerta::check {

/// 127.0.0.1 with this port, canonical.
inline omerta_address loopback(uint16_t port) {
  omerta_address a{};
  a.ip[10] = a.ip[11] = 0xff;
  a.ip[12] = 127;
  a.ip[15] = 1;
  a.port = __builtin_bswap16(port);
  return a;
}

}  // namespace omerta::check
