// SPDX-License-Identifier: Apache-2.0
// Load generator and sink of the relay benchmark, in one process so that both ends have one clock. The
// sender's sockets are made in the client's network namespace, the sink's in the server's.
//
//   sender thread  client ns ──> relay ──> server ns  sink thread
//
// Every datagram is a valid Omerta forward frame: its sequence number stands where a WireGuard counter
// would and is covered by the leg tag, which is computed for each one. The sink checks every frame,
// each byte of its header and tag; a frame that is not exactly what it must be is counted as corrupt,
// and one seen twice as a duplicate. Prints one line of JSON.
#include <getopt.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "receive_batch.h"
#include "traffic.h"
#include "turn.h"

using namespace omerta::bench;

namespace {

constexpr unsigned kBurst = 64;  ///< datagrams of one sendmmsg, and segments of one GSO message
constexpr size_t kMaxMessageBytes = 65000;
constexpr size_t kChannelHeader = 4;       ///< TURN ChannelData, RFC 8656 section 12.4
constexpr long kPause = 500'000;           ///< ns between two looks of a sink that is not woken
constexpr uint64_t kQuiet = kSecond / 10;  ///< no datagram for this long: everything has arrived

enum class Protocol { omerta, plain, turn };
enum class Mode { single, batched, bulk };

struct Options {
  std::string client_netns;
  std::string server_netns;
  std::string relay;
  uint16_t relay_port = 0;
  std::string server;
  Protocol protocol = Protocol::plain;
  Mode mode = Mode::single;
  size_t size = 64;
  uint32_t flows = 1;
  uint32_t destinations = 1;
  uint32_t legs = 1;
  bool mixed = false;  ///< bulk: every segment of a message is another leg's
  uint64_t rate = 0;   ///< datagrams per second; 0 = as fast as it goes
  uint64_t duration = kSecond / 2;
  uint32_t run = static_cast<uint32_t>(getpid());  ///< tells this run's frames from an earlier one's
};

// ---- sink -----------------------------------------------------------------------------------------

class Sink {
 public:
  explicit Sink(const Options& options) : options_(options) {
    for (uint32_t d = 0; d < options.destinations; d++) {
      const int fd = udp_socket(bench_server_port(d, options.destinations), 64 << 20);
      const int on = 1;
      setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
      setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
      sockets_.push_back({fd, POLLIN, 0});
      overflow_.push_back(0);
    }
    if (options.rate != 0) latencies_.reserve(options.rate * (options.duration / kSecond + 1));
  }

  /// Receives until `sending` has ended and nothing more comes.
  void run(const std::atomic<bool>& sending) {
    uint64_t quiet_since = now();
    for (;;) {
      // Waking this thread would be work on the relay's account that no relay between machines has, so
      // a saturated sink looks by itself. Latency needs the wake-up.
      if (options_.rate == 0) {
        const timespec pause{0, kPause};
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
      } else {
        poll(sockets_.data(), sockets_.size(), 10);
      }
      bool got = false;
      for (size_t i = 0; i < sockets_.size(); i++)
        while (receive(i)) got = true;
      const uint64_t t = now();
      if (got || sending.load(std::memory_order_relaxed)) quiet_since = t;
      if (t - quiet_since > kQuiet) return;
    }
  }

  void report(uint64_t sent) {
    std::sort(latencies_.begin(), latencies_.end());
    const auto percentile = [this](double fraction) -> unsigned long long {
      if (latencies_.empty()) return 0;
      const auto rank = static_cast<size_t>(fraction * static_cast<double>(latencies_.size()));
      return latencies_[std::min(rank, latencies_.size() - 1)];
    };
    uint64_t overflow = 0;
    for (const uint32_t n : overflow_) overflow += n;
    std::printf(
        "{\"sent\":%llu,\"received\":%llu,\"duplicates\":%llu,\"corrupt\":%llu,\"stale\":%llu,"
        "\"sinkOverflow\":%llu,"
        "\"receivingNs\":%llu,\"p50Ns\":%llu,\"p99Ns\":%llu}\n",
        static_cast<unsigned long long>(sent), static_cast<unsigned long long>(seen_.received()),
        static_cast<unsigned long long>(seen_.duplicates()), static_cast<unsigned long long>(corrupt_),
        static_cast<unsigned long long>(stale_), static_cast<unsigned long long>(overflow),
        static_cast<unsigned long long>(batch_.duration()), percentile(0.5), percentile(0.99));
  }

 private:
  bool receive(size_t socket) {
    return batch_.receive(sockets_[socket].fd, overflow_[socket], [&](const uint8_t* data, size_t size) {
      check(data, size, socket, batch_.last());
    });
  }

  void check(const uint8_t* frame, size_t size, size_t socket, uint64_t t) {
    if (size == options_.size && omerta_load32(frame + kRunAt) != options_.run) {
      stale_++;  // a relay that was not scheduled for long still sends what it got in an earlier run
      return;
    }
    const bool relayed = options_.protocol == Protocol::omerta;
    if (size != options_.size) {
      corrupt_++;
      return;
    }
    const uint32_t arrived = omerta_load32(frame + 4);
    const uint32_t id = relayed ? bench_next_leg_id(arrived) : arrived;  // its own inverse
    __u64 key[2];
    bench_leg_key(arrived, key);
    const uint8_t header[4] = {OMERTA_FRAME_MAGIC, OMERTA_KIND_FORWARD,
                               static_cast<uint8_t>(OMERTA_HOP_LIMIT_DEFAULT - (relayed ? 1 : 0)),
                               relayed ? kNextEpoch : kEpoch};
    const uint64_t sequence = omerta_load64(frame + kSequenceAt);
    if (std::memcmp(frame, header, sizeof header) != 0 ||
        omerta_frame_tag(key, frame, static_cast<__u32>(size)) != omerta_load64(frame + 8) ||
        (id & (options_.destinations - 1)) != socket || sequence >= SeenSequences::kCount) {
      corrupt_++;
      return;
    }
    if (!seen_.add(sequence)) return;
    if (options_.rate != 0) latencies_.push_back(static_cast<uint32_t>(t - omerta_load64(frame + kTimeAt)));
  }

  const Options& options_;
  std::vector<pollfd> sockets_;
  std::vector<uint32_t> overflow_;
  std::vector<uint32_t> latencies_;
  ReceiveBatch batch_;
  SeenSequences seen_;
  uint64_t corrupt_ = 0;
  uint64_t stale_ = 0;
};

// ---- sender ---------------------------------------------------------------------------------------

class Sender {
 public:
  explicit Sender(const Options& options)
      : options_(options),
        prefix_(options.protocol == Protocol::turn ? kChannelHeader : 0),
        stride_(prefix_ + options.size),
        segments_(std::clamp<size_t>(kMaxMessageBytes / stride_, 1, kBurst)),
        memory_(kBurst * stride_) {
    const sockaddr_in relay = ipv4(options.relay.c_str(), options.relay_port);
    for (uint32_t f = 0; f < options.flows; f++) {
      // A TURN allocation belongs to a port and outlives this process: every run takes fresh ones.
      const bool turn = options.protocol == Protocol::turn;
      const int fd = udp_socket(turn ? 0 : static_cast<uint16_t>(kFirstClientPort + f), kBufferBytes);
      if (connect(fd, reinterpret_cast<const sockaddr*>(&relay), sizeof relay) != 0) fail("connect");
      if (turn) open_channels(fd, options.server.c_str(), options.destinations);
      sockets_.push_back(fd);
    }
    const uint8_t wireguard_data = 0x04;
    for (unsigned i = 0; i < kBurst; i++) {
      uint8_t* frame = memory_.data() + i * stride_ + prefix_;
      frame[0] = OMERTA_FRAME_MAGIC;
      frame[1] = OMERTA_KIND_FORWARD;
      frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
      frame[3] = kEpoch;
      frame[OMERTA_FRAME_HEADER_SIZE] = wireguard_data;
      omerta_store32(frame + kRunAt, options.run);
    }
  }

  ~Sender() {
    if (options_.protocol != Protocol::turn) return;
    for (const int fd : sockets_) release_allocation(fd);
  }
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  /// Returns the datagrams sent.
  uint64_t run() {
    prctl(PR_SET_TIMERSLACK, 1);
    const uint64_t start = now();
    const uint64_t end = start + options_.duration;
    for (uint64_t turn = 0;; turn++) {
      uint64_t t = now();
      if (options_.rate != 0) {
        const uint64_t due = start + turn * kSecond / options_.rate;
        while (t < due) {
          const timespec until{static_cast<time_t>(due / kSecond), static_cast<long>(due % kSecond)};
          clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
          t = now();
        }
      }
      if (t >= end) return sequence_;
      send_turn(static_cast<uint32_t>(turn % options_.flows), t);
    }
  }

 private:
  void send_turn(uint32_t flow, uint64_t t) {
    const int fd = sockets_[flow];
    switch (options_.mode) {
      case Mode::single:
        next_leg(flow);
        write(0, t);
        send(fd, memory_.data(), stride_, 0);
        return;
      case Mode::batched: {
        mmsghdr headers[kBurst]{};
        iovec vectors[kBurst];
        for (unsigned i = 0; i < kBurst; i++) {
          next_leg(flow);
          write(i, t);
          vectors[i] = {memory_.data() + i * stride_, stride_};
          headers[i].msg_hdr.msg_iov = &vectors[i];
          headers[i].msg_hdr.msg_iovlen = 1;
        }
        for (unsigned done = 0; done < kBurst;) {
          const int sent = sendmmsg(fd, headers + done, kBurst - done, 0);
          done += sent > 0 ? static_cast<unsigned>(sent) : 1;
        }
        return;
      }
      case Mode::bulk: {
        next_leg(flow);
        for (unsigned i = 0; i < segments_; i++) {
          if (options_.mixed && i > 0) next_leg(flow);
          write(i, t);
        }
        iovec vector{memory_.data(), segments_ * stride_};
        alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))];
        msghdr header{};
        header.msg_iov = &vector;
        header.msg_iovlen = 1;
        header.msg_control = control;
        header.msg_controllen =
            put_control(control, IPPROTO_UDP, UDP_SEGMENT, static_cast<uint16_t>(stride_));
        sendmsg(fd, &header, 0);
        return;
      }
    }
  }

  /// Legs belong to flows in turn: leg i is flow (i mod flows)'s, whose source address it demands.
  void next_leg(uint32_t flow) {
    const uint32_t own = options_.legs / options_.flows;
    id_ = bench_leg_id(flow + options_.flows * (cursor_++ % own));
    bench_leg_key(id_, key_);
  }

  void write(unsigned i, uint64_t t) {
    uint8_t* start = memory_.data() + i * stride_;
    uint8_t* frame = start + prefix_;
    omerta_store32(frame + 4, id_);
    omerta_store64(frame + kSequenceAt, sequence_++);
    omerta_store64(frame + kTimeAt, t);
    omerta_store64(frame + 8, omerta_frame_tag(key_, frame, static_cast<__u32>(options_.size)));
    if (prefix_ != 0) {
      const auto channel = static_cast<uint16_t>(kFirstChannel + (id_ & (options_.destinations - 1)));
      start[0] = static_cast<uint8_t>(channel >> 8);
      start[1] = static_cast<uint8_t>(channel);
      start[2] = static_cast<uint8_t>(options_.size >> 8);
      start[3] = static_cast<uint8_t>(options_.size);
    }
  }

  const Options& options_;
  const size_t prefix_;
  const size_t stride_;
  const size_t segments_;
  std::vector<uint8_t> memory_;
  std::vector<int> sockets_;
  uint32_t cursor_ = 0;
  uint32_t id_ = 0;
  __u64 key_[2]{};
  uint64_t sequence_ = 0;
};

Options parse(int argc, char** argv) {
  enum {
    client,
    server_ns,
    relay,
    port,
    server,
    protocol,
    mode,
    size,
    flows,
    destinations,
    legs,
    mixed,
    rate,
    ms
  };
  static const option names[] = {{"client-netns", required_argument, nullptr, client},
                                 {"server-netns", required_argument, nullptr, server_ns},
                                 {"relay", required_argument, nullptr, relay},
                                 {"relay-port", required_argument, nullptr, port},
                                 {"server", required_argument, nullptr, server},
                                 {"protocol", required_argument, nullptr, protocol},
                                 {"mode", required_argument, nullptr, mode},
                                 {"size", required_argument, nullptr, size},
                                 {"flows", required_argument, nullptr, flows},
                                 {"destinations", required_argument, nullptr, destinations},
                                 {"legs", required_argument, nullptr, legs},
                                 {"mixed", no_argument, nullptr, mixed},
                                 {"rate", required_argument, nullptr, rate},
                                 {"duration-ms", required_argument, nullptr, ms},
                                 {}};
  Options o;
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    const std::string text = optarg == nullptr ? "" : optarg;
    const uint64_t number = std::strtoull(text.c_str(), nullptr, 10);
    switch (c) {
      case client:
        o.client_netns = text;
        break;
      case server_ns:
        o.server_netns = text;
        break;
      case relay:
        o.relay = text;
        break;
      case port:
        o.relay_port = static_cast<uint16_t>(number);
        break;
      case server:
        o.server = text;
        break;
      case protocol:
        o.protocol = text == "omerta" ? Protocol::omerta : text == "turn" ? Protocol::turn : Protocol::plain;
        break;
      case mode:
        o.mode = text == "bulk" ? Mode::bulk : text == "batched" ? Mode::batched : Mode::single;
        break;
      case size:
        o.size = number;
        break;
      case flows:
        o.flows = static_cast<uint32_t>(number);
        break;
      case destinations:
        o.destinations = static_cast<uint32_t>(number);
        break;
      case legs:
        o.legs = static_cast<uint32_t>(number);
        break;
      case mixed:
        o.mixed = true;
        break;
      case rate:
        o.rate = number;
        break;
      case ms:
        o.duration = number * 1'000'000;
        break;
      default:
        std::exit(2);
    }
  }
  if (o.size < kMinimumSize || o.flows == 0 || o.legs < o.flows || o.destinations == 0 ||
      (o.destinations & (o.destinations - 1)) != 0) {
    std::fputs("generator: --size is at least 40, --legs at least --flows, --destinations a power of two\n",
               stderr);
    std::exit(2);
  }
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  enter(options.server_netns);
  Sink sink(options);
  enter(options.client_netns);
  Sender sender(options);
  std::atomic<bool> sending{true};
  std::thread receiving([&] { sink.run(sending); });
  const uint64_t sent = sender.run();
  sending = false;
  receiving.join();
  sink.report(sent);
}
