// SPDX-License-Identifier: Apache-2.0
// Connections joined in pairs, over loopback: what comes out is what went in, in both directions at once, and
// each kind of end reaches the other side as it was.
#include "exit/stream_relay.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "check.h"

using namespace omerta;
using exit::StreamRelay;

namespace {

constexpr int kWaitMs = 20'000;

/// A connection over loopback: `near` is joined, `far` is who is there.
struct Connection {
  int near = -1, far = -1;

  Connection() {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
    CHECK(listen(listener, 1) == 0);
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(far, reinterpret_cast<sockaddr*>(&address), size) == 0);
    near = accept(listener, nullptr, nullptr);
    close(listener);
  }
  ~Connection() {
    leave_near();
    leave_far();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  void leave_near() { leave(near); }
  void leave_far() { leave(far); }
  void reset_far() {
    const linger reset{1, 0};
    setsockopt(far, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    leave_far();
  }

 private:
  static void leave(int& fd) {
    if (fd >= 0) close(fd);
    fd = -1;
  }
};

/// Counts how pairs ended.
struct Ends {
  std::atomic<int> ended{0}, cut{0};
  StreamRelay::Ended told() {
    return [this](uint64_t, bool is_cut) { (is_cut ? cut : ended)++; };
  }
};

/// Two connections that are joined: who is at their far ends has nobody else between them.
struct Joined {
  explicit Joined(Nanoseconds idle = 60 * kSecond)
      : relay(ends.told(), idle), pair(relay.join(a.near, b.near)) {
    a.leave_near();
    b.leave_near();
  }

  Ends ends;
  StreamRelay relay;
  Connection a, b;
  const uint64_t pair;
};

bool comes_true(const auto& condition) {
  for (int i = 0; i < kWaitMs; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

/// What comes within the time there is; 0: the end, below 0: the errno.
int read_within(int fd, void* into, size_t size) {
  pollfd ready{fd, POLLIN, 0};
  if (poll(&ready, 1, kWaitMs) <= 0) return -ETIMEDOUT;
  const ssize_t got = recv(fd, into, size, 0);
  return got < 0 ? -errno : static_cast<int>(got);
}

std::vector<uint8_t> random_bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(size);
  for (uint8_t& each : bytes) each = static_cast<uint8_t>(random());
  return bytes;
}

void send_all(int fd, const std::vector<uint8_t>& bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t sent = send(fd, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) break;
    at += static_cast<size_t>(sent);
  }
  shutdown(fd, SHUT_WR);
}

std::vector<uint8_t> read_all(int fd) {
  std::vector<uint8_t> all;
  uint8_t piece[10'007];
  for (int got; (got = read_within(fd, piece, sizeof piece)) > 0;) all.insert(all.end(), piece, piece + got);
  return all;
}

void what_goes_in_comes_out_both_ways_and_ends() {
  Joined joined;
  Connection &a = joined.a, &b = joined.b;
  const std::vector<uint8_t> there = random_bytes(30'000'000, 1), back = random_bytes(20'000'001, 2);
  std::vector<uint8_t> came_back;
  std::thread sending([&] { send_all(a.far, there); });
  std::thread answering([&] { send_all(b.far, back); });
  std::thread reading([&] { came_back = read_all(a.far); });
  CHECK(read_all(b.far) == there);
  for (std::thread* each : {&sending, &answering, &reading}) each->join();
  CHECK(came_back == back);
  CHECK(comes_true([&] { return joined.ends.ended == 1; }));
  CHECK(joined.ends.cut == 0);
}

void a_direction_ends_alone() {
  Joined joined;
  Connection &a = joined.a, &b = joined.b;
  shutdown(a.far, SHUT_WR);
  uint8_t byte = 0;
  CHECK(read_within(b.far, &byte, 1) == 0);
  CHECK(send(b.far, "x", 1, MSG_NOSIGNAL) == 1);
  CHECK(read_within(a.far, &byte, 1) == 1 && byte == 'x');
  CHECK(joined.ends.ended == 0);
  shutdown(b.far, SHUT_WR);
  CHECK(read_within(a.far, &byte, 1) == 0);
  CHECK(comes_true([&] { return joined.ends.ended == 1; }));
}

void a_reset_reaches_the_other_side() {
  Joined joined;
  Connection &a = joined.a, &b = joined.b;
  a.reset_far();
  uint8_t byte = 0;
  CHECK(read_within(b.far, &byte, 1) == -ECONNRESET);
  CHECK(comes_true([&] { return joined.ends.cut == 1; }));
}

void whoever_has_it_cut_hears_nothing_of_it() {
  Joined joined;
  Connection &a = joined.a, &b = joined.b;
  joined.relay.cut(joined.pair);
  joined.relay.cut(joined.pair);
  joined.relay.cut(joined.pair + 1);
  uint8_t byte = 0;
  CHECK(read_within(a.far, &byte, 1) == -ECONNRESET);
  CHECK(read_within(b.far, &byte, 1) == -ECONNRESET);
  CHECK(joined.ends.cut == 0 && joined.ends.ended == 0);
}

/// One that does not read stops who sends to it, for nothing is kept between them; the others go on
/// meanwhile.
void a_slow_reader_stops_its_sender_alone() {
  Ends ends;
  StreamRelay relay(ends.told(), 60 * kSecond);
  Connection a, b, c, d;
  relay.join(a.near, b.near);
  relay.join(c.near, d.near);
  const std::vector<uint8_t> much = random_bytes(64'000'000, 3);
  std::thread sending([&] { send_all(a.far, much); });
  CHECK(comes_true([&] {
    int unsent = 0;
    ioctl(a.far, TIOCOUTQ, &unsent);
    int unread = 0;
    ioctl(b.far, FIONREAD, &unread);
    return unsent > 100'000 && unread > 0;
  }));
  const std::vector<uint8_t> others = random_bytes(3'000'000, 4);
  std::thread other([&] { send_all(c.far, others); });
  CHECK(read_all(d.far) == others);
  other.join();
  CHECK(read_all(b.far) == much);
  sending.join();
}

/// As much as goes, of a connection nobody reads from at its other end.
void fill(int fd) {
  const std::vector<uint8_t> piece(64 * 1024);
  for (int idle = 0; idle < 300;) {
    const ssize_t sent = send(fd, piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    idle = sent > 0 ? 0 : idle + 1;
    if (sent <= 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void a_reset_is_seen_while_nothing_moves_either_way() {
  Joined joined;
  Connection &a = joined.a, &b = joined.b;
  fill(a.far);
  fill(b.far);
  a.reset_far();
  CHECK(comes_true([&] { return joined.ends.cut == 1; }));
}

void one_by_which_nothing_comes_is_cut_off() {
  Joined joined(300 * kMillisecond);
  CHECK(comes_true([&] { return joined.ends.cut == 1; }));
}

void without_descriptors_nothing_is_joined() {
  Ends ends;
  StreamRelay relay(ends.told(), 60 * kSecond);
  Connection a;
  int error = 0;
  try {
    relay.join(a.near, -1);
  } catch (const std::system_error& failure) {
    error = failure.code().value();
  }
  CHECK(error == EBADF);
}

void many_begin_and_end_while_others_are_cut() {
  Ends ends;
  constexpr int kPairs = 100;
  StreamRelay relay(ends.told(), 60 * kSecond);
  for (int i = 0; i < kPairs; i++) {
    Connection a, b;
    const uint64_t pair = relay.join(a.near, b.near);
    a.leave_near();
    b.leave_near();
    if (i % 3 == 0) relay.cut(pair);
    if (i % 3 == 1) a.reset_far();
    if (i % 3 == 2) {
      shutdown(a.far, SHUT_WR);
      shutdown(b.far, SHUT_WR);
      uint8_t byte = 0;
      CHECK(read_within(a.far, &byte, 1) == 0);
    }
  }
  CHECK(comes_true([&] { return ends.cut >= kPairs / 3 && ends.ended == kPairs / 3; }));
}

void whoever_goes_away_resets_what_is_left() {
  Ends ends;
  Connection a, b;
  {
    StreamRelay relay(ends.told(), 60 * kSecond);
    relay.join(a.near, b.near);
    CHECK(send(a.far, "x", 1, MSG_NOSIGNAL) == 1);
    uint8_t byte = 0;
    CHECK(read_within(b.far, &byte, 1) == 1);
    a.leave_near();
    b.leave_near();
  }
  uint8_t byte = 0;
  CHECK(read_within(b.far, &byte, 1) == -ECONNRESET);
  CHECK(ends.cut == 0);
}

}  // namespace

int main() {
  RUN(what_goes_in_comes_out_both_ways_and_ends);
  RUN(a_direction_ends_alone);
  RUN(a_reset_reaches_the_other_side);
  RUN(whoever_has_it_cut_hears_nothing_of_it);
  RUN(a_slow_reader_stops_its_sender_alone);
  RUN(a_reset_is_seen_while_nothing_moves_either_way);
  RUN(one_by_which_nothing_comes_is_cut_off);
  RUN(without_descriptors_nothing_is_joined);
  RUN(many_begin_and_end_while_others_are_cut);
  RUN(whoever_goes_away_resets_what_is_left);
  return check::finish();
}
