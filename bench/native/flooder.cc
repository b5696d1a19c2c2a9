// SPDX-License-Identifier: Apache-2.0
// A flood of garbage at a relay's port, datagrams of 64 bytes from as many addresses as there are: Ethernet
// frames written past this host's own network stack. To be fast enough they are written 16 at a time as one
// segmentation offload frame, which the kernel takes apart if the device cannot (ethtool -K NAME
// tx-udp-segmentation off): these 16 have one source.
//
//   flooder --netns PATH --device NAME --mac RELAY_MAC --relay IP --relay-port N --client IP
//           --rate PER_SECOND --duration-ms N
//
// In turn: random bytes; a frame on a leg there is none of; one on a leg there is, from elsewhere; and one
// that seems to come from the leg's own client, which is refused by its tag alone. Prints one line of JSON.
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "traffic.h"

using namespace omerta::bench;

namespace {

constexpr size_t kGarbage = 64;
constexpr unsigned kSegments = 16;
constexpr unsigned kBurst = 4;  ///< frames of one system call
constexpr unsigned long kTimerSlack = 1000;

struct Options {
  std::string netns, device, mac, relay, client;
  uint16_t relay_port = 0;
  uint64_t rate = 0;
  uint64_t duration = kSecond;
};

/// struct virtio_net_hdr (Virtio 1.2, section 5.1.6), whose header is not C++ everywhere.
struct Offload {
  static constexpr uint8_t kNeedsChecksum = 1;
  static constexpr uint8_t kUdpSegments = 5;
  uint8_t flags;
  uint8_t gso_type;
  uint16_t header_size;
  uint16_t gso_size;
  uint16_t checksum_start;
  uint16_t checksum_offset;
};

struct Packet {
  Offload offload;
  ether_header ethernet;
  iphdr ip;
  udphdr udp;
  uint8_t payload[kSegments][kGarbage];
} __attribute__((packed));

/// xorshift64* (Marsaglia 2003, Vigna 2016): nobody has to be unable to guess it.
uint64_t random64() {
  static uint64_t state = now() | 1;
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545F4914F6CDD1DU;
}

uint16_t folded(uint32_t sum) {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

uint16_t header_checksum(const iphdr& ip) {
  uint16_t words[sizeof ip / 2];
  std::memcpy(words, &ip, sizeof ip);
  uint32_t sum = 0;
  for (const uint16_t word : words) sum += word;
  return static_cast<uint16_t>(~folded(sum));
}

/// What the checksum of a UDP datagram begins with when the device makes the rest.
uint16_t pseudo_header_sum(const iphdr& ip, const udphdr& udp) {
  return folded((ip.saddr & 0xffff) + (ip.saddr >> 16) + (ip.daddr & 0xffff) + (ip.daddr >> 16) +
                htons(IPPROTO_UDP) + udp.len);
}

class Flood {
 public:
  explicit Flood(const Options& options) : options_(options), client_(ipv4(options.client.c_str(), 0)) {
    fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd_ < 0) fail("packet socket");
    const int on = 1;
    if (setsockopt(fd_, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0) fail("PACKET_VNET_HDR");
    sockaddr_ll device{};
    device.sll_family = AF_PACKET;
    device.sll_ifindex = static_cast<int>(if_nametoindex(options.device.c_str()));
    if (bind(fd_, reinterpret_cast<sockaddr*>(&device), sizeof device) != 0) fail(options.device.c_str());
    const sockaddr_in relay = ipv4(options.relay.c_str(), options.relay_port);
    for (unsigned i = 0; i < kBurst; i++) {
      Packet& packet = packets_[i];
      packet = {};
      unsigned mac[6] = {};
      if (std::sscanf(options.mac.c_str(), "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
                      &mac[5]) != 6)
        fail("--mac");
      std::copy(std::begin(mac), std::end(mac), std::begin(packet.ethernet.ether_dhost));
      packet.offload = {Offload::kNeedsChecksum,
                        Offload::kUdpSegments,
                        sizeof packet.ethernet + sizeof packet.ip + sizeof packet.udp,
                        kGarbage,
                        sizeof packet.ethernet + sizeof packet.ip,
                        offsetof(udphdr, check)};
      packet.ethernet.ether_type = htons(ETHERTYPE_IP);
      packet.ip.version = 4;
      packet.ip.ihl = 5;
      packet.ip.tot_len = htons(sizeof packet - sizeof packet.offload - sizeof packet.ethernet);
      packet.ip.ttl = 64;
      packet.ip.protocol = IPPROTO_UDP;
      packet.ip.daddr = relay.sin_addr.s_addr;
      packet.udp.dest = relay.sin_port;
      packet.udp.len = htons(sizeof packet.udp + sizeof packet.payload);
      vectors_[i] = {&packet, sizeof packet};
      headers_[i].msg_hdr.msg_iov = &vectors_[i];
      headers_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  void run() {
    prctl(PR_SET_TIMERSLACK, kTimerSlack);
    const uint64_t start = now();
    const uint64_t end = start + options_.duration;
    uint64_t sent = 0;
    for (uint64_t t = start; t < end; t = now()) {
      const uint64_t due = start + sent * kSecond / options_.rate;
      if (due > t) {
        const timespec until{static_cast<time_t>(due / kSecond), static_cast<long>(due % kSecond)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
        continue;
      }
      const uint64_t behind = (t - due) * options_.rate / kSecond;
      const auto count = static_cast<unsigned>(std::min<uint64_t>(kBurst, behind / kSegments + 1));
      for (unsigned i = 0; i < count; i++) write(packets_[i]);
      const int done = sendmmsg(fd_, headers_, count, 0);
      if (done < 0 && errno != ENOBUFS) fail("sendmmsg");
      if (done > 0) sent += static_cast<unsigned>(done) * kSegments;
    }
    std::printf("{\"sent\":%llu,\"ns\":%llu}\n", static_cast<unsigned long long>(sent),
                static_cast<unsigned long long>(now() - start));
  }

 private:
  void write(Packet& packet) {
    const uint64_t from = random64();
    // 128.0.0.0 to 223.255.255.255, ports from 1024.
    packet.ip.saddr = htonl(0x80000000 + static_cast<uint32_t>((from >> 32) % 0x60000000));
    packet.udp.source = htons(static_cast<uint16_t>(1024 + (from & 0xffff) % 64512));
    const unsigned kind = turn_++ % 4;
    for (auto& payload : packet.payload) {
      for (size_t at = 0; at < kGarbage; at += 8) omerta_store64(payload + at, random64());
      if (kind == 0) continue;
      payload[0] = OMERTA_FRAME_MAGIC;
      payload[1] = OMERTA_KIND_FORWARD;
      payload[2] = OMERTA_HOP_LIMIT_DEFAULT;
      payload[3] = kEpoch;
      if (kind >= 2) omerta_store32(payload + 4, bench_leg_id(0));
    }
    if (kind == 3) {
      packet.ip.saddr = client_.sin_addr.s_addr;
      packet.udp.source = htons(kFirstClientPort);
    }
    packet.ip.check = 0;
    packet.ip.check = header_checksum(packet.ip);
    packet.udp.check = pseudo_header_sum(packet.ip, packet.udp);
  }

  const Options& options_;
  const sockaddr_in client_;
  int fd_ = -1;
  unsigned turn_ = 0;
  Packet packets_[kBurst];
  iovec vectors_[kBurst]{};
  mmsghdr headers_[kBurst]{};
};

}  // namespace

int main(int argc, char** argv) {
  static const option names[] = {{"netns", required_argument, nullptr, 'n'},
                                 {"device", required_argument, nullptr, 'd'},
                                 {"mac", required_argument, nullptr, 'm'},
                                 {"relay", required_argument, nullptr, 'r'},
                                 {"relay-port", required_argument, nullptr, 'p'},
                                 {"client", required_argument, nullptr, 'c'},
                                 {"rate", required_argument, nullptr, 's'},
                                 {"duration-ms", required_argument, nullptr, 't'},
                                 {}};
  Options o;
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == '?') return 2;
    const std::string text = optarg;
    if (c == 'n') o.netns = text;
    if (c == 'd') o.device = text;
    if (c == 'm') o.mac = text;
    if (c == 'r') o.relay = text;
    if (c == 'p') o.relay_port = static_cast<uint16_t>(std::stoul(text));
    if (c == 'c') o.client = text;
    if (c == 's') o.rate = std::stoull(text);
    if (c == 't') o.duration = std::stoull(text) * 1'000'000;
  }
  if (o.netns.empty() || o.device.empty() || o.mac.empty() || o.relay.empty() || o.client.empty() ||
      o.relay_port == 0 || o.rate == 0) {
    std::fputs("flooder: --netns, --device, --mac, --relay, --relay-port, --client and --rate are needed\n",
               stderr);
    return 2;
  }
  enter(o.netns);
  Flood(o).run();
}
