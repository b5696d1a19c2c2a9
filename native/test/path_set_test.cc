// SPDX-License-Identifier: Apache-2.0
// Several ways to one peer (session/path_set.h): two tables with two addresses each, over a wire that the
// test holds.
#include <sodium.h>

#include <algorithm>
#include <random>
#include <set>
#include <thread>

#include "session_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session_test;

constexpr Nanoseconds kSilent = 100 * kMillisecond;
constexpr Nanoseconds kReports = 50 * kMillisecond;
constexpr ProbeToken kToken = {1, 2, 3, 4, 5, 6, 7, 8};

bool same_ip(const LocalAddress& local, const omerta_address& address) {
  return std::memcmp(local.ip, address.ip, 16) == 0;
}

bool same(const omerta_address& a, const omerta_address& b) {
  return a.port == b.port && std::memcmp(a.ip, b.ip, 16) == 0;
}

/// Sent from one address to another.
struct Way {
  omerta_address from;
  omerta_address to;
  bool operator==(const Way& other) const { return same(from, other.from) && same(to, other.to); }
};

/// Two nodes with a session over 1 → 2. Their second addresses are 11 and 12.
struct PathPair : Pair {
  PathPair() {
    connect();
    pass(200 * kMillisecond);
    a.path_events.clear();
    b.path_events.clear();
    a.inbox.clear();
    b.inbox.clear();
  }

  /// Whoever has one of these addresses hears nothing and says nothing by it.
  std::vector<omerta_address> cut;
  std::vector<Way> crossed;

  bool has(const Node& node, const omerta_address& address) const {
    const uint8_t host = address.ip[15];
    return host == (&node == &a ? 1 : 2) || host == (&node == &a ? 11 : 12);
  }
  static omerta_address source_of(const Node& node, const Sent& sent) {
    omerta_address from = node.self.remote;
    if (sent.to.local.known()) std::memcpy(from.ip, sent.to.local.ip, 16);
    return from;
  }
  static Endpoint arriving(const omerta_address& from, const omerta_address& to) {
    Endpoint e;
    e.remote = from;
    std::memcpy(e.local.ip, to.ip, 16);
    e.local.interface = 7;
    return e;
  }
  /// Delivers what was sent, and what that leads to.
  const std::vector<Way>& settle() {
    crossed.clear();
    for (bool any = true; any;) {
      any = false;
      for (Node* node : {&a, &b})
        while (!node->sent.empty()) {
          any = true;
          const Sent sent = node->sent.front();
          node->sent.pop_front();
          const Way way{source_of(*node, sent), sent.to.remote};
          crossed.push_back(way);
          const auto is_cut = [&](const omerta_address& address) {
            return std::ranges::any_of(cut, [&](const omerta_address& one) { return same(one, address); });
          };
          if (is_cut(way.from) || is_cut(way.to)) continue;
          Node& other = node == &a ? b : a;
          if (has(other, way.to)) other.receive(sent.bytes, arriving(way.from, way.to));
        }
    }
    return crossed;
  }
  void wait(Nanoseconds time) {
    for (Nanoseconds t = 0; t < time; t += kMillisecond) {
      advance(kMillisecond);
      a.table.handle_path_timers(a.now, a);
      b.table.handle_path_timers(b.now, b);
      settle();
    }
  }

  static Endpoint ends(const omerta_address& local, const omerta_address& remote) {
    Endpoint e;
    e.remote = remote;
    std::memcpy(e.local.ip, local.ip, 16);
    return e;
  }
  static PathSettings settings(const Node& peer, const std::vector<PathEnds>& paths) {
    return {peer.table.local().public_key, true, paths, {.silent_after = kSilent, .report_every = kReports}};
  }
  /// Both sides have these paths, the first one active.
  void use_paths(const std::vector<uint8_t>& order) {
    std::vector<PathEnds> of_a, of_b;
    for (const uint8_t id : order) {
      of_a.push_back({id, ends(id == 1 ? kA1 : kA2, id == 1 ? kB1 : kB2)});
      of_b.push_back({id, ends(id == 1 ? kB1 : kB2, id == 1 ? kA1 : kA2)});
    }
    a.table.set_paths({settings(b, of_a)}, a.now, a);
    b.table.set_paths({settings(a, of_b)}, b.now, b);
  }
  bool probe(const Endpoint& to, size_t size = 0) {
    return a.table.send_probe({b.table.local().public_key, kToken, to, size}, a.now, a);
  }
  std::vector<PathCounts> counts_of_b() { return b.table.path_counts(a.table.local().public_key); }

  const omerta_address kA1 = address(1, 51820), kA2 = address(11, 51820);
  const omerta_address kB1 = address(2, 51820), kB2 = address(12, 51820);
  const omerta_address kStranger = address(99, 9);
};

std::vector<PathEvent::Kind> kinds(const Node& node) {
  std::vector<PathEvent::Kind> list;
  for (const PathEvent& event : node.path_events) list.push_back(event.kind);
  return list;
}
size_t count(const Node& node, PathEvent::Kind kind) {
  return static_cast<size_t>(std::ranges::count(kinds(node), kind));
}
using Kind = PathEvent::Kind;

void a_probe_is_answered_where_it_came_from_tells_both_sides_and_moves_neither() {
  PathPair p;
  p.use_paths({});
  const int moved_a = p.a.moved, moved_b = p.b.moved;
  CHECK(p.probe(PathPair::ends(p.kA2, p.kB2)));
  CHECK(p.a.sent.back().bytes.size() == 80 && !p.a.sent.back().unfragmented);
  CHECK((p.settle() == std::vector<Way>{{p.kA2, p.kB2}, {p.kB2, p.kA2}}));
  CHECK(kinds(p.b) == std::vector{Kind::strange_probe});
  CHECK(kinds(p.a) == std::vector{Kind::answered});
  const PathEvent& answer = p.a.path_events.at(0);
  CHECK(answer.frame.token == kToken && same(answer.frame.observed, p.kA2) && answer.frame.size == 80);
  CHECK(answer.rtt == 0 && same(answer.ends.remote, p.kB2) && same_ip(answer.ends.local, p.kA2));
  CHECK(p.b.path_events.at(0).ends.local.interface == 7);
  CHECK(p.a.moved == moved_a && p.b.moved == moved_b);
  p.a.write(p.b, "data");
  p.b.write(p.a, "data");
  CHECK((p.settle() == std::vector<Way>{{p.kA1, p.kB1}, {p.kB1, p.kA1}}));
}

void a_probe_of_a_peer_that_agreed_on_nothing_is_dropped_and_moves_nothing() {
  PathPair p;
  const int moved = p.b.moved;
  p.b.peer().keepalive_owed_since.store(0);
  CHECK(p.probe(PathPair::ends(p.kA2, p.kB2)));
  CHECK(p.settle().size() == 1);
  CHECK(p.b.path_frames[static_cast<size_t>(PathFrameOutcome::dropped)] == 1);
  CHECK(p.b.path_events.empty() && p.b.moved == moved && p.b.peer().endpoint().same_place(p.a.self));
  CHECK(p.b.peer().keepalive_owed_since.load() == 0);
}

void a_probe_that_a_rule_refuses_is_dropped_and_the_first_rule_that_is_of_it_counts() {
  PathPair p;
  p.use_paths({});
  const auto rule = [](const omerta_address* local, const char* from, bool answered) {
    session::ProbeRule made{.answered = answered};
    if (local != nullptr) std::memcpy(made.local, local->ip, 16);
    if (from != nullptr) made.from = *session::Prefix::parse(from);
    return made;
  };
  const auto answers = [&p](std::vector<session::ProbeRule> rules) {
    PathSettings set = PathPair::settings(p.a, {});
    set.probe_rules = std::move(rules);
    p.b.table.set_paths({set}, p.b.now, p.b);
    p.a.path_events.clear();
    CHECK(p.probe(PathPair::ends(p.kA2, p.kB2)));
    p.settle();
    return count(p.a, Kind::answered) == 1;
  };
  CHECK(answers({}));
  CHECK(!answers({rule(nullptr, nullptr, false)}));
  CHECK(!answers({rule(&p.kB2, nullptr, false)}) && answers({rule(&p.kB1, nullptr, false)}));
  CHECK(!answers({rule(nullptr, "192.0.2.11/32", false)}) &&
        answers({rule(nullptr, "192.0.2.10/32", false)}));
  CHECK(!answers({rule(nullptr, "192.0.2.10/31", false)}) && answers({rule(nullptr, "::/0", false)}));
  CHECK(answers({rule(&p.kB2, "192.0.0.0/8", true), rule(nullptr, nullptr, false)}));
  CHECK(
      !answers({rule(&p.kB1, nullptr, true), rule(&p.kB2, "0.0.0.0/0", false), rule(&p.kB2, nullptr, true)}));
  CHECK(p.b.path_frames[static_cast<size_t>(PathFrameOutcome::dropped)] == 5);
}

void a_padded_probe_has_the_size_that_was_asked_for_and_its_answer_is_small() {
  PathPair p;
  p.use_paths({});
  CHECK(p.probe(PathPair::ends(p.kA1, p.kB1), 1400));
  CHECK(p.a.sent.back().bytes.size() == 1400 && p.a.sent.back().unfragmented);
  p.settle();
  CHECK(p.a.path_events.at(0).frame.size == 1400);
  CHECK(p.probe(PathPair::ends(p.kA1, p.kB1), 1401) && p.a.sent.back().bytes.size() == 1401);
  p.settle();
  CHECK(p.a.path_events.at(1).frame.size == 1401);
  Endpoint leg;
  leg.remote = p.kB1;
  leg.receive_leg = 5;
  CHECK(p.probe(leg, 1400) && p.a.sent.back().bytes.size() == 1384);  // and 16 of the frame
  CHECK(p.probe(leg, 1) && p.a.sent.back().bytes.size() == 80);
}

void what_the_active_path_takes_bounds_packets_whatever_the_others_take() {
  PathPair p;
  const auto limit = [&p] { return p.a.peer().paths.load()->inner_limit(); };
  const auto use = [&p](const std::vector<PathEnds>& paths) {
    p.a.table.set_paths({PathPair::settings(p.b, paths)}, p.a.now, p.a);
  };
  Endpoint leg = PathPair::ends({}, p.kB2);
  leg.receive_leg = 5;
  leg.send_leg = 6;
  const Endpoint first = PathPair::ends(p.kA1, p.kB1);
  use({});
  CHECK(limit() == SIZE_MAX);
  use({{1, first}, {2, leg, 1300}});
  CHECK(limit() == SIZE_MAX);
  use({{1, first, 1352}, {2, leg, 1300}});
  CHECK(limit() == 1320);
  use({{2, leg, 1300}, {1, first, 1352}});
  CHECK(limit() == 1252);  // and 16 of the frame
  // The leg leads back another way: what it takes is as it was until somebody says otherwise.
  Endpoint elsewhere = leg;
  elsewhere.remote = p.kB1;
  p.a.table.change_ways_back({{5, elsewhere}}, p.a.now, p.a);
  CHECK(limit() == 1252 && same(p.a.peer().endpoint().remote, p.kB1));
}

void a_probe_sent_again_by_somebody_is_a_replay_from_wherever_it_comes() {
  PathPair p;
  p.use_paths({});
  CHECK(p.probe(PathPair::ends(p.kA2, p.kB2)));
  const std::vector<uint8_t> probe = p.a.sent.back().bytes;
  p.settle();
  p.b.path_events.clear();
  p.b.receive(probe, PathPair::arriving(p.kStranger, p.kB2));
  p.b.receive(probe, PathPair::arriving(p.kA2, p.kB2));
  CHECK(p.b.sent.empty() && p.b.path_events.empty());
  // Taken off the wire and sent from elsewhere first: one answer goes there, and nothing is moved.
  CHECK(p.probe(PathPair::ends(p.kA2, p.kB2)));
  const std::vector<uint8_t> taken = p.a.sent.back().bytes;
  p.a.sent.clear();
  p.b.receive(taken, PathPair::arriving(p.kStranger, p.kB2));
  CHECK(p.b.sent.size() == 1 && same(p.b.sent.back().to.remote, p.kStranger) &&
        p.b.sent.back().bytes.size() <= taken.size());
  p.b.sent.clear();
  p.b.write(p.a, "data");
  CHECK(same(p.b.sent.back().to.remote, p.kA1));
}

void a_peer_with_paths_does_not_roam_its_data_from_elsewhere_is_delivered_and_told_of() {
  PathPair p;
  p.use_paths({1});
  p.a.write(p.b, "data");
  const std::vector<uint8_t> message = p.a.sent.back().bytes;
  p.a.sent.clear();
  const int moved = p.b.moved;
  p.b.receive(message, PathPair::arriving(p.kStranger, p.kB1));
  CHECK(kinds(p.b) == std::vector{Kind::arrival} && p.b.path_events.at(0).path == 0);
  CHECK(p.b.inbox.size() == 1 && p.b.moved == moved);
  p.b.write(p.a, "data");
  CHECK(same(p.b.sent.front().to.remote, p.kA1));
  // A handshake from elsewhere is answered there, and its session is used by the path.
  p.b.sent.clear();
  p.advance(kSecond);
  CHECK(p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a));
  const Sent initiation = p.a.sent.back();
  p.a.sent.clear();
  p.b.receive(initiation.bytes, PathPair::arriving(p.kStranger, p.kB1));
  CHECK(p.b.sent.size() == 1 && same(p.b.sent.back().to.remote, p.kStranger));
  const Sent response = p.b.sent.back();
  p.b.sent.clear();
  p.a.receive(response.bytes, PathPair::arriving(p.kB2, p.kA2));
  CHECK(p.a.sent.size() == 1 && same(p.a.sent.back().to.remote, p.kB2) &&
        same_ip(p.a.sent.back().to.local, p.kA2));
  CHECK(same(p.a.established_at.remote, p.kB2));
  p.b.receive(p.a.sent.back().bytes, PathPair::arriving(p.kStranger, p.kB1));
  CHECK(same(p.b.established_at.remote, p.kStranger) && p.b.moved == moved);
  p.a.sent.clear();
  p.a.write(p.b, "data");
  p.b.write(p.a, "data");
  CHECK(same(p.a.sent.back().to.remote, p.kB1) && same(p.b.sent.back().to.remote, p.kA1));
}

void what_is_sent_changes_path_without_a_handshake_and_an_emptied_set_roams_again() {
  PathPair p;
  p.use_paths({1});
  const uint64_t initiations = p.a.table.initiations_sent() + p.b.table.initiations_sent();
  p.use_paths({2, 1});
  p.a.write(p.b, "data");
  CHECK((p.settle().at(0) == Way{p.kA2, p.kB2}));
  CHECK(kinds(p.b) == std::vector{Kind::arrival} && p.b.path_events.at(0).path == 2);
  // An endpoint given meanwhile is where the peer is reached once the set is empty.
  PeerSettings given;
  given.public_key = p.b.table.local().public_key;
  given.endpoint = endpoint(50);
  given.redirect = true;
  CHECK(p.a.table.set_peers({given}, p.a.now, p.a));
  p.a.write(p.b, "data");
  CHECK((p.settle().at(0) == Way{p.kA2, p.kB2}));
  p.use_paths({});
  p.a.write(p.b, "data");
  CHECK(same(p.settle().at(0).to, address(50, 51820)));
  p.b.write(p.a, "data");
  CHECK(same(p.settle().at(0).to, p.kA1));
  p.a.write(p.b, "data");
  CHECK(same(p.settle().at(0).to, p.kB1));  // it was heard there
  CHECK(p.a.table.initiations_sent() + p.b.table.initiations_sent() == initiations);
}

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

void a_path_that_stays_keeps_its_counts_and_one_with_other_ends_does_not() {
  PathPair p;
  p.use_paths({1, 2});
  p.a.write(p.b, "data");
  p.settle();
  p.use_paths({2, 1});
  CHECK(p.counts_of_b().at(1).id == 1 && p.counts_of_b().at(1).received_packets == 1);
  p.use_paths({2});
  p.use_paths({2, 1});
  CHECK(p.counts_of_b().at(1).received_packets == 0);
  p.b.table.set_paths({PathPair::settings(p.a, {{1, PathPair::ends(p.kB2, p.kA2)}})}, p.b.now, p.b);
  CHECK(p.counts_of_b().size() == 1 && p.counts_of_b().at(0).received_packets == 0);
  CHECK(p.a.table.path_counts(Key32{}).empty());
}

void a_set_survives_new_keys_and_the_end_of_the_session_and_not_the_peer() {
  PathPair p;
  p.use_paths({2, 1});
  p.advance(kSecond);
  CHECK(p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a));
  p.settle();
  p.a.write(p.b, "data");
  CHECK(same(p.a.sent.back().to.remote, p.kB2));
  p.settle();
  p.advance(kRejectAfterTime + kSecond);
  p.a.write(p.b, "staged until there is a session");
  CHECK(same(p.a.sent.back().to.remote, p.kB2) && p.a.sent.back().bytes.size() == 148);
  p.settle();
  CHECK(p.b.inbox.back().starts_with("staged") && p.counts_of_b().size() == 2);
  PeerSettings again;
  again.public_key = p.a.table.local().public_key;
  p.b.table.remove_peers({again.public_key});
  CHECK(p.counts_of_b().empty());
  CHECK(p.b.table.set_peers({again}, p.b.now, p.b));
  CHECK(p.counts_of_b().empty());
  p.advance(kSecond);
  p.b.table.handle_path_timers(p.b.now, p.b);  // nobody's timers are left
}

void a_probe_without_a_session_is_not_sent_not_kept_and_starts_no_handshake() {
  Pair p;
  p.a.add(p.b);
  const PathProbe probe{p.b.table.local().public_key, kToken, p.b.self, 0};
  CHECK(!p.a.table.send_probe(probe, p.a.now, p.a));
  CHECK(p.a.sent.empty() && p.a.peer().staged.empty());
  p.connect();
  CHECK(p.a.table.send_probe(probe, p.a.now, p.a));
  p.a.sent.clear();
  p.advance(kRejectAfterTime);
  CHECK(!p.a.table.send_probe(probe, p.a.now, p.a));
  CHECK(!p.a.table.send_probe({Key32{}, kToken, p.b.self, 0}, p.a.now, p.a));
  CHECK(p.a.sent.empty());
}

void the_probes_of_a_peer_are_answered_up_to_a_rate_and_so_are_answers_told_of() {
  PathPair p;
  p.use_paths({});
  const auto sealed = [&](Bytes frame) {  // from a to b, whoever would write it
    std::string text(frame.begin(), frame.end());
    p.a.write(p.b, text);
    const std::vector<uint8_t> message = p.a.sent.back().bytes;
    p.a.sent.clear();
    return message;
  };
  ProbeFrame probe;
  write_probe(probe, kToken, 0);
  for (size_t i = 0; i < 500; i++) p.b.receive(sealed(probe), PathPair::arriving(p.kA1, p.kB1));
  CHECK(p.b.path_frames[static_cast<size_t>(PathFrameOutcome::answered)] == 400);
  CHECK(p.b.path_frames[static_cast<size_t>(PathFrameOutcome::over_rate)] == 100);
  CHECK(count(p.b, Kind::strange_probe) == 10);
  p.b.path_events.clear();
  const ProbeFrame answer = encode_probe_answer(*decode_path_frame(probe), p.kB1, 80);
  for (size_t i = 0; i < 500; i++) p.b.receive(sealed(answer), PathPair::arriving(p.kA1, p.kB1));
  CHECK(count(p.b, Kind::answered) == 400);
  p.advance(kSecond);
  p.b.path_frames = {};
  for (size_t i = 0; i < 500; i++) p.b.receive(sealed(probe), PathPair::arriving(p.kA1, p.kB1));
  CHECK(p.b.path_frames[static_cast<size_t>(PathFrameOutcome::answered)] == 200);
}

void a_malformed_frame_is_dropped_and_moves_nothing() {
  PathPair p;
  p.use_paths({});
  ProbeFrame probe;
  write_probe(probe, kToken, 0);
  const ProbeFrame answer = encode_probe_answer(*decode_path_frame(probe), p.kA1, 80);
  const ReportFrame report = encode_path_report(5);
  const auto bytes = [](const auto& frame) { return std::vector<uint8_t>(frame.begin(), frame.end()); };
  std::vector<std::vector<uint8_t>> bad;
  for (const std::vector<uint8_t>& good : {bytes(probe), bytes(answer), bytes(report)}) {
    CHECK(decode_path_frame(good).has_value());
    if (good.size() > 16) {
      bad.push_back(good);
      bad.back().resize(good.size() - 16);
    }
    bad.push_back(good);
    bad.back().resize(good.size() + 16);  // padded, with the length of before
    bad.push_back(good);
    bad.back()[2] ^= 1;
    bad.push_back(good);
    bad.back().back() = 1;  // of the zero bytes
  }
  bad.push_back(bytes(report));
  bad.back()[1] = 6;
  bad.push_back(bytes(answer));
  bad.back()[1] = 6;
  bad.back()[36] = 1;
  bad.push_back(bytes(answer));
  bad.back()[36] = bad.back()[37] = 0;  // an address without a port
  bad.push_back({0xC0, 6});
  int dropped = 0;
  for (const std::vector<uint8_t>& frame : bad) {
    CHECK(!decode_path_frame(frame).has_value());
    CHECK(is_path_frame(frame));
    p.a.write(p.b, std::string(frame.begin(), frame.end()));
    p.b.receive(p.a.sent.back().bytes, PathPair::arriving(p.kStranger, p.kB1));
    p.a.sent.clear();
    CHECK(p.b.path_frames[static_cast<size_t>(PathFrameOutcome::dropped)] == ++dropped);
  }
  CHECK(p.b.sent.empty() && p.b.path_events.empty() && p.b.peer().endpoint().same_place(p.a.self));
}

void a_path_frame_confirms_a_session_and_its_bytes_are_no_data() {
  PathPair p;
  p.use_paths({});
  p.advance(kSecond);
  CHECK(p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a));
  const Sent initiation = p.a.sent.back();
  p.a.sent.clear();
  p.b.receive(initiation.bytes, p.a.self);
  p.a.receive(p.b.sent.back().bytes, p.b.self);
  p.a.sent.clear();  // the confirming keepalive is lost
  p.b.sent.clear();
  const int established = p.b.established;
  CHECK(p.probe(PathPair::ends(p.kA2, p.kB2)));
  p.b.receive(p.a.sent.back().bytes, PathPair::arriving(p.kA2, p.kB2));
  CHECK(p.b.established == established + 1 && p.b.established_at.same_place(p.a.self));
  CHECK(p.b.sent.size() == 1 && p.b.inbox.empty());
}

void a_leg_of_a_path_that_leads_back_another_way_is_followed() {
  PathPair p;
  Endpoint leg;
  leg.remote = address(80, 80);
  leg.receive_leg = 5;
  leg.send_leg = 6;
  p.a.table.set_paths({PathPair::settings(p.b, {{1, leg}})}, p.a.now, p.a);
  p.a.write(p.b, "data");
  CHECK(p.a.sent.back().to.send_leg == 6);
  Endpoint renewed = leg;
  renewed.send_leg = 7;
  renewed.remote = address(81, 80);
  p.a.table.change_ways_back({{5, renewed}}, p.a.now, p.a);
  p.a.write(p.b, "data");
  CHECK(p.a.sent.back().to.send_leg == 7 && same(p.a.sent.back().to.remote, renewed.remote));
  CHECK(p.a.table.path_counts(p.b.table.local().public_key).at(0).sent_packets == 2);
  // Gone: what is sent by it arrives nowhere, which is what silence is for.
  p.a.table.change_ways_back({{5, std::nullopt}}, p.a.now, p.a);
  p.a.write(p.b, "data");
  CHECK(p.a.sent.size() == 3 && p.a.peer().staged.empty());
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

/// Workers send and receive while the control thread changes sets, counts and probes.
void sets_change_while_packets_flow() {
  PathPair p;
  constexpr size_t kWorkers = 3;
  // One output a thread, as workers have.
  struct Silent final : SessionOutput {
    void send(const Endpoint& to, Bytes, uint8_t) override { unknown += to.known() ? 0 : 1; }
    void session_established(Peer&, const Endpoint&) override {}
    void endpoint_changed(Peer&) override {}
    void path_needed(Peer&) override {}
    void session_lost(Peer&) override {}
    void suite_step(SuiteStep) override {}
    void path_event(Peer&, const PathEvent&) override {}
    void path_duplicate() override {}
    int unknown = 0;
  };
  Node a(3, 1);
  SessionTable table(Node::key(3), 4, kWorkers, a.environment());
  PeerSettings settings;
  settings.public_key = p.b.table.local().public_key;
  settings.endpoint = p.b.self;
  CHECK(table.set_peers({settings}, a.now, a));
  Node& b = p.b;
  PeerSettings known;
  known.public_key = table.local().public_key;
  CHECK(b.table.set_peers({known}, b.now, b));
  b.sent.clear();
  CHECK(table.start_handshake(settings.public_key, a.now, a));
  b.receive(a.sent.back().bytes, a.self);
  CHECK(table.handle_response(load<Response>(b.sent.back().bytes.data()), b.self, a.now, a) ==
        Outcome::accepted);
  Peer* peer = nullptr;
  table.for_each([&](Peer& one) { peer = &one; });
  Keypair* keypair = peer->current.load();
  ProbeFrame probe;
  write_probe(probe, kToken, 0);
  std::atomic<bool> stop{false};
  std::atomic<int> unknown{0};
  std::atomic<size_t> turns{0};
  std::vector<std::thread> workers;
  for (size_t worker = 0; worker < kWorkers; worker++)
    workers.emplace_back([&, worker] {
      Silent out;
      crypto::Aead aead{crypto::AeadChoice{}};
      Nanoseconds now = a.now;
      std::mt19937_64 random(worker);
      while (!stop.load(std::memory_order_relaxed)) {
        table.qsbr().quiescent(worker);
        now += kMillisecond;
        const Endpoint from = PathPair::arriving(random() % 2 == 0 ? p.kB1 : p.kB2, p.kA1);
        table.authenticated(*keypair, from, now, out);
        if (const PathSet* set = peer->paths.load(); set != nullptr) {
          const PathSet::Path* path = SessionTable::heard_by_path(*set, from, now);
          SessionTable::data_by_path(*peer, *set, path, from, now, out);
          if (path != nullptr) table.received_by_path(*peer, *set, *path, 1, 48, true, now, aead, out);
        }
        table.handle_path_frame(*keypair, probe, from, now, aead, out);
        if (const PathSet* set = peer->paths.load(); set != nullptr) set->sent(1, 48);
        table.data_sent(*keypair, 48, now, out);
        if (worker == 0) table.handle_path_timers(now, out);
        table.qsbr().offline(worker);
        turns.fetch_add(1, std::memory_order_relaxed);
      }
      unknown.fetch_add(out.unknown);
    });
  std::mt19937_64 random(9);
  for (int i = 0; i < 3000 || turns.load() < 3000; i++) {
    std::vector<PathEnds> paths;
    for (uint8_t id = 1; id <= 1 + random() % 3; id++) {
      Endpoint ends;
      ends.remote = random() % 2 == 0 ? p.kB1 : p.kB2;
      paths.push_back({id, ends});
    }
    PathSettings set = PathPair::settings(p.b, random() % 4 == 0 ? std::vector<PathEnds>{} : paths);
    set.answers = random() % 8 != 0;
    table.set_paths({set}, a.now, a);
    table.path_counts(settings.public_key);
    table.send_probe({settings.public_key, kToken, b.self, 0}, a.now, a);
    a.sent.clear();
  }
  stop.store(true);
  for (std::thread& worker : workers) worker.join();
  CHECK(unknown.load() == 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(a_probe_is_answered_where_it_came_from_tells_both_sides_and_moves_neither);
  RUN(a_probe_of_a_peer_that_agreed_on_nothing_is_dropped_and_moves_nothing);
  RUN(what_the_active_path_takes_bounds_packets_whatever_the_others_take);
  RUN(a_probe_that_a_rule_refuses_is_dropped_and_the_first_rule_that_is_of_it_counts);
  RUN(a_padded_probe_has_the_size_that_was_asked_for_and_its_answer_is_small);
  RUN(a_probe_sent_again_by_somebody_is_a_replay_from_wherever_it_comes);
  RUN(a_peer_with_paths_does_not_roam_its_data_from_elsewhere_is_delivered_and_told_of);
  RUN(what_is_sent_changes_path_without_a_handshake_and_an_emptied_set_roams_again);
  RUN(data_is_reported_on_by_the_path_it_came_by_once_in_the_reporting_time);
  RUN(a_silent_path_is_found_so_long_after_data_and_all_goes_by_the_standby_too_until_it_is_heard);
  RUN(without_a_time_for_it_no_path_is_silent_and_without_one_for_reports_none_is_sent);
  RUN(a_path_that_stays_keeps_its_counts_and_one_with_other_ends_does_not);
  RUN(a_set_survives_new_keys_and_the_end_of_the_session_and_not_the_peer);
  RUN(a_probe_without_a_session_is_not_sent_not_kept_and_starts_no_handshake);
  RUN(the_probes_of_a_peer_are_answered_up_to_a_rate_and_so_are_answers_told_of);
  RUN(a_malformed_frame_is_dropped_and_moves_nothing);
  RUN(a_path_frame_confirms_a_session_and_its_bytes_are_no_data);
  RUN(a_leg_of_a_path_that_leads_back_another_way_is_followed);
  RUN(the_next_deadline_is_told_to_whoever_sleeps);
  RUN(sets_change_while_packets_flow);
  return omerta::check::finish();
}
