// SPDX-License-Identifier: Apache-2.0
#include "exit/echo.h"

#include <utility>

namespace omerta::exit {
namespace {

constexpr uint8_t kRequest4 = 8, kReply4 = 0, kRequest6 = 128, kReply6 = 129;
constexpr size_t kHeader = 8;
/// Of an echo request, in an ICMP error.
constexpr size_t kMostQuoted = 64;

/// A packet from flow.local to flow.remote with this ICMP message; its checksum is made.
std::vector<uint8_t> write_icmp(const stack::Flow& flow, Bytes message) {
  const bool v4 = stack::is_ipv4(flow.remote);
  const uint8_t protocol = icmp_of(flow);
  std::vector<uint8_t> packet((v4 ? 20 : 40) + message.size());
  uint8_t* icmp = packet.data() + stack::write_ip(packet.data(), flow, protocol, message.size(), 0);
  std::memcpy(icmp, message.data(), message.size());
  store(icmp + 2, uint16_t{0});
  const uint64_t pseudo = v4 ? 0 : stack::pseudo_sum(flow, protocol, message.size());
  store(icmp + 2, inner::checksum_finish(inner::checksum_payload(icmp, message.size(), pseudo)));
  return packet;
}

}  // namespace

std::optional<Echo> parse_echo(const stack::PacketView& packet) {
  if (packet.protocol != (packet.ip.family == 4 ? stack::kIcmp : stack::kIcmpv6)) return std::nullopt;
  std::vector<uint8_t> message(packet.body.size());
  packet.body.copy_to(message.data());
  return echo_request(stack::address_of(packet.ip.source, packet.ip.address_size),
                      stack::address_of(packet.ip.destination, packet.ip.address_size), std::move(message));
}

std::optional<Echo> echo_request(const stack::Address& from, const stack::Address& to,
                                 std::vector<uint8_t> message) {
  const bool v4 = stack::is_ipv4(from);
  const uint8_t type = v4 ? kRequest4 : kRequest6;
  // An IPv6 packet may have an address that stands for one of IPv4.
  if (v4 != stack::is_ipv4(to) || message.size() < kHeader || message[0] != type || message[1] != 0)
    return std::nullopt;
  Echo echo;
  echo.flow.local = to;
  echo.flow.remote = from;
  echo.flow.remote_port = ntohs(load<uint16_t>(message.data() + 4));
  echo.message = std::move(message);
  return echo;
}

std::vector<uint8_t> echo_reply(const stack::PacketView& packet) {
  std::optional<Echo> echo = parse_echo(packet);
  if (!echo.has_value()) return {};
  echo->message[0] = packet.ip.family == 4 ? kReply4 : kReply6;
  return write_icmp(echo->flow, echo->message);
}

std::vector<uint8_t> echo_of(const stack::Flow& flow, Bytes reply) {
  const uint8_t type = stack::is_ipv4(flow.remote) ? kReply4 : kReply6;
  if (reply.size() < kHeader || reply[0] != type) return {};
  std::vector<uint8_t> message(reply.begin(), reply.end());
  store(message.data() + 4, htons(flow.remote_port));
  return write_icmp(flow, message);
}

std::vector<uint8_t> unreachable_echo(const Echo& echo, inner::Unreachable why) {
  stack::Flow sent;
  sent.local = echo.flow.remote;
  sent.remote = echo.flow.local;
  const Bytes message = echo.message;
  std::vector<uint8_t> request = write_icmp(sent, message.subspan(0, std::min(message.size(), kMostQuoted)));
  return inner::icmp_unreachable(inner::parse_ip(request.data(), request.size()), request.data(), why);
}

}  // namespace omerta::exit
