// SPDX-License-Identifier: Apache-2.0
// When the active path is taken for silent, and what peers report to each other (session/path_set.h).
#include <sodium.h>

#include "path_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session_test;

void data_is_reported_on_by_the_path_it_came_by_once_in_the_reporting_time() {
  PathPair p;
  p.use_paths({1, 2});
  for (int packet = 0; packet < 10; packet++) {
    p.a.write(p.b, "data");
    p.settle();
    p.wait(10 * kMillisecond);
  }
  p.wait(100 * kMillisecond);
  CHECK(count(p.a, Kind::report) == 1);
  const auto report = std::ranges::find(p.a.path_events, Kind::report, &PathEvent::kind);
  CHECK(report->path == 1 && report->sent == 1 && report->frame.received == 1);
  const std::vector<PathCounts> counts = p.counts_of_b();
  CHECK(counts.size() == 2 && counts[0].id == 1 && counts[0].received_packets == 10 &&
        counts[0].received_bytes == 10 * 48);
  CHECK(counts[0].sent_packets >= 2 && counts[0].sent_packets <= 3);
  CHECK(counts[1].received_packets == 0 && counts[1].last_received == 0);
  // A second later the next one is told of: it is the newest.
  p.advance(kSecond);
  p.a.write(p.b, "data");
  p.settle();
  CHECK(count(p.a, Kind::report) == 2 && p.a.path_events.back().frame.received == 11);
}

void a_silent_path_is_found_so_long_after_data_and_all_goes_by_the_standby_too_until_it_is_heard() {
  PathPair p;
  p.use_paths({1, 2});
  p.a.write(p.b, "data");
  p.settle();
  p.wait(500 * kMillisecond);
  CHECK(count(p.a, Kind::silent) == 0);  // reported in time
  p.cut = {p.kB1};
  p.a.write(p.b, "data");
  p.settle();
  p.wait(kSilent - kMillisecond);
  CHECK(count(p.a, Kind::silent) == 0);
  p.wait(kMillisecond);
  CHECK(count(p.a, Kind::silent) == 1 && p.a.path_events.back().path == 1);
  p.b.path_events.clear();
  p.b.inbox.clear();
  p.a.write(p.b, "data");
  CHECK(p.a.sent.size() == 2 && p.a.sent[0].bytes == p.a.sent[1].bytes && p.a.duplicates == 1);
  const std::vector<Way> ways = p.settle();
  CHECK((ways.at(0) == Way{p.kA1, p.kB1}) && (ways.at(1) == Way{p.kA2, p.kB2}));
  CHECK(kinds(p.b) == std::vector{Kind::arrival} && p.b.path_events.at(0).path == 2);
  // Handshakes too.
  p.advance(kSecond);
  CHECK(p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a));
  CHECK(p.a.sent.size() == 2 && p.a.sent[0].bytes == p.a.sent[1].bytes);
  p.settle();
  p.cut.clear();
  // What the peer says by it shows that it can be heard, not that it hears.
  p.b.table.set_paths({PathPair::settings(p.a, {{1, PathPair::ends(p.kB1, p.kA1)}})}, p.b.now, p.b);
  p.b.write(p.a, "data");
  p.settle();
  CHECK(count(p.a, Kind::heard) == 0);
  p.a.write(p.b, "data");
  CHECK(p.a.sent.size() == 2);
  p.settle();
  CHECK(p.b.inbox.size() == 2);  // no copy is delivered twice
  p.wait(60 * kMillisecond);
  CHECK(count(p.a, Kind::heard) == 1 && count(p.a, Kind::silent) == 1);
  p.a.write(p.b, "data");
  CHECK(p.a.sent.size() == 1);
}

void the_control_plane_has_a_path_of_its_own_and_says_nothing_of_the_active_ones_silence() {
  PathPair p;
  p.use_paths({1, 2});
  PathSettings set =
      PathPair::settings(p.b, {{1, PathPair::ends(p.kA1, p.kB1)}, {2, PathPair::ends(p.kA2, p.kB2)}});
  set.control = 2;
  p.a.table.set_paths({set}, p.a.now, p.a);
  const Key32 key = p.b.table.local().public_key;
  const auto says = [&](uint8_t kind) {
    p.a.sent.clear();
    const std::array<uint8_t, 4> message{0xC0, kind, 0, 0};
    CHECK(p.a.table.send_inside(key, message, p.a.now, p.a));
    CHECK(p.a.sent.size() == 1);
    return p.a.sent.back().to.remote;
  };
  p.cut = {p.kB1, p.kB2};
  for (const ControlKind kind : {ControlKind::message, ControlKind::ping, ControlKind::pong})
    CHECK(same(says(static_cast<uint8_t>(kind)), p.kB2));
  p.a.sent.clear();
  p.wait(2 * kSilent);
  CHECK(count(p.a, Kind::silent) == 0);
  const std::vector<PathCounts> counts = p.a.table.path_counts(key);
  CHECK(counts.at(0).sent_packets == 0 && counts.at(1).sent_packets == 3);
  // What engines say to each other, covers and packets go as before; so do messages while there is no such
  // path.
  CHECK(same(says(static_cast<uint8_t>(ControlKind::cover)), p.kB1));
  p.a.sent.clear();
  p.wait(2 * kSilent);
  CHECK(count(p.a, Kind::silent) == 1);
  // By the standby once, whatever leads there.
  CHECK(same(says(static_cast<uint8_t>(ControlKind::message)), p.kB2));
  set.control = 0;
  set.paths = {{3, PathPair::ends(p.kA1, p.kB1)}};
  p.a.table.set_paths({set}, p.a.now, p.a);
  CHECK(same(says(static_cast<uint8_t>(ControlKind::message)), p.kB1));
}

void without_a_time_for_it_no_path_is_silent_and_without_one_for_reports_none_is_sent() {
  PathPair p;
  PathSettings quiet = PathPair::settings(p.b, {{1, PathPair::ends(p.kA1, p.kB1)}});
  quiet.timing.silent_after = 0;
  p.a.table.set_paths({quiet}, p.a.now, p.a);
  PathSettings mute = PathPair::settings(p.a, {{1, PathPair::ends(p.kB1, p.kA1)}});
  mute.timing.report_every = 0;
  p.b.table.set_paths({mute}, p.b.now, p.b);
  p.a.write(p.b, "data");
  p.settle();
  p.wait(kSecond);
  CHECK(p.a.path_events.empty() && p.counts_of_b().at(0).sent_packets == 0);
}

void the_next_deadline_is_told_to_whoever_sleeps() {
  Nanoseconds wake_at = kNever;
  Node a(1, 1), b(2, 2);
  SessionEnvironment environment = a.environment();
  environment.wake_at = [&](Nanoseconds at) { wake_at = at; };
  SessionTable table(Node::key(1), 4, 1, environment);
  table.qsbr().quiescent(0);
  PeerSettings settings;
  settings.public_key = b.table.local().public_key;
  settings.endpoint = b.self;
  CHECK(table.set_peers({settings}, a.now, a));
  b.add(a, std::nullopt, false);
  CHECK(table.start_handshake(settings.public_key, a.now, a));
  b.receive(a.sent.back().bytes, a.self);
  CHECK(table.handle_response(load<Response>(b.sent.back().bytes.data()), b.self, a.now, a) ==
        Outcome::accepted);
  CHECK(wake_at == kNever);
  table.set_paths({PathPair::settings(b, {{1, b.self}})}, a.now, a);
  CHECK(wake_at == kNever);
  CHECK(table.send_inside(settings.public_key, Bytes(settings.public_key), a.now, a));
  CHECK(wake_at == a.now + kSilent);
  a.now += kSilent;
  table.handle_path_timers(a.now, a);
  CHECK(wake_at == kNever && count(a, Kind::silent) == 1);
  // A report may bring the deadline forward: data was under way when it was sent, so the next is due.
  PathSettings flowing = PathPair::settings(b, {{2, b.self}});
  flowing.timing = {.silent_after = 300 * kMillisecond,
                    .least_round_trip = 80 * kMillisecond,
                    .silent_between_reports = 50 * kMillisecond,
                    .report_every = 30 * kMillisecond};
  table.set_paths({flowing}, a.now, a);
  CHECK(table.send_inside(settings.public_key, Bytes(settings.public_key), a.now, a));
  CHECK(wake_at == a.now + 300 * kMillisecond);
  Peer* peer = nullptr;
  table.for_each([&](Peer& one) { peer = &one; });
  crypto::Aead aead{crypto::AeadChoice{}};
  const auto report = [&] {
    table.handle_path_frame(*peer->current.load(), encode_path_report(1), b.self, a.now, aead, a);
  };
  a.now += 60 * kMillisecond;
  report();
  CHECK(wake_at == a.now + 50 * kMillisecond);
  a.now += 50 * kMillisecond;
  table.handle_path_timers(a.now, a);
  CHECK(wake_at == kNever && count(a, Kind::silent) == 2);
  // Heard again, with data under way: it may fall silent again without any being sent.
  CHECK(table.send_inside(settings.public_key, Bytes(settings.public_key), a.now, a));
  CHECK(wake_at == kNever);
  a.now += 60 * kMillisecond;
  report();
  CHECK(count(a, Kind::heard) == 1 && wake_at == a.now + 50 * kMillisecond);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(data_is_reported_on_by_the_path_it_came_by_once_in_the_reporting_time);
  RUN(a_silent_path_is_found_so_long_after_data_and_all_goes_by_the_standby_too_until_it_is_heard);
  RUN(the_control_plane_has_a_path_of_its_own_and_says_nothing_of_the_active_ones_silence);
  RUN(without_a_time_for_it_no_path_is_silent_and_without_one_for_reports_none_is_sent);
  RUN(the_next_deadline_is_told_to_whoever_sleeps);
  return omerta::check::finish();
}
