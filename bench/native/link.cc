// SPDX-License-Identifier: Apache-2.0
// A long line between two Ethernet devices of one network namespace: every frame that one takes leaves by the
// other, later, unless it is lost. Where the kernel has no netem, this is how a bench has delay and loss.
//
//   link DEVICE DEVICE --delay-us N --loss-ppm N [--seed N]
//
// The machines at both ends must not leave checksums or segmentation to their devices (ethtool -K NAME tx off
// tso off gso off): a frame is a packet here. Prints "ready" when it begins, and runs until it is killed.
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <random>
#include <string>

namespace {

constexpr size_t kSlot = 2048;    ///< a frame of an MTU of 1,500 or a little more
constexpr size_t kSlots = 32768;  ///< 20 ms at 20 Gbit/s
constexpr unsigned kBatch = 64;
constexpr int kBuffer = 64 << 20;
constexpr uint64_t kSecond = 1'000'000'000;

uint64_t now() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
}

[[noreturn]] void fail(const std::string& what) {
  std::perror(("link: " + what).c_str());
  std::exit(1);
}

int open_device(const char* name) {
  const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("a packet socket");
  const int on = 1;
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = static_cast<int>(if_nametoindex(name));
  if (address.sll_ifindex == 0) fail(name);
  if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0) fail("PACKET_IGNORE_OUTGOING");
  for (const int option : {SO_RCVBUFFORCE, SO_SNDBUFFORCE})
    if (setsockopt(fd, SOL_SOCKET, option, &kBuffer, sizeof kBuffer) != 0) fail("the socket's buffers");
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail(name);
  return fd;
}

/// Frames on their way in one direction, in the order they came in.
class Direction {
 public:
  Direction(int from, int to, uint64_t delay, double loss, uint64_t seed)
      : from_(from), to_(to), delay_(delay), lost_(loss), random_(seed) {}

  /// Takes what has come.
  void take() {
    mmsghdr headers[kBatch]{};
    iovec vectors[kBatch];
    const size_t room = std::min<size_t>(kBatch, kSlots - (tail_ - head_));
    for (size_t i = 0; i < room; i++) {
      vectors[i] = {slot(tail_ + i), kSlot};
      headers[i].msg_hdr.msg_iov = &vectors[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    const int count =
        room == 0 ? 0 : recvmmsg(from_, headers, static_cast<unsigned>(room), MSG_DONTWAIT, nullptr);
    const uint64_t due = now() + delay_;
    for (int i = 0; i < count; i++, tail_++) {
      const bool is_lost = lost_(random_);
      frames_[tail_ % kSlots] = {due, is_lost ? 0 : headers[i].msg_len};
    }
  }

  /// Sends what is due. @returns when the next is; UINT64_MAX: there is none
  uint64_t send_due() {
    while (head_ < tail_ && frames_[head_ % kSlots].due <= now()) {
      mmsghdr headers[kBatch]{};
      iovec vectors[kBatch];
      unsigned count = 0;
      const uint64_t moment = now();
      for (; head_ < tail_ && count < kBatch && frames_[head_ % kSlots].due <= moment; head_++) {
        const Frame& frame = frames_[head_ % kSlots];
        if (frame.size == 0) continue;
        vectors[count] = {slot(head_), frame.size};
        headers[count].msg_hdr.msg_iov = &vectors[count];
        headers[count].msg_hdr.msg_iovlen = 1;
        count++;
      }
      for (unsigned at = 0; at < count;) {
        const int sent = sendmmsg(to_, headers + at, count - at, 0);
        // One the device does not take is lost: the next ones are not.
        at += sent > 0 ? static_cast<unsigned>(sent) : 1;
      }
    }
    return head_ < tail_ ? frames_[head_ % kSlots].due : UINT64_MAX;
  }

 private:
  struct Frame {
    uint64_t due;
    uint32_t size;  ///< 0: it is lost
  };
  uint8_t* slot(size_t i) { return memory_.get() + i % kSlots * kSlot; }

  const int from_, to_;
  const uint64_t delay_;
  std::bernoulli_distribution lost_;
  std::mt19937_64 random_;
  size_t head_ = 0, tail_ = 0;
  std::unique_ptr<Frame[]> frames_ = std::make_unique<Frame[]>(kSlots);
  std::unique_ptr<uint8_t[]> memory_ = std::make_unique<uint8_t[]>(kSlots * kSlot);
};

}  // namespace

int main(int argc, char** argv) {
  const option options[] = {{"delay-us", required_argument, nullptr, 'd'},
                            {"loss-ppm", required_argument, nullptr, 'l'},
                            {"seed", required_argument, nullptr, 's'},
                            {}};
  uint64_t delay = 0, seed = 1;
  double loss = 0;
  for (int option; (option = getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    if (option == '?') return 2;
    const auto number = std::strtoull(optarg, nullptr, 10);
    if (option == 'd') delay = number * 1000;
    if (option == 'l') loss = static_cast<double>(number) / 1e6;
    if (option == 's') seed = number;
  }
  if (argc - optind != 2 || loss > 1) {
    std::fprintf(stderr, "usage: link DEVICE DEVICE --delay-us N --loss-ppm N [--seed N]\n");
    return 2;
  }
  prctl(PR_SET_TIMERSLACK, 1000UL);
  const int a = open_device(argv[optind]), b = open_device(argv[optind + 1]);
  Direction there(a, b, delay, loss, seed), back(b, a, delay, loss, seed + 1);
  std::puts("ready");
  std::fflush(stdout);
  for (;;) {
    const uint64_t next = std::min(there.send_due(), back.send_due());
    const uint64_t moment = now();
    timespec wait{};
    const uint64_t left = next > moment ? next - moment : 0;
    wait.tv_sec = static_cast<time_t>(left / kSecond);
    wait.tv_nsec = static_cast<long>(left % kSecond);
    pollfd ready[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
    if (ppoll(ready, 2, next == UINT64_MAX ? nullptr : &wait, nullptr) <= 0) continue;
    if (ready[0].revents != 0) there.take();
    if (ready[1].revents != 0) back.take();
  }
}
