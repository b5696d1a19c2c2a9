// SPDX-License-Identifier: Apache-2.0
#include "udp/steering.h"

#include <linux/filter.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif

namespace omerta::udp {
namespace {

constexpr uint32_t kTransport = 0x04000000;  // loads of a filter are big-endian
constexpr uint32_t kForwardFrame = 0x6f01;
constexpr size_t kIdOffset = 4;
constexpr uint32_t kShortest = 8;
/// No socket has this number: the kernel goes by the addresses then.
constexpr uint32_t kUndecided = UINT32_MAX;

/// `undecided`: what becomes of what is no session's and no leg's.
bool attach(int fd, size_t sockets, const sock_filter (&undecided)[3]) {
  const auto count = static_cast<uint32_t>(sockets);
  // The kernel shows the filter the datagram from its UDP payload on.
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kShortest, 0, 7),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kTransport, 2, 0),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kForwardFrame, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIdOffset),
      BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count),
      BPF_STMT(BPF_RET | BPF_A, 0),
      undecided[0],
      undecided[1],
      undecided[2],
  };
  const sock_fprog program{sizeof code / sizeof code[0], code};
  return setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) == 0;
}

}  // namespace

Steering steer_shared_port(int fd, size_t sockets) {
  if (sockets < 2) return {false, {"one-worker", {}}};
  constexpr sock_filter by_addresses = BPF_STMT(BPF_RET | BPF_K, kUndecided);
  if (!attach(fd, sockets, {by_addresses, by_addresses, by_addresses}))
    return {false, {"call-refused", "SO_ATTACH_REUSEPORT_CBPF", static_cast<double>(errno)}};
  return {true, {"steered", {}}};
}

bool steer_past_lanes(int fd, size_t receivers) {
  // By the addresses the kernel would choose among the lanes too.
  return attach(
      fd, receivers,
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)),
       BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, static_cast<uint32_t>(receivers)), BPF_STMT(BPF_RET | BPF_A, 0)});
}

}  // namespace omerta::udp
