// SPDX-License-Identifier: Apache-2.0
#include "udp/offload_self_test.h"

#include <poll.h>

#include <algorithm>
#include <system_error>
#include <vector>

#include "udp/udp_socket.h"

namespace omerta::udp {
namespace {

using Datagrams = std::vector<std::vector<uint8_t>>;

/// How long a datagram may take over loopback on a busy machine.
constexpr int kPatienceMs = 50;

/// Runs as the engine sends them: full messages, odd sizes, a shorter last one, many small ones, and
/// pieces that do not lie together.
struct Run {
  size_t segment;
  size_t count;
  size_t last;
  bool scattered;
};
constexpr Run kRuns[] = {
    {1452, 44, 700, false}, {1439, 17, 1, false}, {64, 64, 64, false}, {333, 20, 332, true}};

std::vector<uint8_t> pattern(size_t size, size_t seed) {
  std::vector<uint8_t> bytes(size);
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (uint8_t& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<uint8_t>(state >> 56);
  }
  return bytes;
}

SocketOptions options(const char* address, bool gso, bool gro) {
  SocketOptions o;
  o.bind = address;
  o.gso = gso;
  o.gro = gro;
  o.buffer_bytes = 1 << 20;
  return o;
}

omerta_address address_of(const char* address, uint16_t port) {
  omerta_address a{};
  if (std::string(address) == "127.0.0.1") {
    a.ip[10] = a.ip[11] = 0xff;
    a.ip[12] = 127;
  }
  a.ip[15] = 1;
  a.port = __builtin_bswap16(port);
  return a;
}

/// Receives until `wanted` datagrams came or nothing does any more.
Datagrams receive(UdpSocket& socket, size_t wanted) {
  Datagrams out;
  std::vector<uint8_t> buffer(65536);
  CounterRow counters;
  while (out.size() < wanted) {
    pollfd ready{socket.fd(), POLLIN, 0};
    if (poll(&ready, 1, kPatienceMs) <= 0) break;
    sockaddr_storage from;
    ReceiveControl control;
    iovec vector{buffer.data(), buffer.size()};
    msghdr header{};
    header.msg_name = &from;
    header.msg_namelen = sizeof from;
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof control.bytes;
    const ssize_t got = recvmsg(socket.fd(), &header, MSG_DONTWAIT);
    if (got < 0) break;
    Message message{};
    message.data = buffer.data();
    message.size = static_cast<size_t>(got);
    socket.read_header(header, message, counters);
    for (size_t at = 0; at < message.size; at += message.segment)
      out.emplace_back(buffer.data() + at, buffer.data() + std::min(at + message.segment, message.size));
  }
  return out;
}

/// What is wrong with what was received; empty when nothing is.
std::string difference(const Datagrams& sent, const Datagrams& received) {
  if (received.size() != sent.size())
    return std::to_string(received.size()) + " of " + std::to_string(sent.size()) + " datagrams arrived";
  for (size_t i = 0; i < sent.size(); i++)
    if (received[i] != sent[i])
      return "datagram " + std::to_string(i + 1) + " of " + std::to_string(sent.size()) +
             " is not what was sent";
  return {};
}

class LoopbackTest {
 public:
  explicit LoopbackTest(const char* address)
      : address_(address),
        segmenting_(options(address, true, false)),
        plain_(options(address, false, false)),
        coalescing_(options(address, false, true)) {}

  bool gso() const { return segmenting_.gso(); }
  bool gro() const { return coalescing_.gro(); }
  /// Whether anything passes here at all.
  bool passes() {
    const std::vector<uint8_t> datagram = pattern(1000, 1);
    plain_.send_one(address_of(address_, plain_.port()), {}, datagram.data(), datagram.size(), 0);
    return receive(plain_, 1) == Datagrams{datagram};
  }
  /// Both tell what went wrong; empty when nothing did.
  std::string try_gso() { return twice(plain_); }
  std::string try_gro() { return twice(coalescing_); }

 private:
  /// A machine may be too busy once.
  std::string twice(UdpSocket& receiver) {
    if (exchange(receiver).empty()) return {};
    receive(receiver, SIZE_MAX);  // what came late
    return exchange(receiver);
  }
  std::string exchange(UdpSocket& receiver) {
    for (const Run& run : kRuns) {
      const std::vector<uint8_t> bytes = pattern(run.segment * (run.count - 1) + run.last, run.count);
      Datagrams sent;
      for (size_t at = 0; at < bytes.size(); at += run.segment)
        sent.emplace_back(bytes.begin() + static_cast<long>(at),
                          bytes.begin() + static_cast<long>(std::min(at + run.segment, bytes.size())));
      const omerta_address to = address_of(address_, receiver.port());
      SendBatch batch(true);
      if (run.scattered)
        for (auto& datagram : sent)
          batch.append(to, {}, datagram.data(), datagram.size(), datagram.size(), 0);
      else
        batch.append(to, {}, const_cast<uint8_t*>(bytes.data()), bytes.size(), run.segment, 0);
      CounterRow counters;
      mmsghdr* headers = segmenting_.prepare(batch, counters);
      const auto messages = static_cast<unsigned>(batch.size());
      const bool accepted = sendmmsg(segmenting_.fd(), headers, messages, 0) == static_cast<int>(messages);
      segmenting_.finish(batch);
      if (!accepted) return "a segmented message was refused";
      std::string wrong = difference(sent, receive(receiver, sent.size()));
      if (!wrong.empty()) return wrong;
    }
    return {};
  }

  const char* address_;
  UdpSocket segmenting_;
  UdpSocket plain_;
  UdpSocket coalescing_;
};

void record(SelfTest& result, const std::string& wrong) {
  if (result.failed()) return;
  size_t count = 0;
  for (const Run& run : kRuns) count += run.count;
  if (wrong.empty())
    result = {SelfTest::Verdict::passed, {"self-test-passed", {}, static_cast<double>(count)}};
  else
    result = {SelfTest::Verdict::failed, {"self-test-failed", wrong}};
}

}  // namespace

OffloadTest test_offloads() {
  OffloadTest out;
  for (const char* address : {"127.0.0.1", "::1"}) {
    try {
      LoopbackTest test(address);
      if (!test.passes()) continue;
      if (!test.gso()) continue;  // the engine finds that out by itself
      record(out.gso, test.try_gso());
      if (out.gso.failed())
        out.gro = {SelfTest::Verdict::untested, {"untested-without", "udp-gso"}};
      else if (test.gro())
        record(out.gro, test.try_gro());
    } catch (const std::system_error&) {
      // This address family is not there.
    }
  }
  return out;
}

}  // namespace omerta::udp
