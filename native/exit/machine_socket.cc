// SPDX-License-Identifier: Apache-2.0
#include "exit/machine_socket.h"

#include <linux/errqueue.h>
#include <unistd.h>

#include <cerrno>

namespace omerta::exit {
namespace {

/// Of ICMP (RFC 792, RFC 1812 5.2.7.1) and ICMPv6 (RFC 4443 3.1): destination unreachable, and its codes.
constexpr uint8_t kUnreachable4 = 3, kPort4 = 3, kTooBig4 = 4, kNetProhibited4 = 9, kHostProhibited4 = 10,
                  kProhibited4 = 13;
constexpr uint8_t kUnreachable6 = 1, kProhibited6 = 1, kPort6 = 4;

/// Of a datagram, while others fail.
constexpr int kTries = 3;

std::optional<inner::Unreachable> reason_of(const sock_extended_err& error) {
  using inner::Unreachable;
  const uint8_t code = error.ee_code;
  if (error.ee_origin == SO_EE_ORIGIN_ICMP && error.ee_type == kUnreachable4 && code != kTooBig4) {
    if (code == kPort4) return Unreachable::port;
    const bool prohibited = code == kNetProhibited4 || code == kHostProhibited4 || code == kProhibited4;
    return prohibited ? Unreachable::prohibited : Unreachable::host;
  }
  if (error.ee_origin == SO_EE_ORIGIN_ICMP6 && error.ee_type == kUnreachable6)
    return code == kPort6         ? Unreachable::port
           : code == kProhibited6 ? Unreachable::prohibited
                                  : Unreachable::host;
  return std::nullopt;
}

}  // namespace

int machine_socket(const Destination& to, int type) {
  const int fd =
      socket(stack::is_ipv4(to.address) ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  // What comes for IPv4 at the port is another socket's.
  if (fd >= 0 && !stack::is_ipv4(to.address)) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (fd < 0 || to.from == 0) return fd;
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = to.from;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) == 0) return fd;
  close(fd);
  return -1;
}

int ping_socket(const stack::Address& of_family) {
  const bool v4 = stack::is_ipv4(of_family);
  return socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
}

void tell_errors(int fd, const stack::Address& of_family) {
  const int on = 1;
  if (stack::is_ipv4(of_family))
    setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on);
  else
    setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on);
}

Sent send_datagram(int fd, Bytes payload, const sockaddr_storage& to, socklen_t size) {
  const auto* const address = size == 0 ? nullptr : reinterpret_cast<const sockaddr*>(&to);
  for (int i = 0; i < kTries; i++) {
    if (sendto(fd, payload.data(), payload.size(), MSG_NOSIGNAL, address, size) >= 0)
      return i == 0 ? Sent::yes : Sent::after_error;
    if (errno == EAGAIN) break;
  }
  return Sent::no;
}

std::optional<SocketError> next_error(int fd, std::span<uint8_t> memory) {
  sockaddr_storage to{};
  alignas(cmsghdr) uint8_t control[512];
  iovec part{memory.data(), memory.size()};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof to;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(fd, &message, MSG_ERRQUEUE);
  if (got < 0) return std::nullopt;
  SocketError out;
  out.quoted = memory.subspan(0, static_cast<size_t>(got));
  out.address = from_system(to, out.port);
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr; each = CMSG_NXTHDR(&message, each)) {
    const bool told = (each->cmsg_level == IPPROTO_IP && each->cmsg_type == IP_RECVERR) ||
                      (each->cmsg_level == IPPROTO_IPV6 && each->cmsg_type == IPV6_RECVERR);
    if (told) out.why = reason_of(load<sock_extended_err>(CMSG_DATA(each)));
  }
  return out;
}

}  // namespace omerta::exit
