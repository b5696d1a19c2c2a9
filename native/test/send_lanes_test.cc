// SPDX-License-Identifier: Apache-2.0
// In a network namespace of its own, with a way out of 2 Mbit/s that holds megabytes.
#include "udp/send_lanes.h"

#include <sched.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "loopback.h"
#include "udp/io_choice.h"
#include "udp/steering.h"

namespace {

using namespace omerta;
using namespace omerta::udp;
using omerta::check::loopback;

constexpr int kSkipped = 77;
constexpr size_t kBytes = 1200;

bool run(const std::string& command) { return std::system((command + " 2>/dev/null").c_str()) == 0; }

bool make_host() {
  return unshare(CLONE_NEWNET) == 0 && run("ip link set lo up") &&
         run("ip link add slow type veth peer name far && ip link set slow up && ip link set far up") &&
         run("ip address add 198.51.100.2/24 dev slow") &&
         run("for i in $(seq 9 16); do ip neighbour add 198.51.100.$i lladdr 02:00:00:00:00:09 dev slow; "
             "done") &&
         run("ip link add narrow type veth peer name end && ip link set end up") &&
         run("ip link set narrow up mtu 600 && ip address add 203.0.113.2/24 dev narrow") &&
         run("ip neighbour add 203.0.113.9 lladdr 02:00:00:00:00:09 dev narrow") &&
         run("tc qdisc add dev slow root tbf rate 2mbit burst 16k limit 100mb");
}

omerta_address host(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  omerta_address address{};
  const uint8_t ip[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d};
  std::memcpy(address.ip, ip, sizeof ip);
  address.port = __builtin_bswap16(9);
  return address;
}

omerta_address behind_the_slow_way() { return host(198, 51, 100, 9); }

IoKind kind = IoKind::mmsg;

SocketOptions options(uint16_t port = 0, size_t receivers = 1) {
  SocketOptions o;
  o.port = port;
  o.shared_port = receivers > 1;
  o.receivers = receivers;
  o.steered = receivers > 1;
  o.buffer_bytes = 1 << 20;
  return o;
}

/// A socket as a worker has it.
struct Port {
  explicit Port(const SocketOptions& options)
      : socket(options), io(make_io(kind, socket)), batch(socket.gso()), memory(64 * kBytes) {
    io->start();
  }
  ~Port() { io->stop(); }
  void send(const omerta_address& to, size_t rounds) {
    for (size_t i = 0; i < rounds; i++) {
      batch.append(to, {}, memory.data(), memory.size(), kBytes, 0);
      io->flush(batch, counters);
    }
  }
  /// Datagrams that arrive until there are so many, or none for `patience` ms.
  size_t receive(size_t wanted, int patience = 10'000) {
    CounterRow received;
    while (received.get(Counter::rx_datagrams) < wanted && io->wait(patience).socket) do
        io->receive(received);
      while (io->release());
    return received.get(Counter::rx_datagrams);
  }
  UdpSocket socket;
  std::unique_ptr<SocketIo> io;
  SendBatch batch;
  std::vector<uint8_t> memory;
  CounterRow counters;
};

void a_full_way_out_delays_nobody_and_loses_nothing_of_others() {
  Port node(options());
  Port other(options());
  const auto begin = std::chrono::steady_clock::now();
  node.send(behind_the_slow_way(), 200);
  CHECK(node.counters.get(Counter::drop_send_queue) > 0);
  for (int i = 0; i < 50; i++) {
    node.send(behind_the_slow_way(), 1);
    node.send(loopback(other.socket.port()), 1);
    CHECK(other.receive(64) == 64);
  }
  // Neither does the control thread.
  const uint8_t byte = 1;
  for (int i = 0; i < 100; i++) {
    CHECK(node.socket.send_one(loopback(other.socket.port()), {}, &byte, 1, 0) == 0);
    node.socket.send_one(behind_the_slow_way(), {}, node.memory.data(), kBytes, 0);
  }
  CHECK(other.receive(100) == 100);
  // It is 19 MB: more than a minute at 2 Mbit/s.
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));
  // What arrives is the socket's, and not a lane's; many senders, so that a hash would find a lane.
  for (int i = 0; i < 40; i++) {
    Port sender(options());
    for (int j = 0; j < 5; j++)
      CHECK(sender.socket.send_one(loopback(node.socket.port()), {}, &byte, 1, 0) == 0);
  }
  CHECK(node.receive(200) == 200);
}

/// 50 others: one that shared a lane with one of eight full ones would be sent nothing.
void no_other_destination_shares_the_lane_of_a_full_one() {
  Port node(options());
  Port other(options());
  for (uint8_t to = 9; to < 17; to++) node.send(host(198, 51, 100, to), 60);
  CHECK(node.counters.get(Counter::drop_send_queue) > 0);
  for (uint8_t to = 1; to <= 50; to++) {
    node.send(behind_the_slow_way(), 1);
    omerta_address near = host(127, 0, 0, to);
    near.port = __builtin_bswap16(other.socket.port());
    node.send(near, 1);
    CHECK(other.receive(64, 2000) == 64);
  }
}

void a_lane_passes_on_when_its_destination_is_sent_nothing() {
  UdpSocket socket(options());
  UdpSocket receiver(options());
  SendLanes lanes(1, false);
  const uint8_t byte = 1;
  iovec part{const_cast<uint8_t*>(&byte), 1};
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  name.sin6_addr = IN6ADDR_LOOPBACK_INIT;
  name.sin6_port = loopback(receiver.port()).port;
  msghdr header{};
  header.msg_name = &name;
  header.msg_namelen = sizeof name;
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  // More destinations than lanes, at once and one after the other: all are sent to.
  for (int round = 0; round < 2; round++) {
    for (size_t i = 1; i <= 2 * SendLanes::kLanes; i++)
      CHECK(lanes.send(socket.fd(), 0, header, host(127, 0, 0, static_cast<uint8_t>(i))) == 0);
    timespec pause{1, 100'000'000};
    nanosleep(&pause, nullptr);
  }
}

void what_is_not_to_be_fragmented_goes_by_no_lane() {
  Port node(options());
  const omerta_address behind_600_bytes = host(203, 0, 113, 9);
  const uint8_t* data = node.memory.data();
  node.send(behind_the_slow_way(), 200);
  CHECK(node.socket.is_full());
  CHECK(node.socket.send_one(behind_600_bytes, {}, data, kBytes, 0) == 0);
  CHECK(node.socket.send_unfragmented(behind_600_bytes, {}, data, kBytes) == EMSGSIZE);
}

void lanes_receive_nothing_beside_several_workers() {
  Port first(options(0, 2));
  Port second(options(first.socket.port(), 2));
  CHECK(steer_shared_port(first.socket.fd(), 2).on);
  first.send(behind_the_slow_way(), 100);
  second.send(behind_the_slow_way(), 100);
  CHECK(first.counters.get(Counter::drop_send_queue) > 0);
  for (int i = 0; i < 40; i++) {
    Port sender(options());
    const uint8_t byte = 1;
    for (int j = 0; j < 5; j++)
      CHECK(sender.socket.send_one(loopback(first.socket.port()), {}, &byte, 1, 0) == 0);
  }
  size_t received = 0;
  for (int i = 0; i < 50 && received < 200; i++)
    for (Port* each : {&first, &second}) received += each->receive(200 - received, 100);
  CHECK(received == 200);
}

void the_port_is_shared_with_nobody_when_lanes_are_closed() {
  UdpSocket socket(options());
  SendLanes lanes(1, false, 0);
  const auto other_binds = [&] {
    SocketOptions o = options(socket.port());
    o.shared_port = true;
    try {
      const UdpSocket other(o);
      return true;
    } catch (const std::system_error&) {
      return false;
    }
  };
  CHECK(!other_binds());
  const uint8_t byte = 1;
  iovec part{const_cast<uint8_t*>(&byte), 1};
  const auto sends = [&](uint16_t port) {
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    to.sin6_addr = IN6ADDR_LOOPBACK_INIT;
    to.sin6_port = port;
    msghdr header{};
    header.msg_name = &to;
    header.msg_namelen = sizeof to;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    return lanes.send(socket.fd(), 0, header, loopback(port)) == 0;
  };
  for (int round = 0; round < 2; round++) {
    CHECK(sends(9));
    CHECK(other_binds());  // by the same user, while there are lanes
    lanes.close_unused();
    CHECK(!other_binds());
  }
}

}  // namespace

int main() {
  if (!make_host()) {
    std::printf("SKIP: a network namespace with a slow way out needs root and tc (tbf)\n");
    return kSkipped;
  }
  const IoChoice ring = choose_io(IoWanted::io_uring);
  for (const IoKind each : {IoKind::mmsg, IoKind::io_uring}) {
    if (each == IoKind::io_uring && ring.refused) continue;
    kind = each;
    RUN(a_full_way_out_delays_nobody_and_loses_nothing_of_others);
    RUN(no_other_destination_shares_the_lane_of_a_full_one);
    RUN(a_lane_passes_on_when_its_destination_is_sent_nothing);
    RUN(what_is_not_to_be_fragmented_goes_by_no_lane);
    RUN(lanes_receive_nothing_beside_several_workers);
    RUN(the_port_is_shared_with_nobody_when_lanes_are_closed);
  }
  return omerta::check::finish();
}
