// SPDX-License-Identifier: Apache-2.0
#include "exit/icmp_socket.h"

#include <linux/icmp.h>
#include <netinet/icmp6.h>

#include <cerrno>

#include "exit/machine_socket.h"

namespace omerta::exit {
namespace {

constexpr size_t kHeader4 = 20, kHeader6 = 40;

/// As sendmsg(2) takes it: the address a packet is sent from, which is nobody's in that network.
template <class PacketInfo>
size_t put_source(msghdr& message, int level, int type, const PacketInfo& info) {
  cmsghdr* control = CMSG_FIRSTHDR(&message);
  control->cmsg_level = level;
  control->cmsg_type = type;
  control->cmsg_len = CMSG_LEN(sizeof info);
  std::memcpy(CMSG_DATA(control), &info, sizeof info);
  return CMSG_SPACE(sizeof info);
}

}  // namespace

bool take_echo_requests(int fd, int family) {
  if (family == AF_INET) {
    icmp_filter filter{~(1U << ICMP_ECHO)};
    return setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof filter) == 0;
  }
  icmp6_filter filter;
  ICMP6_FILTER_SETBLOCKALL(&filter);
  ICMP6_FILTER_SETPASS(ICMP6_ECHO_REQUEST, &filter);
  return setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter) == 0;
}

std::optional<Echo> received_echo(const stack::Address& from, const stack::Address& to, Bytes received) {
  const size_t header =
      stack::is_ipv4(from) && !received.empty() ? static_cast<size_t>(received[0] & 15) * 4 : 0;
  if (received.size() < header) return std::nullopt;
  const Bytes message = received.subspan(header);
  return echo_request(from, to, {message.begin(), message.end()});
}

bool send_icmp(int fd, std::vector<uint8_t> packet) {
  const inner::IpView ip = inner::parse_ip(packet.data(), packet.size());
  if (ip.family == 0) {
    errno = EINVAL;
    return false;
  }
  // The header is the kernel's, which fragments what is too large.
  const auto icmp = std::span(packet).subspan(ip.family == 4 ? kHeader4 : kHeader6);
  sockaddr_storage to;
  const stack::Address destination = stack::address_of(ip.destination, ip.address_size);
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(in6_pktinfo))] = {};
  iovec part{icmp.data(), icmp.size()};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = to_system(destination, 0, to);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (ip.family == 4) {
    in_pktinfo info{};
    std::memcpy(&info.ipi_spec_dst, ip.source, sizeof info.ipi_spec_dst);
    message.msg_controllen = put_source(message, IPPROTO_IP, IP_PKTINFO, info);
  } else {
    in6_pktinfo info{};
    std::memcpy(&info.ipi6_addr, ip.source, sizeof info.ipi6_addr);
    message.msg_controllen = put_source(message, IPPROTO_IPV6, IPV6_PKTINFO, info);
  }
  return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

}  // namespace omerta::exit
