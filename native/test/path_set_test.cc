// SPDX-License-Identifier: Apache-2.0
// Several ways to one peer (session/path_set.h): by which it is sent to, and what a set keeps.
#include <sodium.h>

#include <random>
#include <thread>

#include "path_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session_test;

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
  RUN(what_the_active_path_takes_bounds_packets_whatever_the_others_take);
  RUN(a_peer_with_paths_does_not_roam_its_data_from_elsewhere_is_delivered_and_told_of);
  RUN(what_is_sent_changes_path_without_a_handshake_and_an_emptied_set_roams_again);
  RUN(a_path_that_stays_keeps_its_counts_and_one_with_other_ends_does_not);
  RUN(a_set_survives_new_keys_and_the_end_of_the_session_and_not_the_peer);
  RUN(a_leg_of_a_path_that_leads_back_another_way_is_followed);
  RUN(sets_change_while_packets_flow);
  return omerta::check::finish();
}
