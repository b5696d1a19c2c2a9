// SPDX-License-Identifier: Apache-2.0
// UDP datagrams through a tunnel: sender and sink of the tunnel benchmark, in one process, each with its
// socket in the network namespace of its end.
//
//   datagrams --from-netns PATH --to-netns PATH --to IP --size BYTES --mode burst|bulk
//             --window N --duration-ms N
//     burst   64 datagrams a system call (sendmmsg)
//     bulk    as many as fit into one super-packet (UDP_SEGMENT)
//
// A TUN interface tells nobody that its queue is full, so a sender without measure would spend a core on
// datagrams that are dropped at once. --window N lets at most N be on their way: the tunnel is never
// without work and little is lost. What has not arrived after 20 ms counts as lost and is no longer on
// its way. One thread sends and receives. Every datagram carries the run's number and a sequence number;
// all of its bytes are compared, and one seen twice is counted as a duplicate. Prints one line of JSON.
#include <getopt.h>
#include <poll.h>

#include <algorithm>
#include <vector>

#include "receive_batch.h"

using namespace omerta::bench;

namespace {

constexpr uint16_t kPort = 5001;
constexpr size_t kBurst = 64;
constexpr size_t kHeader = 16;              ///< run u64 | sequence u64
constexpr size_t kMaxMessageBytes = 65000;  ///< of one super-packet
constexpr int kSendBuffer = 4 << 20;
constexpr int kReceiveBuffer = 64 << 20;
constexpr int kLostAfterMs = 20;
constexpr int kQuietMs = 100;  ///< no datagram for this long: everything has arrived

struct Options {
  std::string from_netns;
  std::string to_netns;
  std::string to;
  size_t size = 64;
  bool bulk = false;
  uint64_t window = 0;  ///< datagrams on their way; 0 = any number
  uint64_t duration = kSecond / 2;
  uint64_t run = now();  ///< tells this run's datagrams from an earlier one's
};

void fill(uint8_t* datagram, const Options& options) {
  for (size_t i = kHeader; i < options.size; i++) datagram[i] = static_cast<uint8_t>(i * 7 + 1);
  std::memcpy(datagram, &options.run, sizeof options.run);
}

class Sink {
 public:
  explicit Sink(const Options& options)
      : options_(options), expected_(options.size), fd_(udp_socket(kPort, kReceiveBuffer)) {
    fill(expected_.data(), options);
    const int on = 1;
    setsockopt(fd_, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
  }

  uint64_t received() const { return seen_.received(); }
  /// Takes what is there; whether there was anything.
  bool drain() {
    bool any = false;
    uint32_t untold = 0;
    while (batch_.receive(fd_, untold, [this](const uint8_t* data, size_t size) { check(data, size); }))
      any = true;
    return any;
  }
  /// Sleeps until something arrives; false when nothing did.
  bool wait(int milliseconds) {
    pollfd wait{fd_, POLLIN, 0};
    return poll(&wait, 1, milliseconds) == 1;
  }

  void report(uint64_t sent) const {
    const auto number = [](uint64_t n) { return static_cast<unsigned long long>(n); };
    std::printf(
        "{\"sent\":%llu,\"received\":%llu,\"duplicates\":%llu,\"corrupt\":%llu,\"receivingNs\":%llu}\n",
        number(sent), number(seen_.received()), number(seen_.duplicates()), number(corrupt_),
        number(batch_.duration()));
  }

 private:
  void check(const uint8_t* datagram, size_t size) {
    if (size < kHeader || std::memcmp(datagram, &options_.run, sizeof options_.run) != 0) return;
    uint64_t sequence;
    std::memcpy(&sequence, datagram + 8, sizeof sequence);
    if (size != options_.size || sequence >= SeenSequences::kCount ||
        std::memcmp(datagram + kHeader, expected_.data() + kHeader, size - kHeader) != 0) {
      corrupt_++;
      return;
    }
    seen_.add(sequence);
  }

  const Options& options_;
  std::vector<uint8_t> expected_;
  int fd_;
  ReceiveBatch batch_;
  SeenSequences seen_;
  uint64_t corrupt_ = 0;
};

class Sender {
 public:
  explicit Sender(const Options& options)
      : options_(options),
        count_(options.bulk ? std::clamp<size_t>(kMaxMessageBytes / options.size, 1, kBurst) : kBurst),
        memory_(count_ * options.size),
        fd_(udp_socket(0, kSendBuffer)) {
    const sockaddr_in to = ipv4(options.to.c_str(), kPort);
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) fail("connect");
    const int segment = static_cast<int>(options.size);
    if (options.bulk && setsockopt(fd_, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0)
      fail("UDP_SEGMENT");
    for (size_t i = 0; i < count_; i++) fill(memory_.data() + i * options.size, options);
  }

  /// Sends for the whole duration, as far as the window allows; returns the datagrams sent.
  uint64_t run(Sink& sink) {
    const uint64_t end = now() + options_.duration;
    uint64_t sent = 0;
    uint64_t lost = 0;
    while (now() < end && sent + count_ <= SeenSequences::kCount) {
      sink.drain();
      if (options_.window != 0 && sent + count_ > sink.received() + lost + options_.window) {
        if (!sink.wait(kLostAfterMs)) lost = sent - sink.received();
        continue;
      }
      send_turn(sent);
      sent += count_;
    }
    while (sink.wait(kQuietMs)) sink.drain();
    return sent;
  }

 private:
  void send_turn(uint64_t first) {
    for (size_t i = 0; i < count_; i++) {
      const uint64_t sequence = first + i;
      std::memcpy(memory_.data() + i * options_.size + 8, &sequence, sizeof sequence);
    }
    if (options_.bulk) {
      if (send(fd_, memory_.data(), memory_.size(), 0) < 0 && errno != ENOBUFS) fail("send");
      return;
    }
    mmsghdr headers[kBurst]{};
    iovec vectors[kBurst];
    for (size_t i = 0; i < kBurst; i++) {
      vectors[i] = {memory_.data() + i * options_.size, options_.size};
      headers[i].msg_hdr.msg_iov = &vectors[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    for (size_t done = 0; done < kBurst;) {
      const int sent = sendmmsg(fd_, headers + done, static_cast<unsigned>(kBurst - done), 0);
      if (sent < 0 && errno != ENOBUFS) fail("sendmmsg");
      done += sent > 0 ? static_cast<size_t>(sent) : 1;
    }
  }

  const Options& options_;
  const size_t count_;
  std::vector<uint8_t> memory_;
  int fd_;
};

Options parse(int argc, char** argv) {
  enum { from_netns, to_netns, to, size, mode, window, ms };
  static const option names[] = {{"from-netns", required_argument, nullptr, from_netns},
                                 {"to-netns", required_argument, nullptr, to_netns},
                                 {"to", required_argument, nullptr, to},
                                 {"size", required_argument, nullptr, size},
                                 {"mode", required_argument, nullptr, mode},
                                 {"window", required_argument, nullptr, window},
                                 {"duration-ms", required_argument, nullptr, ms},
                                 {}};
  Options o;
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == from_netns)
      o.from_netns = optarg;
    else if (c == to_netns)
      o.to_netns = optarg;
    else if (c == to)
      o.to = optarg;
    else if (c == size)
      o.size = std::strtoull(optarg, nullptr, 10);
    else if (c == mode)
      o.bulk = std::strcmp(optarg, "bulk") == 0;
    else if (c == window)
      o.window = std::strtoull(optarg, nullptr, 10);
    else if (c == ms)
      o.duration = std::strtoull(optarg, nullptr, 10) * 1'000'000;
    else
      std::exit(2);
  }
  if (o.size < kHeader || o.size > 1400) {
    std::fprintf(stderr, "datagrams: --size is between %zu and 1400\n", kHeader);
    std::exit(2);
  }
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  enter(options.to_netns);
  Sink sink(options);
  enter(options.from_netns);
  Sender sender(options);
  sink.report(sender.run(sink));
}
