// SPDX-License-Identifier: Apache-2.0
// Ordinary sockets of the machine, by which an exit's inner side goes on.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "exit/guests.h"
#include "inner/icmp_error.h"

namespace omerta::exit {

/// An address and a port as the system has them. @returns the size
inline socklen_t to_system(const stack::Address& address, uint16_t port, sockaddr_storage& out) {
  out = {};
  if (stack::is_ipv4(address)) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, address.data() + 12, 4);
    std::memcpy(&out, &v4, sizeof v4);
    return sizeof v4;
  }
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  std::memcpy(&v6.sin6_addr, address.data(), 16);
  std::memcpy(&out, &v6, sizeof v6);
  return sizeof v6;
}

inline stack::Address from_system(const sockaddr_storage& from, uint16_t& port) {
  if (from.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &from, sizeof v4);
    port = ntohs(v4.sin_port);
    return stack::address_of(reinterpret_cast<const uint8_t*>(&v4.sin_addr), 4);
  }
  sockaddr_in6 v6;
  std::memcpy(&v6, &from, sizeof v6);
  port = ntohs(v6.sin6_port);
  return stack::address_of(v6.sin6_addr.s6_addr, 16);
}

/// A socket of the family of a destination, not blocking, bound where that says from where. -1 and errno.
int machine_socket(const Destination& to, int type);

/// A socket for echo requests and their replies (icmp(7)), not blocking. -1 and errno: EACCES where
/// net.ipv4.ping_group_range has no group of this process.
int ping_socket(const stack::Address& of_family);

enum class Sent : uint8_t {
  yes,
  after_error,  ///< what the network says of an earlier one is there to be read
  no,           ///< errno
};

/// Sends a datagram; to: where the socket is connected to when its size is 0. An error may be of one that was
/// sent before (ip(7), IP_RECVERR), so it is tried again.
Sent send_datagram(int fd, Bytes payload, const sockaddr_storage& to, socklen_t size);

/// What the network says of a datagram that was sent.
struct SocketError {
  stack::Address address{};  ///< it was sent to
  uint16_t port = 0;
  std::optional<inner::Unreachable> why;  ///< nullopt: it may have arrived
  Bytes quoted;                           ///< as much of its payload as is known
};

/// From now on next_error() has what the network says of datagrams of this socket (ip(7), IP_RECVERR).
void tell_errors(int fd, const stack::Address& of_family);
/// The next; nullopt: there is none. `memory` is where its payload is put.
std::optional<SocketError> next_error(int fd, std::span<uint8_t> memory);

}  // namespace omerta::exit
