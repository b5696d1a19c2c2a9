// SPDX-License-Identifier: Apache-2.0
// What the running engine makes of signs that an accelerator spoils packets: when it is given up, and when
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
#include "session/witness.h"
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

constexpr size_t kPeers = 100;

void good(GroWatch& watch, bool coalesced, uint64_t datagrams) { watch.good(coalesced, datagrams); }
/// From each of so many senders.
void bad(GroWatch& watch, bool coalesced, size_t datagrams, uint64_t senders = GroWatch::kWitnesses) {
  for (uint64_t sender = 1; sender <= senders; sender++)
    for (size_t i = 0; i < datagrams; i++) watch.bad(coalesced, sender);
}

/// Gives GRO up; what it took.
bool given_up(GroWatch& watch, Nanoseconds& now) {
  bad(watch, true, 32);
  if (watch.tick(now, kPeers) != Action::turn_off) return false;
  watch.tick(now += 60 * kMillisecond, kPeers);
  good(watch, false, 32);
  return watch.tick(now += kMillisecond, kPeers) == Action::give_up;
}

void gro_is_given_up_when_what_it_spoiled_is_good_without_it() {
  GroWatch watch;
  Nanoseconds now = kSecond;
  CHECK(!watch.due(now));
  good(watch, true, 60);
  bad(watch, true, 31);
  CHECK(watch.due(now) && watch.tick(now, kPeers) == Action::none);  // not enough yet
  bad(watch, true, 1);
  CHECK(watch.tick(now, kPeers) == Action::turn_off);
  bad(watch, false, 50);  // what was coalesced before has lost its sizes
  CHECK(watch.tick(now, kPeers) == Action::none);
  CHECK(watch.tick(now += 60 * kMillisecond, kPeers) == Action::none);
  good(watch, false, 31);
  bad(watch, false, 1, 1);
  CHECK(watch.tick(now += kMillisecond, kPeers) == Action::none);
  good(watch, false, 1);
  CHECK(watch.tick(now += kMillisecond, kPeers) == Action::give_up);
}

void one_sender_never_has_gro_given_up_however_much_it_sends() {
  for (const uint64_t senders : {1, 2}) {
    GroWatch watch;
    Nanoseconds now = kSecond;
    for (int i = 0; i < 100; i++) {
      bad(watch, true, 1000, senders);
      CHECK(watch.tick(now += kSecond, kPeers) == Action::none);
      CHECK(watch.tick(now, 0) == Action::none);  // a relay that has no sessions
    }
    bad(watch, true, 32, 3);
    CHECK(watch.tick(now, kPeers) == Action::turn_off);
  }
}

void a_node_with_one_peer_believes_that_one() {
  GroWatch watch;
  bad(watch, true, 31, 1);
  CHECK(watch.tick(kSecond, 1) == Action::none);
  bad(watch, true, 1, 1);
  CHECK(watch.tick(kSecond, 2) == Action::none);
  CHECK(watch.tick(kSecond, 1) == Action::turn_off);
}

void gro_that_was_given_up_is_tried_again_after_ten_minutes_and_twice_as_long_each_time() {
  GroWatch watch;
  Nanoseconds now = kSecond;
  Nanoseconds pause = 600 * kSecond;
  for (int round = 0; round < 10; round++) {
    CHECK(given_up(watch, now));
    bad(watch, true, 1000);
    CHECK(!watch.due(now + pause - 1) && watch.tick(now + pause - 1, kPeers) == Action::none);
    CHECK(watch.due(now + pause) && watch.tick(now += pause, kPeers) == Action::restore);
    CHECK(!watch.due(now));
    pause = std::min(2 * pause, 86400 * kSecond);
  }
}

void gro_stays_when_the_garbage_goes_on_without_it_and_is_tried_ever_more_rarely() {
  GroWatch watch;
  Nanoseconds now = kSecond;
  Nanoseconds pause = 60 * kSecond;
  for (int round = 0; round < 10; round++) {
    bad(watch, true, 100);
    CHECK(watch.tick(now, kPeers) == Action::turn_off);
    watch.tick(now += 60 * kMillisecond, kPeers);
    good(watch, false, 100);
    bad(watch, false, 50);
    CHECK(watch.tick(now += kSecond, kPeers) == Action::turn_on);
    bad(watch, true, 100);
    CHECK(watch.tick(now + pause - 1, kPeers) == Action::none);
    now += pause;
    pause = std::min(2 * pause, 3600 * kSecond);
  }
}

void gro_stays_when_good_datagrams_outnumber_the_bad_or_nothing_comes_to_compare() {
  GroWatch watch;
  Nanoseconds now = kSecond;
  for (int i = 0; i < 100; i++) {
    good(watch, true, 120);
    bad(watch, true, 39);
    CHECK(watch.tick(now += kSecond, kPeers) == Action::none);
  }
  for (int i = 0; i < 100; i++) {  // a trickle of garbage in much traffic
    bad(watch, true, 20);
    good(watch, true, 1024);
    CHECK(watch.tick(now += kSecond, kPeers) == Action::none);
  }
  bad(watch, false, 1000);  // single datagrams say nothing
  CHECK(watch.tick(now, kPeers) == Action::none);
  bad(watch, true, 32);
  CHECK(watch.tick(now, kPeers) == Action::turn_off);
  watch.tick(now += 60 * kMillisecond, kPeers);
  CHECK(watch.tick(now += 29 * kSecond, kPeers) == Action::none);
  CHECK(watch.tick(now += 2 * kSecond, kPeers) == Action::turn_on);
  bad(watch, true, 32);  // a trial that found nothing is repeated at once
  CHECK(watch.tick(now, kPeers) == Action::turn_off);
}

void a_witness_is_an_address_or_the_identity_behind_a_leg() {
  const Key32 one{1}, other{2};
  session::Endpoint a, b;
  a.remote = check::loopback(1), b.remote = check::loopback(2);
  CHECK(session::witness_of(a, one) == session::witness_of(b, other));  // ports and identities are free
  b.remote.ip[15]++;
  CHECK(session::witness_of(a, one) != session::witness_of(b, one));
  a.remote = {}, a.remote.ip[0] = 0xfd;
  b = a, b.remote.ip[15] = 1;
  CHECK(session::witness_of(a, one) == session::witness_of(b, other));
  b.remote.ip[6] = b.remote.ip[7] = 1;  // the networks of one site
  CHECK(session::witness_of(a, one) == session::witness_of(b, other));
  b.remote.ip[5] = 1;
  CHECK(session::witness_of(a, one) != session::witness_of(b, one));
  a.send_leg = b.send_leg = a.receive_leg = b.receive_leg = 7;
  CHECK(session::witness_of(a, one) == session::witness_of(b, one));
  CHECK(session::witness_of(a, one) != session::witness_of(a, other));
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

session::Endpoint somewhere(uint8_t host) {
  session::Endpoint endpoint;
  endpoint.remote = check::loopback(1);
  endpoint.remote.ip[15] = host;
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
  void session_established(session::Peer&, const session::Endpoint&) override {}
  void endpoint_changed(session::Peer&) override {}
  void path_needed(session::Peer&) override {}
  void session_lost(session::Peer&) override {}
  void suite_step(session::SuiteStep) override {}
  void path_event(session::Peer&, const session::PathEvent&) override {}
  void path_duplicate() override {}
  session::Endpoint endpoint_of(const Key32& peer) {
    session::Endpoint found;
    table.for_each([&](session::Peer& p) {
      if (p.remote.public_key == peer) found = p.endpoint();
    });
    return found;
  }
  void know(const End& other, const session::Endpoint& at) {
    session::PeerSettings settings;
    settings.public_key = other.table.local().public_key;
    settings.endpoint = at;
    table.set_peers({settings}, kSecond, *this);
  }
  uint64_t stamp = 0;
  std::deque<std::vector<uint8_t>> sent;
  session::SessionTable table;
};

using Finding = engine::GsoProbe::Finding;

/// A node and its peers, and paths on which messages are lost as the test says.
struct ProbedPath {
  End a{1};
  std::deque<End> peers;
  End* at;  ///< the peer that is tried
  engine::GsoProbe probe;
  Nanoseconds now = 1000 * kSecond;
  Key32 peer;

  explicit ProbedPath(size_t count = 1) {
    for (size_t i = 0; i < count; i++) {
      End& b = peers.emplace_back(static_cast<uint8_t>(i + 2));
      a.know(b, somewhere(static_cast<uint8_t>(i + 2)));
      b.know(a, somewhere(1));
      to(i);
      handshake();
    }
    to(0);
    now += kSecond;
  }
  void to(size_t i) {
    at = &peers[i];
    peer = at->table.local().public_key;
  }
  void handshake() {
    a.table.start_handshake(peer, now, a);
    exchange();
  }
  /// Brings what `a` sent to the peer and the answer back.
  void exchange() {
    for (; !a.sent.empty(); a.sent.pop_front())
      if (a.sent.front()[0] == 1)
        at->table.handle_initiation(load<session::Initiation>(a.sent.front().data()), somewhere(1), now, *at);
    for (; !at->sent.empty(); at->sent.pop_front())
      if (at->sent.front()[0] == 2)
        a.table.handle_response(load<session::Response>(at->sent.front().data()), a.endpoint_of(peer), now,
                                a);
    a.sent.clear();
  }
  Finding find(Nanoseconds by) { return probe.tick(a.table, now += by, a); }
  bool tick(Nanoseconds by) { return find(by) != Finding::none; }
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
  /// Bursts are lost, handshakes that go alone are not.
  Finding lose_bursts() {
    Finding finding = Finding::none;
    for (int round = 1; round <= 2; round++) {
      CHECK(ride(true));
      CHECK(find(1100 * kMillisecond) == Finding::none);
      now += 10 * kMillisecond;
      exchange();
      finding = find(100 * kMillisecond);
    }
    return finding;
  }
  bool alone() {
    bool alone = false;
    a.table.for_each([&](session::Peer& p) {
      if (p.remote.public_key == peer) alone = p.bursts.alone(now);
    });
    return alone;
  }
};

void gso_is_given_up_for_a_peer_after_two_initiations_lost_with_a_burst_and_answered_alone() {
  ProbedPath path(2);
  for (int round = 1; round <= 2; round++) {
    CHECK(path.ride(true));
    CHECK(!path.ride(true));  // one at a time
    CHECK(!path.tick(900 * kMillisecond));
    CHECK(path.a.sent.empty());
    CHECK(!path.tick(200 * kMillisecond));
    CHECK(path.a.sent.size() == 1 && path.a.sent.front()[0] == 1);  // alone
    path.now += 10 * kMillisecond;
    path.exchange();
    CHECK(path.find(100 * kMillisecond) == (round == 2 ? Finding::lost_to_peer : Finding::none));
  }
  CHECK(path.alone() && path.probe.peers_without(path.now) == 1);
  path.to(1);
  CHECK(!path.alone());
  CHECK(!path.tick(kSecond));  // told once
}

void one_peer_never_has_gso_given_up_for_others_and_gets_another_try_after_ever_longer_pauses() {
  ProbedPath path(2);
  Nanoseconds pause = 600 * kSecond;
  for (int round = 0; round < 6; round++) {
    CHECK(path.lose_bursts() == Finding::lost_to_peer);
    const Nanoseconds since = path.now;
    CHECK(path.alone());
    path.now = since + pause - 1;
    CHECK(path.alone());
    path.now = since + pause;
    CHECK(!path.alone() && path.probe.peers_without(path.now) == 0);
    path.handshake();
    path.now += kSecond;
    pause *= 2;
  }
}

void gso_is_given_up_for_all_when_three_say_so_and_is_tried_again_after_a_pause() {
  ProbedPath path(3);
  CHECK(path.lose_bursts() == Finding::lost_to_peer);
  path.to(1);
  CHECK(path.lose_bursts() == Finding::lost_to_peer);
  path.to(2);
  CHECK(path.lose_bursts() == Finding::lost_to_all);
  CHECK(!path.ride(true));
  CHECK(path.find(599 * kSecond) == Finding::none);
  CHECK(path.find(2 * kSecond) == Finding::restore);
  CHECK(path.find(kSecond) == Finding::none);
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
  RUN(one_sender_never_has_gro_given_up_however_much_it_sends);
  RUN(a_node_with_one_peer_believes_that_one);
  RUN(gro_that_was_given_up_is_tried_again_after_ten_minutes_and_twice_as_long_each_time);
  RUN(a_witness_is_an_address_or_the_identity_behind_a_leg);
  RUN(gro_stays_when_the_garbage_goes_on_without_it_and_is_tried_ever_more_rarely);
  RUN(gro_stays_when_good_datagrams_outnumber_the_bad_or_nothing_comes_to_compare);
  RUN(bursts_are_suspicious_when_four_in_a_row_are_followed_by_nothing_in_time);
  RUN(gso_is_given_up_for_a_peer_after_two_initiations_lost_with_a_burst_and_answered_alone);
  RUN(one_peer_never_has_gso_given_up_for_others_and_gets_another_try_after_ever_longer_pauses);
  RUN(gso_is_given_up_for_all_when_three_say_so_and_is_tried_again_after_a_pause);
  RUN(gso_stays_when_the_initiation_in_a_burst_is_answered_and_is_probed_ever_more_rarely);
  RUN(gso_stays_when_the_path_answers_nothing_the_peer_is_removed_or_bursts_end);
  RUN(segmented_messages_are_given_up_when_the_kernel_does_not_want_them);
  return omerta::check::finish();
}
