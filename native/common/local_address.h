// SPDX-License-Identifier: Apache-2.0
// The local side of a datagram.
#pragma once

#include <omerta/wire.h>

#include <cstdint>

namespace omerta {

/// What a datagram was sent to, and the interface it came in by; or what one is to be sent from, where all
/// zero lets the kernel choose.
struct LocalAddress {
  uint8_t ip[16]{};
  uint32_t interface = 0;
  /// Interface a datagram has to leave by; 0: whichever routing chooses, because an address may move.
  uint32_t leaves_by = 0;
  /// UDP port, network order: one of udp/extra_ports.h; 0: the engine's own.
  uint32_t port = 0;
  bool known() const { return omerta_load64(ip) != 0 || omerta_load64(ip + 8) != 0; }
};

/// fe80::/10, which means nothing without its interface.
inline bool is_link_local(const uint8_t* ip) { return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80; }

}  // namespace omerta
