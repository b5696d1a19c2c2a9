// SPDX-License-Identifier: Apache-2.0
// What a stack allows: of one owner, who is the address at the other end, and of all.
#pragma once

#include "common/clock.h"

namespace omerta::stack {

struct Settings {
  size_t mtu = 1400;
  /// Segments are handed over as super-packets, with their checksums left to who splits them (inner/port.h).
  bool super_packets = true;
  bool ecn = true;
  uint32_t receive_window = 4U << 20;  ///< of a connection, bytes
  size_t send_buffer = size_t{4} << 20;
  size_t memory = size_t{256} << 20;  ///< of all buffers
  size_t owner_memory = size_t{64} << 20;
  size_t connections = 16'384;
  size_t owner_connections = 1024;
  size_t half_open = 4096;  ///< connections that are being made
  size_t owner_half_open = 128;
  Nanoseconds give_up_after = 120 * kSecond;     ///< RFC 9293 3.8.3, R2
  unsigned handshake_tries = 6;                  ///< of a SYN or SYN-ACK
  Nanoseconds time_wait = 60 * kSecond;          ///< twice 30 s for the longest life of a segment
  Nanoseconds keepalive_after = 7200 * kSecond;  ///< RFC 9293 3.8.4
  Nanoseconds keepalive_every = 75 * kSecond;
  unsigned keepalive_tries = 9;
};

}  // namespace omerta::stack
