// SPDX-License-Identifier: Apache-2.0
// Path frames of a peer (session/path_frame.h): what is answered, counted and told of, and that none moves
// anything.
#include <sodium.h>

#include <set>

#include "path_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session_test;

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

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(a_probe_is_answered_where_it_came_from_tells_both_sides_and_moves_neither);
  RUN(a_probe_of_a_peer_that_agreed_on_nothing_is_dropped_and_moves_nothing);
  RUN(a_probe_that_a_rule_refuses_is_dropped_and_the_first_rule_that_is_of_it_counts);
  RUN(a_padded_probe_has_the_size_that_was_asked_for_and_its_answer_is_small);
  RUN(a_probe_sent_again_by_somebody_is_a_replay_from_wherever_it_comes);
  RUN(a_probe_without_a_session_is_not_sent_not_kept_and_starts_no_handshake);
  RUN(the_probes_of_a_peer_are_answered_up_to_a_rate_and_so_are_answers_told_of);
  RUN(a_malformed_frame_is_dropped_and_moves_nothing);
  RUN(a_path_frame_confirms_a_session_and_its_bytes_are_no_data);
  return omerta::check::finish();
}
