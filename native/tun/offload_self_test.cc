// SPDX-License-Identifier: Apache-2.0
#include "tun/offload_self_test.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <future>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "inner/coalescing.h"
#include "inner/segmentation.h"
#include "tun/tun_device.h"
#include "tun/tun_port.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

namespace omerta::tun {
namespace {

using namespace inner;

using Buffer = std::vector<uint8_t>;
using Packets = std::vector<Buffer>;

constexpr int kPatienceMs = 100;
constexpr size_t kMtu = 1500;
/// The machine "behind" the interface, which this test plays.
constexpr uint16_t kPeerPort = 4000;
constexpr uint8_t kSyn = 0x02, kPsh = 0x08, kAck = 0x10;

/// A step that went wrong: what is to be told.
struct Failure {
  std::string what;
};

[[noreturn]] void fail(std::string what) { throw Failure{std::move(what)}; }

Buffer pattern(size_t size, size_t seed) {
  Buffer bytes(size);
  for (size_t i = 0; i < size; i++) bytes[i] = static_cast<uint8_t>((i * 7 + i / 251 + seed) * 31);
  return bytes;
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {
    if (fd_ < 0) fail(std::string("socket: ") + std::strerror(errno));
  }
  ~Descriptor() { close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return fd_; }

 private:
  int fd_;
};

bool readable(int fd) {
  pollfd ready{fd, POLLIN, 0};
  return poll(&ready, 1, kPatienceMs) > 0;
}

/// The scratch interface, and both ends of what goes through it for one address family.
class Wire {
 public:
  Wire(const TunDevice& tun, uint8_t family) : tun_(tun), port_(tun, 0), family_(family) {
    local_ = family == 4 ? Buffer{192, 0, 2, 1} : Buffer(16, 0);
    if (family == 6) local_[0] = 0xfe, local_[1] = 0x80, local_[15] = 1;
    peer_ = local_;
    peer_.back() = 2;
  }

  /// A socket of this machine's own address; `port` becomes the one the kernel chose.
  int open_socket(int type, uint16_t& port) const {
    const int fd = socket(family_ == 4 ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return fd;
    sockaddr_storage address{};
    socklen_t size = fill(address, local_, 0);
    // The kernel makes an IPv6 address usable a moment after it was given.
    int bound = bind(fd, reinterpret_cast<sockaddr*>(&address), size);
    for (int tries = 0; bound != 0 && errno == EADDRNOTAVAIL && tries < kPatienceMs; tries++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      bound = bind(fd, reinterpret_cast<sockaddr*>(&address), size);
    }
    if (bound != 0 || getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      close(fd);
      return -1;
    }
    port = ntohs(family_ == 4 ? reinterpret_cast<sockaddr_in&>(address).sin_port
                              : reinterpret_cast<sockaddr_in6&>(address).sin6_port);
    return fd;
  }
  void connect_to_peer(int fd) const {
    sockaddr_storage address{};
    const socklen_t size = fill(address, peer_, kPeerPort);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), size) != 0) fail("connect");
  }

  /// A packet of the peer's with this transport header and payload; its checksum at `checksum_at`.
  Buffer packet(uint8_t protocol, const Buffer& transport, size_t checksum_at) {
    const size_t header = family_ == 4 ? 20 : 40;
    Buffer p(header + transport.size());
    if (family_ == 4) {
      p[0] = 0x45;
      store(p.data() + 2, htons(static_cast<uint16_t>(p.size())));
      store(p.data() + 4, htons(identification_++));
      p[6] = 0x40;
      p[8] = 64;
      p[9] = protocol;
      std::memcpy(p.data() + 12, peer_.data(), 4);
      std::memcpy(p.data() + 16, local_.data(), 4);
      store(p.data() + 10, checksum_finish(checksum_add(p.data(), 20)));
    } else {
      p[0] = 0x60;
      store(p.data() + 4, htons(static_cast<uint16_t>(transport.size())));
      p[6] = protocol;
      p[7] = 64;
      std::memcpy(p.data() + 8, peer_.data(), 16);
      std::memcpy(p.data() + 24, local_.data(), 16);
    }
    std::memcpy(p.data() + header, transport.data(), transport.size());
    const IpView ip = parse_ip(p.data(), p.size());
    store(p.data() + header + checksum_at,
          checksum_finish(checksum_add(p.data() + header, transport.size(),
                                       pseudo_header_sum(ip, protocol, transport.size()))));
    return p;
  }

  /// Hands the peer's packets to the kernel; together they have to become as few writes as that allows.
  void deliver(Packets& packets, bool joined) {
    CounterRow counters;
    Coalescing coalescing(port_, joined, joined);
    for (Buffer& p : packets) coalescing.add(p.data(), parse_ip(p.data(), p.size()), counters);
    coalescing.flush(counters);
    if (counters.get(Counter::drop_tun_write) != 0) fail("a packet is refused");
    if (joined && counters.get(Counter::tun_tx_writes) != 1) fail("a super-packet is refused");
  }

  /// Packets from this port to the peer that the kernel hands over with one read, segmented; every
  /// checksum has been verified. Other packets are passed over.
  Packets read_packets(uint8_t protocol, uint16_t port) {
    const size_t header = family_ == 4 ? 20 : 40;
    while (readable(port_.descriptor())) {
      const std::span<const Received> received = port_.receive();
      if (received.empty()) continue;
      const auto& [virtio, data, size] = received[0];
      const IpView ip = parse_ip(data, size);
      if (ip.family != family_ || data[family_ == 4 ? 9 : 6] != protocol || size < header + 8 ||
          std::memcmp(ip.destination, peer_.data(), peer_.size()) != 0 ||
          ntohs(load<uint16_t>(data + header)) != port)
        continue;
      const Segmentation segments(*virtio, data, size);
      if (!segments.valid()) fail("a super-packet's header is not right");
      Packets out;
      for (size_t i = 0; i < segments.count(); i++) {
        Buffer& p = out.emplace_back(segments.size(i));
        segments.write(i, p.data());
        if (!is_right(p, protocol, header)) fail("a checksum is wrong");
      }
      return out;
    }
    fail("a packet was lost");
  }
  size_t header_size() const { return family_ == 4 ? 20 : 40; }

 private:
  bool is_right(Buffer& p, uint8_t protocol, size_t header) const {
    const IpView ip = parse_ip(p.data(), p.size());
    if (ip.family != family_ || ip.length != p.size()) return false;
    if (family_ == 4 && checksum_finish(checksum_add(p.data(), header)) != 0) return false;
    const size_t size = p.size() - header;
    return checksum_finish(checksum_add(p.data() + header, size, pseudo_header_sum(ip, protocol, size))) == 0;
  }
  socklen_t fill(sockaddr_storage& out, const Buffer& ip, uint16_t port) const {
    if (family_ == 4) {
      auto& v4 = reinterpret_cast<sockaddr_in&>(out);
      v4.sin_family = AF_INET;
      v4.sin_port = htons(port);
      std::memcpy(&v4.sin_addr, ip.data(), 4);
      return sizeof(sockaddr_in);
    }
    auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    v6.sin6_scope_id = if_nametoindex(tun_.name().c_str());
    std::memcpy(&v6.sin6_addr, ip.data(), 16);
    return sizeof(sockaddr_in6);
  }

  const TunDevice& tun_;
  TunPort port_;
  uint8_t family_;
  Buffer local_;
  Buffer peer_;
  uint16_t identification_ = 1;
};

/// Datagrams out and in, one system call each way. @throws Failure
void exchange_datagrams(Wire& wire, size_t count, size_t size, size_t last_size) {
  uint16_t port = 0;
  const Descriptor socket(wire.open_socket(SOCK_DGRAM, port));
  wire.connect_to_peer(socket);
  const auto slice = [&](const Buffer& whole, size_t i) {
    return Buffer(whole.begin() + static_cast<long>(i * size),
                  whole.begin() + static_cast<long>(std::min(whole.size(), (i + 1) * size)));
  };

  const Buffer out = pattern(size * (count - 1) + last_size, 1);
  const int segment = static_cast<int>(size);
  if (count > 1 && setsockopt(socket, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0)
    fail("UDP_SEGMENT");
  if (send(socket, out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) fail("a send is refused");
  for (size_t seen = 0; seen < count;)
    for (const Buffer& p : wire.read_packets(kUdp, port)) {
      const Buffer payload(p.begin() + static_cast<long>(wire.header_size()) + 8, p.end());
      if (seen >= count || payload != slice(out, seen++)) fail("a datagram was changed");
    }

  const Buffer in = pattern(size * (count - 1) + last_size, 2);
  Packets packets;
  for (size_t i = 0; i < count; i++) {
    const Buffer payload = slice(in, i);
    Buffer transport(8);
    store(transport.data(), htons(kPeerPort));
    store(transport.data() + 2, htons(port));
    store(transport.data() + 4, htons(static_cast<uint16_t>(8 + payload.size())));
    transport.insert(transport.end(), payload.begin(), payload.end());
    packets.push_back(wire.packet(kUdp, transport, 6));
  }
  wire.deliver(packets, count > 1);
  for (size_t i = 0; i < count; i++) {
    Buffer received(kMtu);
    if (!readable(socket)) fail("a datagram was lost");
    const ssize_t got = recv(socket, received.data(), received.size(), 0);
    if (got < 0) fail("a datagram was lost");
    received.resize(static_cast<size_t>(got));
    if (received != slice(in, i)) fail("a datagram was changed");
  }
}

/// A TCP connection from the peer, and a few segments each way. @throws Failure
void exchange_stream(Wire& wire) {
  constexpr size_t kSegment = 1400;
  constexpr size_t kBytes = 5 * kSegment + 300;  // fits the first congestion window
  uint16_t port = 0;
  const Descriptor listener(wire.open_socket(SOCK_STREAM, port));
  if (listen(listener, 1) != 0) fail("listen");
  uint32_t sequence = 1000;
  uint32_t acknowledged = 0;
  const auto segment = [&](uint8_t flags, const Buffer& options, const Buffer& payload) {
    Buffer t(20);
    store(t.data(), htons(kPeerPort));
    store(t.data() + 2, htons(port));
    store(t.data() + 4, htonl(sequence));
    store(t.data() + 8, htonl(acknowledged));
    t[12] = static_cast<uint8_t>((20 + options.size()) / 4 << 4);
    t[13] = flags;
    store(t.data() + 14, htons(uint16_t{65535}));
    t.insert(t.end(), options.begin(), options.end());
    t.insert(t.end(), payload.begin(), payload.end());
    return wire.packet(kTcp, t, 16);
  };
  Packets packets{segment(kSyn, {2, 4, kSegment >> 8, kSegment & 0xff}, {})};
  wire.deliver(packets, false);
  const Packets answer = wire.read_packets(kTcp, port);
  const uint8_t* t = answer[0].data() + wire.header_size();
  if ((t[13] & (kSyn | kAck)) != (kSyn | kAck)) fail("a connection is refused");
  acknowledged = ntohl(load<uint32_t>(t + 4)) + 1;
  sequence++;
  packets = {segment(kAck, {}, {})};
  wire.deliver(packets, false);
  if (!readable(listener)) fail("a connection was lost");
  const Descriptor connection(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  constexpr linger kAbort{1, 0};
  setsockopt(connection, SOL_SOCKET, SO_LINGER, &kAbort, sizeof kAbort);

  const Buffer in = pattern(kBytes, 3);
  packets.clear();
  for (size_t at = 0; at < in.size(); at += kSegment) {
    const size_t size = std::min(kSegment, in.size() - at);
    const uint8_t flags = at + size == in.size() ? kAck | kPsh : kAck;
    packets.push_back(segment(
        flags, {}, Buffer(in.begin() + static_cast<long>(at), in.begin() + static_cast<long>(at + size))));
    sequence += static_cast<uint32_t>(size);
  }
  wire.deliver(packets, true);
  Buffer received;
  while (received.size() < in.size()) {
    uint8_t part[kBytes];
    if (!readable(connection)) fail("a segment was lost");
    const ssize_t got = recv(connection, part, sizeof part, 0);
    if (got <= 0) fail("the connection was lost");
    received.insert(received.end(), part, part + got);
  }
  if (received != in) fail("a stream was changed");

  const Buffer out = pattern(kBytes, 4);
  if (send(connection, out.data(), out.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(out.size()))
    fail("a send is refused");
  Buffer seen(out.size());
  size_t total = 0;
  while (total < out.size())
    for (const Buffer& p : wire.read_packets(kTcp, port)) {
      const uint8_t* tcp = p.data() + wire.header_size();
      const size_t payload_at = wire.header_size() + static_cast<size_t>(tcp[12] >> 4) * 4;
      const size_t at = ntohl(load<uint32_t>(tcp + 4)) - acknowledged;
      if (p.size() < payload_at || at > seen.size() || p.size() - payload_at > seen.size() - at)
        fail("a segment is out of place");
      std::copy(p.begin() + static_cast<long>(payload_at), p.end(), seen.begin() + static_cast<long>(at));
      total += p.size() - payload_at;
    }
  if (seen != out) fail("a stream was changed");
}

/// Twice, because a machine may be too busy once.
SelfTest attempt(const std::function<void()>& step) {
  SelfTest result;
  for (int tries = 0; tries < 2 && result.verdict != SelfTest::Verdict::passed; tries++) {
    try {
      step();
      result = {SelfTest::Verdict::passed, {"self-test-passed", {}}};
    } catch (const Failure& failure) {
      result = {SelfTest::Verdict::failed, {"self-test-failed", failure.what}};
    }
  }
  return result;
}

void test_wire(const TunDevice& tun, uint8_t family, OffloadTest& out) {
  Wire wire(tun, family);
  // Without any offload first: only what passes then can tell something about one.
  if (!tun.set_offloads({false, false, false})) return;
  if (attempt([&] { exchange_datagrams(wire, 1, 1000, 1000); }).failed()) return;
  const auto verdict = [](SelfTest& result, const SelfTest& found) {
    if (!result.failed()) result = found;
  };
  if (!tun.set_offloads({true, false, false})) return;
  verdict(out.checksum, attempt([&] { exchange_datagrams(wire, 1, 1000, 1000); }));
  if (out.checksum.failed()) return;
  if (tun.set_offloads({true, true, false})) verdict(out.tcp, attempt([&] { exchange_stream(wire); }));
  if (tun.set_offloads({true, false, true}))
    verdict(out.udp, attempt([&] { exchange_datagrams(wire, 11, 1200, 77); }));
}

}  // namespace

OffloadTest test_offloads() {
  std::promise<OffloadTest> promise;
  std::future<OffloadTest> result = promise.get_future();
  // Detached: the kernel takes another 20 ms to remove the interface, and nobody has to wait for that.
  std::thread([told = std::move(promise)]() mutable {
    const bool isolated = unshare(CLONE_NEWNET) == 0;
    TunSettings settings;
    settings.name = "omtest%d";
    settings.mtu = kMtu;
    settings.addresses = {"fe80::1/64"};
    if (isolated) settings.addresses.emplace_back("192.0.2.1/24");
    OffloadTest out;
    std::optional<TunDevice> tun;
    try {
      tun.emplace(settings);
      if (isolated) test_wire(*tun, 4, out);
      test_wire(*tun, 6, out);
    } catch (const std::system_error& error) {
      for (SelfTest* test : {&out.checksum, &out.tcp, &out.udp})
        if (test->verdict == SelfTest::Verdict::untested) test->reason = {"untested", error.what()};
    }
    told.set_value(std::move(out));
  }).detach();
  return result.get();
}

}  // namespace omerta::tun
