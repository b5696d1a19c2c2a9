// SPDX-License-Identifier: Apache-2.0
// What the running engine makes of signs that an offload spoils packets: when it is given up, and when
// not. Time is an argument everywhere.
#include <sodium.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <vector>

#include "check.h"
#include "engine/gso_probe.h"
#include "loopback.h"
#include "udp/gro_watch.h"
#include "udp/socket_io.h"

namespace {

/// What a segmented message gets from the kernel; 0 = sent.
int segmented_error = 0;

}  // namespace

/// Stands in front of libc's: a kernel that refuses segmented messages.
extern "C" int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  for (unsigned i = 0; i < count; i++) {
    bool segmented = false;
    msghdr& header = messages[i].msg_hdr;
    for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c))
      segmented |= c->cmsg_level == IPPROTO_UDP;
    if (!segmented || segmented_error == 0) continue;
    if (i != 0) return static_cast<int>(syscall(SYS_sendmmsg, fd, messages, i, flags));
    errno = segmented_error;
    return -1;
  }
  return static_cast<int>(syscall(SYS_sendmmsg, fd, messages, count, flags));
}

namespace {

using namespace omerta;
using udp::GroWatch;
using Action = udp::GroWatch::Action;

void count(GroWatch& watch, bool coalesced, size_t good, size_t bad) {
  for (size_t i = 0; i < good; i++) watch.count(coalesced, true);
  for (size_t i = 0; i < bad; i++) watch.count(coalesced, false);
}

void gro_is_given_up_when_what_it_spoiled_is_good_without_it() {
  GroWatch watch;
  Nanoseconds now = kSecond;
  count(watch, true, 20, 31);
  CHECK(watch.tick(now) == Action::none);  // not enough yet
  count(watch, true, 0, 1);
  CHECK(watch.tick(now) == Action::turn_off);
  count(watch, false, 0, 50);  // what was coalesced before has lost its sizes
  CHECK(watch.tick(now) == Action::none);
  CHECK(watch.tick(now += 60 * kMillisecond) == Action::none);
  count(watch, false, 31, 1);
  CHECK(watch.tick(now += kMillisecond) == Action::none);
  count(watch, false, 1, 0);
  CHECK(watch.tick(now += kMillisecond) == Action::give_up);
  count(watch, true, 0, 1000);
  CHECK(watch.tick(now += 3600 * kSecond) == Action::none);
}

void gro_stays_when_the_garbage_goes_on_without_it_and_is_tried_ever_more_rarely() {
  GroWatch watch;
  Nanoseconds now = kSecond;
  Nanoseconds pause = 60 * kSecond;
  for (int round = 0; round < 10; round++) {
    count(watch, true, 0, 100);
    CHECK(watch.tick(now) == Action::turn_off);
    watch.tick(now += 60 * kMillisecond);
    count(watch, false, 100, 50);
    CHECK(watch.tick(now += kSecond) == Action::turn_on);
    count(watch, true, 0, 100);
    CHECK(watch.tick(now + pause - 1) == Action::none);
    now += pause;
    pause = std::min(2 * pause, 3600 * kSecond);
  }
}

void gro_stays_when_good_datagrams_outnumber_the_bad_or_nothing_comes_to_compare() {
  GroWatch watch;
  Nanoseconds now = kSecond;
  for (int i = 0; i < 100; i++) {
    count(watch, true, 40, 39);
    CHECK(watch.tick(now += kSecond) == Action::none);
  }
  for (int i = 0; i < 100; i++) {  // a trickle of garbage in much traffic
    count(watch, true, 1024, 20);
    CHECK(watch.tick(now += kSecond) == Action::none);
  }
  count(watch, false, 0, 1000);  // single datagrams say nothing
  CHECK(watch.tick(now) == Action::none);
  count(watch, true, 0, 32);
  CHECK(watch.tick(now) == Action::turn_off);
  watch.tick(now += 60 * kMillisecond);
  CHECK(watch.tick(now += 29 * kSecond) == Action::none);
  CHECK(watch.tick(now += 2 * kSecond) == Action::turn_on);
  count(watch, true, 0, 32);  // a trial that found nothing is repeated at once
  CHECK(watch.tick(now) == Action::turn_off);
}

void bursts_are_suspicious_when_four_in_a_row_are_followed_by_nothing_in_time() {
  session::BurstWatch watch;
  Nanoseconds now = kSecond;
  for (int i = 0; i < 5; i++) {
    CHECK(!watch.suspicious());
    watch.sent(now);
    watch.received(now + 200 * kMillisecond);  // the answer to TCP's retransmission, which goes alone
    now += 210 * kMillisecond;
  }
  CHECK(watch.suspicious());
  watch.sent(now);
  watch.received(now + 100 * kMillisecond);
  CHECK(!watch.suspicious());
  for (int i = 0; i < 1000; i++) {  // an answered stream, however fast
    watch.sent(now += kMillisecond);
    if (i % 100 == 99) watch.received(now);
  }
  CHECK(!watch.suspicious());
}

session::Endpoint somewhere() {
  session::Endpoint endpoint;
  endpoint.remote = check::loopback(1);
  return endpoint;
}

/// A session table that remembers what it sends.
struct End final : session::SessionOutput {
  explicit End(uint8_t seed)
      : table(key(seed), 4, 1,
              {[](std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); },
               [this] {
                 session::Timestamp t{};
                 store(t.data() + 4, __builtin_bswap64(++stamp));
                 return t;
               }}) {}
  static Key32 key(uint8_t seed) {
    Key32 k;
    k.fill(seed);
    return k;
  }
  void send(const session::Endpoint&, Bytes message, uint8_t) override {
    sent.emplace_back(message.begin(), message.end());
  }
  void session_established(session::Peer&) override {}
  void endpoint_changed(session::Peer&) override {}
  void path_needed(session::Peer&) override {}
  void session_lost(session::Peer&) override {}
  void suite_step(session::SuiteStep) override {}
  void know(const End& other) {
    session::PeerSettings settings;
    settings.public_key = other.table.local().public_key;
    settings.endpoint = somewhere();
    table.set_peers({settings}, kSecond, *this);
  }
  uint64_t stamp = 0;
  std::deque<std::vector<uint8_t>> sent;
  session::SessionTable table;
};

/// Two ends, and a path on which messages are lost as the test says.
struct ProbedPath {
  End a{1}, b{2};
  engine::GsoProbe probe;
  Nanoseconds now = 1000 * kSecond;
  Key32 peer = b.table.local().public_key;

  ProbedPath() {
    a.know(b);
    b.know(a);
    handshake();
    now += kSecond;
  }
  void handshake() {
    a.table.start_handshake(peer, now, a);
    exchange();
  }
  /// Brings what `a` sent to `b` and the answer back.
  void exchange() {
    for (; !a.sent.empty(); a.sent.pop_front())
      if (a.sent.front()[0] == 1)
        b.table.handle_initiation(load<session::Initiation>(a.sent.front().data()), somewhere(), now, b);
    for (; !b.sent.empty(); b.sent.pop_front())
      if (b.sent.front()[0] == 2)
        a.table.handle_response(load<session::Response>(b.sent.front().data()), somewhere(), now, a);
    a.sent.clear();
  }
  bool tick(Nanoseconds by) { return probe.tick(a.table, now += by, a); }
  /// An initiation rides with a burst.
  bool ride(bool lost) {
    if (!probe.take(peer, now)) return false;
    a.table.start_handshake(peer, now, a);
    probe.rode(now);
    now += 10 * kMillisecond;
    if (lost)
      a.sent.clear();
    else
      exchange();
    return true;
  }
};

void gso_is_given_up_after_two_initiations_lost_with_a_burst_and_answered_alone() {
  ProbedPath path;
  for (int round = 1; round <= 2; round++) {
    CHECK(path.ride(true));
    CHECK(!path.ride(true));  // one at a time
    CHECK(!path.tick(900 * kMillisecond));
    CHECK(path.a.sent.empty());
    CHECK(!path.tick(200 * kMillisecond));
    CHECK(path.a.sent.size() == 1 && path.a.sent.front()[0] == 1);  // alone
    path.now += 10 * kMillisecond;
    path.exchange();
    CHECK(path.tick(100 * kMillisecond) == (round == 2));
  }
  CHECK(!path.ride(true));
  CHECK(!path.tick(kSecond));  // told once
}

void gso_stays_when_the_initiation_in_a_burst_is_answered_and_is_probed_ever_more_rarely() {
  ProbedPath path;
  Nanoseconds pause = 60 * kSecond;
  for (int round = 0; round < 8; round++) {
    CHECK(path.ride(false));
    CHECK(!path.tick(100 * kMillisecond));
    path.now += pause - kMillisecond;
    CHECK(!path.ride(false));
    path.now += kMillisecond;
    pause = std::min(2 * pause, 3600 * kSecond);
  }
}

void gso_stays_when_the_path_answers_nothing_the_peer_is_removed_or_bursts_end() {
  ProbedPath dead;
  CHECK(dead.ride(true));
  dead.tick(1100 * kMillisecond);
  dead.a.sent.clear();  // lost as well
  for (int i = 0; i < 50; i++) CHECK(!dead.tick(100 * kMillisecond));
  ProbedPath gone;
  CHECK(gone.ride(true));
  gone.a.table.remove_peers({gone.peer});
  for (int i = 0; i < 50; i++) CHECK(!gone.tick(100 * kMillisecond));
  ProbedPath quiet;
  CHECK(quiet.probe.take(quiet.peer, quiet.now));
  for (int i = 0; i < 50; i++) CHECK(!quiet.tick(kSecond));
  // A single loss does not count: any path may lose a packet.
  ProbedPath lossy;
  CHECK(lossy.ride(true));
  lossy.tick(1100 * kMillisecond);
  lossy.now += 10 * kMillisecond;
  lossy.exchange();
  CHECK(!lossy.tick(100 * kMillisecond));
  CHECK(lossy.ride(false));
  for (int i = 0; i < 50; i++) CHECK(!lossy.tick(100 * kMillisecond));
}

/// Sends segmented messages a kernel refuses with `error` until GSO is given up; how many that takes.
int messages_until_given_up(int error, size_t segment, LocalAddress local = {}) {
  udp::SocketOptions options;
  options.bind = "127.0.0.1";
  udp::UdpSocket sender(options), receiver(options);
  const auto io = udp::make_mmsg_io(sender), receiver_io = udp::make_mmsg_io(receiver);
  udp::SendBatch batch(true);
  CounterRow counters;
  std::vector<uint8_t> data(segment * 4);
  segmented_error = error;
  int messages = 0;
  for (; messages < 50 && sender.gso(); messages++) {
    batch.append(check::loopback(receiver.port()), local, data.data(), data.size(), segment, 0);
    io->flush(batch, counters);
    CHECK(batch.coalesces() == sender.gso());
    size_t arrived = 0;
    for (const udp::Message& message : receiver_io->receive(counters))
      arrived += message.size / message.segment;
    CHECK(arrived == 4);  // one by one
    receiver_io->release();
  }
  segmented_error = 0;
  return messages;
}

void segmented_messages_are_given_up_when_the_kernel_does_not_want_them() {
  CHECK(messages_until_given_up(EIO, 1452) == 1);
  CHECK(messages_until_given_up(EINVAL, 1200) == 8);
  CHECK(messages_until_given_up(0, 1452) == 50);
  // Too large for the path: that is the path's affair.
  CHECK(messages_until_given_up(EMSGSIZE, 1200) == 50);
  CHECK(messages_until_given_up(EINVAL, 1452) == 50);
  // The source address is gone: that is no reason either.
  LocalAddress gone;
  gone.ip[10] = gone.ip[11] = 0xff;
  gone.ip[12] = 192, gone.ip[14] = 2, gone.ip[15] = 77;
  CHECK(messages_until_given_up(EINVAL, 1200, gone) == 50);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(gro_is_given_up_when_what_it_spoiled_is_good_without_it);
  RUN(gro_stays_when_the_garbage_goes_on_without_it_and_is_tried_ever_more_rarely);
  RUN(gro_stays_when_good_datagrams_outnumber_the_bad_or_nothing_comes_to_compare);
  RUN(bursts_are_suspicious_when_four_in_a_row_are_followed_by_nothing_in_time);
  RUN(gso_is_given_up_after_two_initiations_lost_with_a_burst_and_answered_alone);
  RUN(gso_stays_when_the_initiation_in_a_burst_is_answered_and_is_probed_ever_more_rarely);
  RUN(gso_stays_when_the_path_answers_nothing_the_peer_is_removed_or_bursts_end);
  RUN(segmented_messages_are_given_up_when_the_kernel_does_not_want_them);
  return omerta::check::finish();
}
