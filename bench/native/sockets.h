// SPDX-License-Identifier: Apache-2.0
// Sockets, namespaces and the clock, for every tool in here.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

namespace omerta::bench {

constexpr uint64_t kSecond = 1'000'000'000;

[[noreturn]] inline void fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

inline sockaddr_in ipv4(const char* ip, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, ip, &address.sin_addr) != 1) {
    std::fprintf(stderr, "\"%s\" is not an IPv4 address\n", ip);
    std::exit(2);
  }
  return address;
}

/// A UDP socket bound to `port` of all addresses, with buffers of `buffer_bytes`.
inline int udp_socket(uint16_t port, int buffer_bytes) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof buffer_bytes);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer_bytes, sizeof buffer_bytes);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(port);
  if (bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) fail("bind");
  return fd;
}

/// Appends a control message of one value at `at`; returns the bytes it took.
template <typename T>
size_t put_control(uint8_t* at, int level, int type, T value) {
  auto* control = reinterpret_cast<cmsghdr*>(at);
  control->cmsg_level = level;
  control->cmsg_type = type;
  control->cmsg_len = CMSG_LEN(sizeof value);
  std::memcpy(CMSG_DATA(control), &value, sizeof value);
  return CMSG_SPACE(sizeof value);
}

/// ns of CLOCK_MONOTONIC.
inline uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
}

/// Moves this thread to a network namespace (a path as of `ip netns`); sockets stay where they were made.
inline void enter(const std::string& netns) {
  const int fd = open(netns.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) fail(netns.c_str());
  close(fd);
}

}  // namespace omerta::bench
