// SPDX-License-Identifier: Apache-2.0
// Echo requests through several tunnels in turn, one at a time: whatever disturbs the machine meets all
// of them alike.
//
//   pings --count N --interval-us N NETNS=IP ...
//
// As ping does it, a round trip ends when the kernel took the reply in (SO_TIMESTAMPNS), so that
// waking this process is not counted. Prints one line of JSON: for each tunnel, in order, how many were
// lost and percentiles of the others, ns.
#include <getopt.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>

#include <algorithm>
#include <vector>

#include "sockets.h"

using namespace omerta::bench;

namespace {

constexpr int kTimeoutMs = 1000;

uint64_t wall_clock() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
}

uint16_t checksum(const uint8_t* data, size_t size) {
  uint32_t sum = 0;
  for (size_t i = 0; i + 1 < size; i += 2) sum += static_cast<uint32_t>(data[i] << 8 | data[i + 1]);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return htons(static_cast<uint16_t>(~sum));
}

class Tunnel {
 public:
  Tunnel(const std::string& netns, const std::string& address) {
    enter(netns);
    fd_ = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    const sockaddr_in to = ipv4(address.c_str(), 0);
    const int on = 1;
    const uint32_t all_but_replies = ~(uint32_t{1} << ICMP_ECHOREPLY);
    if (fd_ < 0 || connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 ||
        setsockopt(fd_, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) != 0 ||
        setsockopt(fd_, SOL_RAW, 1 /* ICMP_FILTER */, &all_but_replies, sizeof all_but_replies) != 0)
      fail("ICMP socket");
  }

  void ping() {
    uint8_t request[64] = {ICMP_ECHO};
    const auto id = static_cast<uint16_t>(getpid());
    sequence_++;
    std::memcpy(request + 4, &id, 2);
    std::memcpy(request + 6, &sequence_, 2);
    const uint16_t sum = checksum(request, sizeof request);
    std::memcpy(request + 2, &sum, 2);
    const uint64_t sent = wall_clock();
    if (send(fd_, request, sizeof request, 0) < 0) fail("send");
    uint64_t arrived = 0;
    while (arrived == 0) {
      pollfd wait{fd_, POLLIN, 0};
      if (poll(&wait, 1, kTimeoutMs) != 1) {
        lost_++;
        return;
      }
      arrived = receive(request);
    }
    times_.push_back(arrived - sent);
  }

  void report(const char* before) {
    std::sort(times_.begin(), times_.end());
    const auto percentile = [this](double fraction) -> unsigned long long {
      if (times_.empty()) return 0;
      const auto rank = static_cast<size_t>(fraction * static_cast<double>(times_.size()));
      return times_[std::min(rank, times_.size() - 1)];
    };
    std::printf("%s{\"lost\":%zu,\"p50Ns\":%llu,\"p90Ns\":%llu,\"p99Ns\":%llu}", before, lost_,
                percentile(0.5), percentile(0.9), percentile(0.99));
  }

 private:
  /// When the reply to `request` arrived; 0 when what arrived is another packet.
  uint64_t receive(const uint8_t* request) {
    uint8_t packet[256];
    alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(timespec))];
    iovec vector{packet, sizeof packet};
    msghdr header{};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t size = recvmsg(fd_, &header, MSG_DONTWAIT);
    const size_t ip_header = size_t{packet[0] & 0x0fu} * 4;
    if (size < static_cast<ssize_t>(ip_header + 8) ||
        std::memcmp(packet + ip_header + 4, request + 4, 4) != 0)
      return 0;
    const cmsghdr* c = CMSG_FIRSTHDR(&header);
    if (c == nullptr || c->cmsg_type != SCM_TIMESTAMPNS) return 0;
    timespec t;
    std::memcpy(&t, CMSG_DATA(c), sizeof t);
    return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
  }

  int fd_ = -1;
  uint16_t sequence_ = 0;
  size_t lost_ = 0;
  std::vector<uint64_t> times_;
};

}  // namespace

int main(int argc, char** argv) {
  enum { count_option, interval_option };
  static const option names[] = {{"count", required_argument, nullptr, count_option},
                                 {"interval-us", required_argument, nullptr, interval_option},
                                 {}};
  uint64_t count = 100;
  uint64_t interval = 1000;
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == count_option)
      count = std::strtoull(optarg, nullptr, 10);
    else if (c == interval_option)
      interval = std::strtoull(optarg, nullptr, 10);
    else
      return 2;
  }
  std::vector<Tunnel> tunnels;
  for (int i = optind; i < argc; i++) {
    const std::string text = argv[i];
    const size_t at = text.find('=');
    if (at == std::string::npos) return 2;
    tunnels.emplace_back(text.substr(0, at), text.substr(at + 1));
  }
  for (uint64_t i = 0; i < count; i++) {
    for (Tunnel& tunnel : tunnels) {
      const timespec pause{0, static_cast<long>(interval * 1000)};
      clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      tunnel.ping();
    }
  }
  const char* before = "[";
  for (Tunnel& tunnel : tunnels) {
    tunnel.report(before);
    before = ",";
  }
  std::puts("]");
}
