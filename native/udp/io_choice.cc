// SPDX-License-Identifier: Apache-2.0
#include "udp/io_choice.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <mutex>
#include <system_error>
#include <vector>

#include "common/clock.h"

namespace omerta::udp {
namespace {

struct Load {
  size_t count;
  size_t bytes;
  bool coalesced;
};
constexpr Load kSingle{1, 200, false};
constexpr Load kBurst{16, 200, false};
constexpr Load kBulk{48, 1300, true};                      // what fits into one message
constexpr Nanoseconds kMeasuringTime = 12 * kMillisecond;  // for each load
constexpr double kCheaper = 0.9;

Nanoseconds thread_cpu() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<Nanoseconds>(t.tv_sec) * kSecond + static_cast<Nanoseconds>(t.tv_nsec);
}

/// A forwarder on loopback: generator → relay → sink. Only the relay's part is timed.
class Rig {
 public:
  explicit Rig(IoKind kind)
      : generator_(options()),
        relay_(options()),
        sink_(options()),
        generator_io_(make_mmsg_io(generator_)),
        io_(kind == IoKind::mmsg ? make_mmsg_io(relay_) : make_io_uring_io(relay_)),
        sink_io_(make_mmsg_io(sink_)),
        payload_(kBulk.count * kBulk.bytes) {
    for (size_t i = 0; i < payload_.size(); i++) payload_[i] = static_cast<uint8_t>(i * 31 + i / 251);
    io_->start();
  }
  ~Rig() { io_->stop(); }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  /// CPU ns of forwarding one load; 0 when not every datagram arrived as it was sent.
  double round(const Load& load) {
    do sink_io_->receive(counters_);  // what came too late for the round before
    while (sink_io_->release());
    generate(load);
    const Nanoseconds before = thread_cpu();
    const size_t forwarded = forward(load.count);
    const Nanoseconds after = thread_cpu();
    return arrived(load, forwarded) == load.count ? static_cast<double>(after - before) : 0;
  }
  /// The self-test: singles, bursts and coalesced datagrams. A busy machine may need several attempts.
  bool works() {
    for (int i = 0; i < 20; i++)
      if (round(kSingle) > 0 && round(kBurst) > 0 && round(kBulk) > 0) return true;
    return false;
  }

 private:
  static SocketOptions options() {
    SocketOptions o;
    o.bind = "127.0.0.1";
    o.buffer_bytes = 1 << 20;
    return o;
  }
  static omerta_address at(const UdpSocket& socket) {
    omerta_address address{};
    const uint8_t ip[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
    std::copy(std::begin(ip), std::end(ip), address.ip);
    address.port = __builtin_bswap16(socket.port());
    return address;
  }

  void generate(const Load& load) {
    SendBatch batch(load.coalesced && generator_.gso());
    for (size_t i = 0; i < load.count; i++)
      batch.append(at(relay_), {}, payload_.data() + i * load.bytes, load.bytes);
    generator_io_->flush(batch, counters_);
  }

  /// As a worker does.
  size_t forward(size_t count) {
    size_t forwarded = 0;
    while (forwarded < count && io_->wait(5).socket) do {
        for (const Message& message : io_->receive(counters_))
          for (size_t from = 0; from < message.size; from += message.segment, forwarded++)
            send_.append(at(sink_), {}, message.data + from, std::min(message.segment, message.size - from));
        if (!send_.empty()) io_->flush(send_, counters_);
      } while (io_->release());
    return forwarded;
  }

  /// How many datagrams reach the sink as they were sent and in order, of so many.
  size_t arrived(const Load& load, size_t count) {
    size_t right = 0;
    for (size_t seen = 0; seen < count && sink_io_->wait(5).socket;) do {
        for (const Message& message : sink_io_->receive(counters_))
          for (size_t from = 0; from < message.size; from += message.segment, seen++) {
            const size_t size = std::min(message.segment, message.size - from);
            right += seen < count && size == load.bytes &&
                             std::equal(message.data + from, message.data + from + size,
                                        payload_.data() + seen * load.bytes)
                         ? 1
                         : 0;
          }
      } while (sink_io_->release());
    return right;
  }

  UdpSocket generator_;
  UdpSocket relay_;
  UdpSocket sink_;
  std::unique_ptr<SocketIo> generator_io_;
  std::unique_ptr<SocketIo> io_;
  std::unique_ptr<SocketIo> sink_io_;
  SendBatch send_{true};
  CounterRow counters_;
  std::vector<uint8_t> payload_;
};

int io_uring_sysctl() {
  int value = 0;
  std::ifstream("/proc/sys/kernel/io_uring_disabled") >> value;
  return value;
}

Reason refusal(const std::system_error& error) {
  switch (error.code().value()) {
    case EPERM:
      if (const int value = io_uring_sysctl(); value != 0)
        return {"sysctl", "kernel.io_uring_disabled", static_cast<double>(value)};
      return {"forbidden", {}};
    case EACCES:
      return {"forbidden", {}};
    case ENOTSUP:
      return {"not-built-in", "liburing"};
    case ENOSYS:
    case EINVAL:
      return {"needs-linux", "6.1"};
    case ENODATA:
      return {"self-test-failed", "datagrams did not arrive as they were sent"};
    case ENOMEM:
      return {"locked-memory", {}};
    default:
      return {"failed", error.what()};
  }
}

double median(std::vector<double>& values) {
  if (values.empty()) throw std::system_error(ENODATA, std::generic_category(), "measurement on loopback");
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Rounds in turn, so that what else the machine does meets both alike.
void measure(Rig& plain, Rig& ring, const Load& load, double& by_mmsg, double& by_io_uring) {
  std::vector<double> plain_rounds;
  std::vector<double> ring_rounds;
  const Nanoseconds end = boot_clock() + kMeasuringTime;
  while (boot_clock() < end) {
    if (const double ns = plain.round(load); ns > 0) plain_rounds.push_back(ns);
    if (const double ns = ring.round(load); ns > 0) ring_rounds.push_back(ns);
  }
  by_mmsg = median(plain_rounds) / static_cast<double>(load.count);
  by_io_uring = median(ring_rounds) / static_cast<double>(load.count);
}

std::string told(const IoFigures& f) {
  char text[80];
  std::snprintf(text, sizeof text, "%.0f/%.0f/%.0f", f.single, f.burst, f.bulk);
  return text;
}

IoChoice measured() {
  IoChoice choice;
  try {
    Rig ring(IoKind::io_uring);
    Rig plain(IoKind::mmsg);
    IoFigures by_mmsg;
    IoFigures by_ring;
    measure(plain, ring, kSingle, by_mmsg.single, by_ring.single);
    measure(plain, ring, kBurst, by_mmsg.burst, by_ring.burst);
    measure(plain, ring, kBulk, by_mmsg.bulk, by_ring.bulk);
    choice.mmsg = by_mmsg;
    choice.io_uring = by_ring;
  } catch (const std::system_error& error) {
    choice.refused = true;
    choice.reason = refusal(error);
    return choice;
  }
  const double ratio =
      std::cbrt(choice.io_uring->single / choice.mmsg->single *
                (choice.io_uring->burst / choice.mmsg->burst) * (choice.io_uring->bulk / choice.mmsg->bulk));
  choice.kind = ratio < kCheaper ? IoKind::io_uring : IoKind::mmsg;
  choice.reason = {"measured", told(*choice.io_uring) + ' ' + told(*choice.mmsg), ratio};
  return choice;
}

}  // namespace

IoChoice choose_io(IoWanted wanted) {
  if (wanted == IoWanted::mmsg) {
    IoChoice choice;
    choice.reason = {"mmsg-asked-for", {}};
    return choice;
  }
  if (wanted == IoWanted::automatic) {
    static std::mutex once;
    static std::optional<IoChoice> known;
    const std::lock_guard lock(once);
    if (!known.has_value()) known = measured();
    return *known;
  }
  IoChoice choice;
  try {
    SocketOptions options;
    options.bind = "127.0.0.1";
    UdpSocket socket(options);
    make_io_uring_io(socket);
    if (!Rig(IoKind::io_uring).works())
      throw std::system_error(ENODATA, std::generic_category(), "self-test over loopback");
    choice.kind = IoKind::io_uring;
    choice.reason = {"self-test-passed", {}};
  } catch (const std::system_error& error) {
    choice.refused = true;
    choice.reason = refusal(error);
  }
  return choice;
}

std::unique_ptr<SocketIo> make_io(IoKind kind, UdpSocket& socket) {
  if (kind == IoKind::io_uring) {
    try {
      return make_io_uring_io(socket);
    } catch (const std::system_error&) {
      // It could be had when it was chosen; now memory is short, or it was switched off.
    }
  }
  return make_mmsg_io(socket);
}

}  // namespace omerta::udp
