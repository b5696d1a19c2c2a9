// SPDX-License-Identifier: Apache-2.0
#include "stack/too_big.h"

namespace omerta::stack {
namespace {

constexpr uint8_t kUnreachable = 3, kFragmentationNeeded = 4, kPacketTooBig = 2;
constexpr size_t kHeader = 8;  ///< and as much of the transport is quoted at least

}  // namespace

std::optional<TooBig> parse_too_big(const PacketView& packet) {
  const bool v4 = packet.ip.family == 4;
  const uint8_t* icmp = packet.data + packet.transport;
  const size_t size = std::min(packet.together - packet.transport, packet.body.size());
  if (packet.protocol != (v4 ? kIcmp : kIcmpv6) || size < kHeader) return std::nullopt;
  if (v4 ? icmp[0] != kUnreachable || icmp[1] != kFragmentationNeeded : icmp[0] != kPacketTooBig)
    return std::nullopt;
  const uint8_t* quoted = icmp + kHeader;
  const size_t left = size - kHeader;
  if (left < (v4 ? 20U : 40U) || quoted[0] >> 4 != packet.ip.family) return std::nullopt;
  const size_t header = v4 ? static_cast<size_t>(quoted[0] & 15) * 4 : 40;
  if (header < 20 || left < header + kHeader || quoted[v4 ? 9 : 6] != inner::kTcp) return std::nullopt;
  TooBig out;
  const size_t address = packet.ip.address_size;
  out.flow.local = address_of(quoted + (v4 ? 12 : 8), address);
  out.flow.remote = address_of(quoted + (v4 ? 16 : 24), address);
  out.flow.local_port = ntohs(load<uint16_t>(quoted + header));
  out.flow.remote_port = ntohs(load<uint16_t>(quoted + header + 2));
  out.sequence = ntohl(load<uint32_t>(quoted + header + 4));
  out.mtu = v4 ? ntohs(load<uint16_t>(icmp + 6)) : ntohl(load<uint32_t>(icmp + 4));
  return out;
}

}  // namespace omerta::stack
