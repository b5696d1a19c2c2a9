// SPDX-License-Identifier: Apache-2.0
// An IP packet or super-packet as a port for inner packets hands it over (inner/port.h), before its transport
// is looked at.
#pragma once

#include "inner/port.h"
#include "stack/flow.h"
#include "stack/scattered.h"

namespace omerta::stack {

inline constexpr uint8_t kIcmp = 1, kIcmpv6 = 58;

struct PacketView {
  uint8_t* data = nullptr;  ///< headers lie together here
  size_t together = 0;      ///< so many bytes of them
  inner::IpView ip{};
  uint8_t protocol = 0;
  uint8_t ecn = 0;
  size_t transport = 0;     ///< where that header begins
  size_t segment_size = 0;  ///< payload of each segment of a super-packet; 0: it is none
  Scattered body;           ///< transport header and payload
};

enum class PacketError : uint8_t {
  none,
  malformed,
  checksum,  ///< of the IP header or of the transport
  fragment,  ///< of IPv4, or an extension header of IPv6: not put together
};

/// Checksums are made sure of, unless the port's header says that they are right.
PacketError parse_packet(inner::Gathered packet, PacketView& out);

/// Writes an IP header (DF is set in IPv4 ones); its size. The packet has `transport` bytes behind it.
size_t write_ip(uint8_t* out, const Flow& flow, uint8_t protocol, size_t transport, uint8_t ecn);

/// The sum over the pseudo header (RFC 9293 3.1).
uint64_t pseudo_sum(const Flow& flow, uint8_t protocol, size_t transport);

}  // namespace omerta::stack
