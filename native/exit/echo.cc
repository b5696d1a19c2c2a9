// SPDX-License-Identifier: Apache-2.0
#include "exit/echo.h"

namespace omerta::exit {
namespace {

constexpr uint8_t kRequest4 = 8, kReply4 = 0, kRequest6 = 128, kReply6 = 129;
constexpr size_t kHeader = 8;

}  // namespace

std::vector<uint8_t> echo_reply(const stack::PacketView& packet) {
  const bool v4 = packet.ip.family == 4;
  const size_t size = packet.body.size();
  if (packet.protocol != (v4 ? stack::kIcmp : stack::kIcmpv6) || size < kHeader) return {};
  stack::Flow back;
  back.local = stack::address_of(packet.ip.destination, packet.ip.address_size);
  back.remote = stack::address_of(packet.ip.source, packet.ip.address_size);
  std::vector<uint8_t> reply(back.ip_header() + size);
  uint8_t* icmp = reply.data() + stack::write_ip(reply.data(), back, packet.protocol, size, 0);
  packet.body.copy_to(icmp);
  if (icmp[0] != (v4 ? kRequest4 : kRequest6) || icmp[1] != 0) return {};
  icmp[0] = v4 ? kReply4 : kReply6;
  store(icmp + 2, uint16_t{0});
  const uint64_t pseudo = v4 ? 0 : stack::pseudo_sum(back, packet.protocol, size);
  store(icmp + 2, inner::checksum_finish(inner::checksum_payload(icmp, size, pseudo)));
  return reply;
}

}  // namespace omerta::exit
