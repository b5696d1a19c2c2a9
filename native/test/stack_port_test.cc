// SPDX-License-Identifier: Apache-2.0
// The exit's inside as a worker uses it: it is asked for packets only when its descriptor is readable, and
// not more often than a worker asks. The guest is another stack of ours, the servers are sockets of this
// machine.
#include "exit/stack_port.h"

#include <poll.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <random>

#include "check.h"
#include "exit/machine_socket.h"
#include "inner/segmentation.h"

namespace {

using namespace omerta;
using namespace omerta::check;

constexpr Nanoseconds kPatience = 20 * kSecond;
constexpr size_t kPorts = 8;           // for datagrams, of a guest
constexpr uint64_t kDatagrams = 2000;  // a second, of a guest; a tenth of them at once

stack::Address v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
  const uint8_t bytes[4] = {a, b, c, d};
  return stack::address_of(bytes, 4);
}

const stack::Address kGuest = v4(100, 64, 0, 2), kOther = v4(100, 64, 0, 3), kOwn = v4(100, 64, 0, 1),
                     kServer = v4(127, 0, 0, 1);
constexpr uint32_t kAsksFrom = 0x0500407f;  // 127.64.0.5 in network order, of a little-endian machine

exit::Guest guest(const stack::Address& address, bool with_names = true) {
  return {address, true, false, with_names ? kAsksFrom : 0};
}

/// Of the port: time goes on as it does, and further by what tests skip, or stands still.
Nanoseconds skipped = 0, still = 0;
Nanoseconds skipping_clock() { return still != 0 ? still : boot_clock() + skipped; }

/// An ICMP error, with the ports of the datagram in it.
struct Told {
  stack::Address guest{}, from{};
  uint8_t type = 0, code = 0;
  uint16_t guest_port = 0, port = 0;
};

/// A socket of this machine, bound to 127.0.0.1.
struct Server {
  explicit Server(int type) : fd(socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_storage at;
    socklen_t size = exit::to_system(kServer, 0, at);
    CHECK(bind(fd, reinterpret_cast<sockaddr*>(&at), size) == 0);
    if (type == SOCK_STREAM) CHECK(listen(fd, 16) == 0);
    getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
    exit::from_system(at, port);
  }
  ~Server() { close(fd); }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  int fd;
  uint16_t port = 0;
};

/// Who asks, the port it asks by, and what holds them together.
class World : private stack::Handler {
 public:
  World() : port_(settings(), key(1), policy(*this), skipping_clock), stack_(settings(), *this, key(2)) {
    port_.set_guests({guest(kGuest)});
  }

  exit::StackPort& port() { return port_; }
  /// False where something is not permitted any more.
  bool permitted = true;
  uint16_t only_port = 0;  ///< 0: any may be sent to
  size_t received = 0;     ///< bytes of the stream
  bool opened_ = false, ended_ = false, closed_ = false;
  stack::Ended why = stack::Ended::finished;
  std::map<uint16_t, size_t> datagrams;  ///< that came, by the port they came from
  size_t pongs = 0;
  std::map<stack::Address, size_t> pongs_of;  ///< guests
  std::vector<Told> told;

  stack::Connection* connect(const stack::Address& to, uint16_t at, const stack::Address& from = kGuest) {
    stack::Flow flow;
    flow.local = from;
    flow.remote = to;
    flow.local_port = next_port_++;
    flow.remote_port = at;
    return stack_.connect(flow, boot_clock());
  }
  void send_datagram(const stack::Address& to, uint16_t at, uint16_t from_port,
                     const stack::Address& from = kGuest) {
    stack::Flow flow;
    flow.local = from;
    flow.remote = to;
    flow.local_port = from_port;
    flow.remote_port = at;
    const uint8_t payload[4] = {'p', 'i', 'n', 'g'};
    send(stack::write_datagram(flow, payload));
  }
  void send(std::vector<uint8_t> packet) { port_.send_one(packet.data(), packet.size()); }
  void ping(const stack::Address& to, const stack::Address& from = kGuest) {
    stack::Flow flow;
    flow.local = from;
    flow.remote = to;
    std::vector<uint8_t> packet(20 + 12);
    uint8_t* icmp = packet.data() + stack::write_ip(packet.data(), flow, stack::kIcmp, 12, 0);
    icmp[0] = 8;
    store(icmp + 2, inner::checksum_finish(inner::checksum_payload(icmp, 12)));
    send(std::move(packet));
  }
  /// Goes on, and looks after what has been idle.
  void skip(Nanoseconds time) {
    skipped += time;
    port_.review();
  }

  /// As a worker turns, until it is so, or for `time`.
  bool until(const std::function<bool()>& so, Nanoseconds time = kPatience) {
    const Nanoseconds end = boot_clock() + time;
    for (;;) {
      if (so()) return true;
      if (boot_clock() >= end) return false;
      pollfd ready{port_.descriptor(), POLLIN, 0};
      poll(&ready, 1, 5);
      if ((ready.revents & POLLIN) != 0) receive();
      const Nanoseconds now = boot_clock();
      stack_.advance(now);
      while (const inner::Received* packet = stack_.transmit(now)) give(*packet);
    }
  }

 private:
  static stack::Settings settings() { return {}; }
  static Key32 key(uint8_t byte) {
    Key32 key;
    key.fill(byte);
    return key;
  }
  static exit::ExitPolicy policy(World& world) {
    exit::ExitPolicy policy;
    policy.permits = [&world](const exit::Guest& guest, uint8_t protocol, const stack::Address&,
                              uint16_t port) {
      if (world.only_port != 0 && port != world.only_port) return false;
      return guest.exit && world.permitted && !(protocol == inner::kTcp && port == inner::kMailPort);
    };
    policy.udp_of_guest = kPorts;
    policy.datagrams_per_second = kDatagrams;
    policy.is_own = [](const stack::Address& address) { return address == kOwn; };
    return policy;
  }

  /// As often as a worker asks before it waits again.
  void receive() {
    for (int i = 0; i < 16; i++) {
      const std::span<const inner::Received> got = port_.receive();
      if (got.empty()) return;
      const iovec parts[2] = {
          {const_cast<inner::VirtioNetHeader*>(got[0].header), sizeof(inner::VirtioNetHeader)},
          {got[0].data, got[0].size}};
      stack::PacketView view;
      CHECK(stack::parse_packet(parts, view) == stack::PacketError::none);
      stack::Datagrams datagram;
      if (view.protocol == inner::kTcp)
        stack_.receive(view, boot_clock());
      else if (view.protocol == inner::kUdp && stack::parse_datagrams(view, datagram))
        datagrams[datagram.flow.remote_port]++;
      else if (view.body.size() >= 8 + 28)
        hear(view);
      else {
        pongs++;
        pongs_of[stack::address_of(view.ip.destination, view.ip.address_size)]++;
      }
    }
  }
  void hear(const stack::PacketView& error) {
    std::vector<uint8_t> icmp(error.body.size());
    error.body.copy_to(icmp.data());
    const uint8_t* quoted = icmp.data() + 8;
    told.push_back({stack::address_of(quoted + 12, 4), stack::address_of(error.ip.source, 4), icmp[0],
                    icmp[1], ntohs(load<uint16_t>(quoted + 20)), ntohs(load<uint16_t>(quoted + 22))});
    CHECK(stack::address_of(error.ip.destination, 4) == told.back().guest);
  }
  void give(const inner::Received& packet) {
    const iovec parts[2] = {
        {const_cast<inner::VirtioNetHeader*>(packet.header), sizeof(inner::VirtioNetHeader)},
        {packet.data, packet.size}};
    const inner::Gathered gathered = parts;
    port_.send({&gathered, 1});
  }

  void asked(stack::Connection& connection) override { connection.refuse(); }
  void opened(stack::Connection&) override { opened_ = true; }
  size_t data(stack::Connection&, const stack::Scattered& bytes) override {
    received += bytes.size();
    return bytes.size();
  }
  void ended(stack::Connection& connection) override {
    ended_ = true;
    connection.finish();
  }
  void writable(stack::Connection&) override {}
  void closed(stack::Connection&, stack::Ended how) override {
    closed_ = true;
    why = how;
  }

  exit::StackPort port_;
  stack::Stack stack_;
  uint16_t next_port_ = 40'000;
};

void all_that_waits_is_given_although_nothing_more_comes() {
  World world;
  const Server server(SOCK_DGRAM);
  world.send_datagram(kServer, server.port, 5000);
  sockaddr_storage from{};
  socklen_t size = sizeof from;
  uint8_t buffer[16];
  CHECK(world.until([&] {
    return recvfrom(server.fd, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size) == 4;
  }));
  CHECK(!world.until([] { return false; }, 20 * kMillisecond));  // it has nothing to tell any more
  // More than a worker takes at once, and read of the socket at once.
  constexpr size_t kAnswers = 30;
  for (size_t i = 0; i < kAnswers; i++)
    CHECK(sendto(server.fd, buffer, 4, 0, reinterpret_cast<sockaddr*>(&from), size) == 4);
  // Before the port wakes by itself to look after what is idle.
  CHECK(world.until([&] { return world.datagrams[server.port] == kAnswers; }, 5 * kSecond));
}

void a_stream_comes_whole() {
  World world;
  const Server server(SOCK_STREAM);
  CHECK(world.connect(kServer, server.port) != nullptr);
  int fd = -1;
  CHECK(world.until([&] { return world.opened_ && (fd = accept(server.fd, nullptr, nullptr)) >= 0; }));
  constexpr size_t kBytes = 8'000'000;
  const std::vector<uint8_t> block(100'000, 'x');
  size_t sent = 0;
  CHECK(world.until([&] {
    while (sent < kBytes) {
      const ssize_t took = ::send(fd, block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (took <= 0) break;
      sent += static_cast<size_t>(took);
      if (sent >= kBytes) shutdown(fd, SHUT_WR);
    }
    return world.ended_;
  }));
  CHECK(world.received == sent && sent >= kBytes);
  CHECK(world.until([&] { return world.closed_ && world.why == stack::Ended::finished; }));
  CHECK(world.until([&] { return world.port().counts().tcp == 0; }));
  close(fd);
}

void who_is_no_guest_and_what_is_not_permitted_is_refused() {
  World world;
  const Server stream(SOCK_STREAM), datagrams(SOCK_DGRAM);
  CHECK(world.connect(kServer, stream.port, kOther) != nullptr);
  CHECK(world.until([&] { return world.closed_; }));
  CHECK(world.why == stack::Ended::refused);
  world.closed_ = false;
  CHECK(world.connect(kServer, inner::kMailPort) != nullptr);
  CHECK(world.until([&] { return world.closed_; }));
  world.send_datagram(kServer, datagrams.port, 5000, kOther);
  uint8_t buffer[16];
  CHECK(world.until([&] { return world.port().counts().refused == 3; }));
  CHECK(recv(datagrams.fd, buffer, sizeof buffer, 0) < 0);
  CHECK(world.port().counts().tcp == 0 && world.port().counts().udp == 0);
}

void what_is_permitted_no_more_ends() {
  World world;
  const Server server(SOCK_STREAM), datagrams(SOCK_DGRAM);
  world.connect(kServer, server.port);
  world.send_datagram(kServer, datagrams.port, 5000);
  CHECK(world.until(
      [&] { return world.opened_ && world.port().counts().tcp == 1 && world.port().counts().udp == 1; }));
  world.permitted = false;
  world.port().review();
  CHECK(world.until([&] { return world.closed_ && world.why == stack::Ended::reset; }));
  CHECK(world.until([&] { return world.port().counts().tcp == 0; }));
  world.port().set_guests({guest(kOther)});
  CHECK(world.until([&] { return world.port().counts().udp == 0; }));
}

void names_are_asked_of_the_resolver_as_of_each_guest() {
  World world;
  const Server resolver(SOCK_DGRAM), by_stream(SOCK_STREAM);
  world.port().set_names({{kOwn, resolver.port, by_stream.port}});
  constexpr uint16_t kNames = 53;
  // More than there may be ports: each ends with its answer.
  for (uint16_t i = 0; i < 3 * kPorts; i++) {
    world.send_datagram(kOwn, kNames, static_cast<uint16_t>(6000 + i));
    sockaddr_storage from{};
    socklen_t size = sizeof from;
    uint8_t buffer[16];
    const bool came = world.until([&] {
      return recvfrom(resolver.fd, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size) == 4;
    });
    CHECK(came);
    if (!came) return;
    CHECK(reinterpret_cast<const sockaddr_in*>(&from)->sin_addr.s_addr == kAsksFrom);
    sendto(resolver.fd, buffer, 4, 0, reinterpret_cast<sockaddr*>(&from), size);
    CHECK(world.until([&] { return world.datagrams[kNames] == i + 1U; }));
  }
  CHECK(world.until([&] { return world.port().counts().udp == 0; }));
  CHECK(world.connect(kOwn, kNames) != nullptr);
  CHECK(world.until([&] { return world.opened_; }));
  // Nothing else of this node is reached, and nobody asks who may not.
  const uint64_t refused = world.port().counts().refused;
  world.send_datagram(kOwn, 54, 5000);
  CHECK(world.until([&] { return world.port().counts().refused == refused + 1; }));
  world.port().set_guests({guest(kGuest, false)});
  world.send_datagram(kOwn, kNames, 5001);
  CHECK(world.until([&] { return world.port().counts().refused == refused + 2; }));
}

void a_resolver_that_is_begun_anew_is_asked_by_who_waits_for_the_former_one() {
  World world;
  const Server former(SOCK_DGRAM), anew(SOCK_DGRAM);
  const auto asked = [](const Server& server) {
    uint8_t buffer[16];
    return recv(server.fd, buffer, sizeof buffer, 0) == 4;
  };
  world.port().set_names({{kOwn, former.port, 0}});
  world.send_datagram(kOwn, 53, 6000);
  CHECK(world.until([&] { return asked(former); }));
  world.port().set_names({{kOwn, anew.port, 0}});
  world.send_datagram(kOwn, 53, 6000);
  CHECK(world.until([&] { return asked(anew); }));
}

void pings_of_this_node_are_answered_and_those_of_others_go_on() {
  World world;
  world.ping(kOwn);
  CHECK(world.until([&] { return world.pongs == 1; }));
  const int allowed = exit::ping_socket(kServer);
  if (allowed >= 0) close(allowed);
  world.ping(kServer);
  if (allowed >= 0) {
    CHECK(world.until([&] { return world.pongs == 2 && world.port().counts().udp == 1; }));
    world.skip(50 * kSecond);
    CHECK(!world.until([&] { return world.port().counts().udp == 0; }, 50 * kMillisecond));
    world.skip(20 * kSecond);
    CHECK(world.until([&] { return world.port().counts().udp == 0; }));
  } else {
    CHECK(world.until([&] { return world.told.size() == 1; }));
    CHECK(!world.told.empty() && world.told.front().type == 3 && world.told.front().code == 13);
    CHECK(world.port().counts().refused == 1);
  }
  world.ping(kServer, kOther);  // who is no guest
  CHECK(world.until([&] { return world.port().counts().refused == (allowed >= 0 ? 1U : 2U); }));
  CHECK(world.pongs_of[kOther] == 0);
}

void who_pings_without_end_takes_no_answer_of_another() {
  World world;
  for (int i = 0; i < 5000; i++) world.ping(kOwn);
  world.ping(kOwn, kOther);
  CHECK(world.until([&] { return world.pongs_of[kOther] == 1; }));
  CHECK(world.pongs_of[kGuest] == exit::Answers::kMostOfGuest);
  world.ping(kOwn);  // what was sent leaves its places to others
  CHECK(world.until([&] { return world.pongs_of[kGuest] == exit::Answers::kMostOfGuest + 1; }));
}

void a_datagram_that_nobody_takes_is_said_to_be_so() {
  World world;
  const Server server(SOCK_DGRAM);
  uint16_t nobody = 0;
  {
    const Server gone(SOCK_DGRAM);
    nobody = gone.port;
  }
  world.send_datagram(kServer, nobody, 5000);
  CHECK(world.until([&] { return !world.told.empty(); }));
  CHECK(world.told.size() == 1);
  if (world.told.empty()) return;
  const Told& told = world.told.front();
  CHECK(told.type == 3 && told.code == 3);
  CHECK(told.guest == kGuest && told.from == kServer);
  CHECK(told.guest_port == 5000 && told.port == nobody);
  // What the system keeps of it takes no other datagram along.
  world.send_datagram(kServer, nobody, 5000);
  world.send_datagram(kServer, server.port, 5000);
  uint8_t buffer[16];
  CHECK(world.until([&] { return recv(server.fd, buffer, sizeof buffer, 0) == 4; }));
  CHECK(world.until([&] { return world.told.size() == 2; }));
}

void a_datagram_beyond_a_bound_is_said_to_be_prohibited_and_others_are_carried() {
  World world;
  const Server server(SOCK_DGRAM);
  world.port().set_guests({guest(kGuest), guest(kOther)});
  for (uint16_t i = 0; i <= kPorts; i++)
    world.send_datagram(kServer, server.port, static_cast<uint16_t>(5000 + i));
  CHECK(world.until([&] { return world.told.size() == 1; }));
  CHECK(!world.told.empty() && world.told.front().type == 3 && world.told.front().code == 13);
  CHECK(!world.told.empty() && world.told.front().guest_port == 5000 + kPorts);
  uint8_t buffer[16];
  size_t came = 0;
  const auto arrived = [&](size_t count) {
    return world.until([&] {
      while (recv(server.fd, buffer, sizeof buffer, 0) == 4) came++;
      return came == count;
    });
  };
  CHECK(arrived(kPorts));
  world.send_datagram(kServer, server.port, 5000, kOther);
  CHECK(arrived(kPorts + 1));
  CHECK(world.until([&] { return world.port().counts().udp == kPorts + 1; }));
  CHECK(world.port().counts().refused == 1);
  // Who is no guest is told nothing.
  world.port().set_guests({guest(kOther)});
  world.send_datagram(kServer, server.port, 5000);
  CHECK(world.until([&] { return world.port().counts().refused == 2; }));
  CHECK(world.told.size() == 1);
}

void what_comes_too_fast_is_counted_and_others_are_carried() {
  World world;
  const Server server(SOCK_DGRAM), stream(SOCK_STREAM);
  world.port().set_guests({guest(kGuest), guest(kOther)});
  constexpr uint64_t kMany = 3000;
  still = skipping_clock();
  for (uint64_t i = 0; i < kMany; i++) world.send_datagram(kServer, server.port, 5000);
  CHECK(world.until([&] { return world.port().counts().udp == 1; }));
  CHECK(world.port().counts().datagrams_too_fast == kMany - kDatagrams / 10);
  world.send_datagram(kServer, server.port, 6000, kOther);
  CHECK(world.until([&] { return world.port().counts().udp == 2; }));

  // The port was a flow as well. As many as begin are refused by who is not there.
  uint16_t nobody = 0;
  {
    const Server gone(SOCK_STREAM);
    nobody = gone.port;
  }
  constexpr uint64_t kFlows = 500, kBegun = 200;
  for (uint64_t i = 0; i < kFlows; i++)
    CHECK(world.until([&] { return world.connect(kServer, nobody) != nullptr; }));  // some at once
  CHECK(world.until([&] { return world.port().counts().flows_too_fast >= kFlows - (kBegun - 1); }));
  CHECK(world.port().counts().flows_too_fast == kFlows - (kBegun - 1));
  CHECK(world.port().counts().refused == 0);
  CHECK(world.connect(kServer, stream.port, kOther) != nullptr);
  CHECK(world.until([&] { return world.opened_; }));
  still = 0;
}

void who_is_silent_for_long_is_forgotten() {
  World world;
  const Server server(SOCK_DGRAM), stream(SOCK_STREAM);
  world.send_datagram(kServer, server.port, 5000);
  CHECK(world.connect(kServer, stream.port) != nullptr);
  CHECK(world.until([&] { return world.opened_ && world.port().counts().udp == 1; }));
  constexpr Nanoseconds kMinute = 60 * kSecond;
  world.skip(4 * kMinute);
  world.send_datagram(kServer, server.port, 5001);
  CHECK(world.until([&] { return world.port().counts().udp == 2; }));
  world.skip(2 * kMinute);
  CHECK(world.until([&] { return world.port().counts().udp == 1; }));
  world.skip(5 * kMinute);
  CHECK(world.until([&] { return world.port().counts().udp == 0; }));
  CHECK(!world.closed_ && world.port().counts().tcp == 1);
  world.skip(112 * kMinute);
  CHECK(!world.until([&] { return world.closed_; }, 100 * kMillisecond));
  world.skip(2 * kMinute);
  CHECK(world.until([&] { return world.closed_ && world.why == stack::Ended::reset; }));
  CHECK(world.until([&] { return world.port().counts().tcp == 0; }));
}

void who_does_not_answer_is_waited_for_ten_seconds() {
  World world;
  const Server full(SOCK_STREAM);
  listen(full.fd, 0);
  // Beyond the one that waits to be accepted the system answers nobody.
  std::vector<int> waiting;
  sockaddr_storage at;
  const socklen_t size = exit::to_system(kServer, full.port, at);
  for (int i = 0; i < 4; i++) {
    waiting.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    connect(waiting.back(), reinterpret_cast<const sockaddr*>(&at), size);
  }
  CHECK(world.connect(kServer, full.port) != nullptr);
  CHECK(world.until([&] { return world.port().counts().tcp == 1; }));
  world.skip(9 * kSecond);
  CHECK(!world.until([&] { return world.closed_; }, 100 * kMillisecond));
  world.skip(2 * kSecond);
  CHECK(world.until([&] { return world.closed_ && world.port().counts().tcp == 0; }));
  CHECK(!world.opened_);
  for (const int fd : waiting) close(fd);
}

void nothing_that_a_guest_sends_takes_it_from_others() {
  World world;
  const Server server(SOCK_STREAM);
  world.only_port = server.port;
  std::mt19937_64 random(7);
  const auto below = [&](size_t bound) {
    return std::uniform_int_distribution<size_t>(0, bound - 1)(random);
  };
  for (int i = 0; i < 20'000; i++) {
    stack::Flow flow;
    flow.local = kGuest;
    flow.remote = below(2) == 0 ? kOwn : kServer;
    flow.local_port = static_cast<uint16_t>(random());
    flow.remote_port = below(2) == 0 ? server.port : static_cast<uint16_t>(random());
    const uint8_t protocols[] = {inner::kTcp, inner::kUdp, stack::kIcmp, static_cast<uint8_t>(random())};
    const size_t size = below(60);
    std::vector<uint8_t> packet(20 + size);
    stack::write_ip(packet.data(), flow, protocols[below(4)], size, 0);
    for (size_t at = 20; at < packet.size(); at++) packet[at] = static_cast<uint8_t>(random());
    if (below(4) == 0) packet[below(20)] ^= static_cast<uint8_t>(1U << below(8));
    packet.resize(1 + below(packet.size()));
    // As joined: nobody looks at the checksum any more.
    inner::VirtioNetHeader header{};
    header.flags = inner::kDataValid;
    header.gso_size = static_cast<uint16_t>(random());
    header.gso_type = below(2) == 0 ? inner::kGsoNone : inner::kGsoUdp;
    const iovec parts[2] = {{&header, sizeof header}, {packet.data(), packet.size()}};
    const inner::Gathered gathered = parts;
    CHECK(world.port().send({&gathered, 1}).count == 1);
    if (i % 64 == 0) world.until([] { return false; }, kMillisecond / 10);
  }
  CHECK(world.until([&] { return world.port().counts().udp <= kPorts; }));
  world.port().set_guests({guest(kOther)});
  CHECK(world.connect(kServer, server.port, kOther) != nullptr);
  world.opened_ = false;
  CHECK(world.until([&] { return world.opened_; }));
}

}  // namespace

int main() {
  RUN(all_that_waits_is_given_although_nothing_more_comes);
  RUN(a_stream_comes_whole);
  RUN(who_is_no_guest_and_what_is_not_permitted_is_refused);
  RUN(what_is_permitted_no_more_ends);
  RUN(names_are_asked_of_the_resolver_as_of_each_guest);
  RUN(a_resolver_that_is_begun_anew_is_asked_by_who_waits_for_the_former_one);
  RUN(pings_of_this_node_are_answered_and_those_of_others_go_on);
  RUN(who_pings_without_end_takes_no_answer_of_another);
  RUN(a_datagram_that_nobody_takes_is_said_to_be_so);
  RUN(a_datagram_beyond_a_bound_is_said_to_be_prohibited_and_others_are_carried);
  RUN(what_comes_too_fast_is_counted_and_others_are_carried);
  RUN(who_is_silent_for_long_is_forgotten);
  RUN(who_does_not_answer_is_waited_for_ten_seconds);
  RUN(nothing_that_a_guest_sends_takes_it_from_others);
  return finish();
}
