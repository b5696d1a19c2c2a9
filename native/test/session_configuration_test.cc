// SPDX-License-Identifier: Apache-2.0
// What a session table is told: peers and their changes, its private key, suspension, its caps.
#include <sodium.h>

#include <algorithm>

#include "check.h"
#include "session_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session;
using namespace omerta::session_test;

void a_changed_preshared_key_ends_the_running_session() {
  Pair p;
  p.connect(Node::key(7));
  CHECK(p.b.inbox.size() == 1);
  p.a.add(p.b, Node::key(9));
  CHECK(p.a.peer().current.load() == nullptr);
  p.a.write(p.b, "y");
  p.deliver();
  CHECK(p.b.inbox.size() == 1);
}

void a_way_back_to_a_former_private_key_lets_no_old_initiation_in() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  p.a.write(p.b, "x");
  const Sent recorded = p.a.sent.front();
  p.deliver();
  CHECK(p.b.established == 1);
  p.b.table.set_private_key(Node::key(77), p.b.now);
  CHECK(p.b.table.local().public_key == public_key_of(Node::key(77)));
  p.advance(kSecond);
  CHECK(p.b.receive(recorded.bytes, endpoint(66)) == Outcome::bad_mac1);
  p.b.table.set_private_key(Node::key(2), p.b.now);
  CHECK(p.b.receive(recorded.bytes, endpoint(66)) == Outcome::replayed_initiation);
  CHECK(p.b.peer().endpoint().same_path(p.a.self) && p.b.sent.empty());
  // A new one is as good as ever.
  p.advance(20 * kSecond);
  p.a.write(p.b, "y");
  p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
  p.deliver();
  CHECK(p.b.established == 2);
}

void another_private_key_ends_sessions_and_keeps_peers() {
  Pair p;
  p.connect();
  p.b.table.set_private_key(Node::key(77), p.b.now);
  CHECK(p.b.peer().current.load() == nullptr && p.b.peer().rx_bytes.load() > 0);
  CHECK(p.b.peer().endpoint().same_path(p.a.self));
  p.a.write(p.b, "for somebody who is gone");
  p.deliver();
  CHECK(p.b.inbox.size() == 1);
  PeerSettings renamed;
  renamed.public_key = p.b.table.local().public_key;
  renamed.endpoint = p.b.self;
  CHECK(p.a.table.set_peers({renamed}, p.a.now, p.a));
  p.advance(6 * kSecond);
  p.b.write(p.a, "under the new name");
  p.deliver();
  CHECK(p.a.inbox.size() == 1 && starts_with(p.a.inbox[0], "under the new name"));
}

void without_a_private_key_no_handshake_is_started_or_answered() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, true, kSecond);
  p.b.table.set_private_key(std::nullopt, p.b.now);
  p.b.write(p.a, "x");
  p.a.write(p.b, "x");
  p.pass(30 * kSecond);
  CHECK(p.a.established == 0 && p.b.established == 0);
  p.b.table.set_private_key(Node::key(2), p.b.now);
  p.pass(kSecond);
  CHECK(p.b.established == 1);  // the persistent keepalive
}

void a_suspended_table_forgets_sessions_and_sends_nothing_until_it_is_resumed() {
  Pair p;
  p.a.add(p.b, std::nullopt, true, 5 * kSecond);
  p.b.add(p.a, std::nullopt, false);
  p.pass(kSecond);
  CHECK(p.a.established == 1);
  p.a.table.suspend();
  CHECK(p.a.peer().current.load() == nullptr);
  p.a.write(p.b, "x");
  p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
  for (int i = 0; i < 300; i++) {
    p.advance(100 * kMillisecond);
    p.a.tick();
  }
  CHECK(p.a.sent.empty());
  p.a.table.resume(p.a.now);
  p.pass(kSecond);  // the persistent keepalive comes at once
  CHECK(p.a.established == 2 && p.b.established == 2);
  CHECK(p.b.inbox.size() == 1 && starts_with(p.b.inbox[0], "x"));
}

PeerSettings change_of(uint8_t seed) {
  PeerSettings settings;
  settings.public_key = public_key_of(Node::key(seed));
  return settings;
}

std::vector<uint8_t> seeds_of(Node& node) {
  std::vector<uint8_t> seeds;
  node.table.for_each([&](Peer& peer) {
    for (uint8_t seed = 20; seed < 40; seed++)
      if (peer.remote.public_key == public_key_of(Node::key(seed))) seeds.push_back(seed);
  });
  return seeds;
}

void a_change_of_peers_is_carried_out_in_order() {
  Node node(1, 1);
  const auto apply = [&](std::vector<PeerSettings> changes, bool replace = false) {
    return node.table.set_peers(changes, node.now, node, replace);
  };
  using Seeds = std::vector<uint8_t>;
  PeerSettings only_update = change_of(23);
  only_update.update_only = true;
  CHECK(apply({change_of(22), change_of(20), change_of(21), only_update}));
  CHECK((seeds_of(node) == Seeds{22, 20, 21}));
  PeerSettings gone = change_of(20);
  gone.remove = true;
  PeerSettings again = change_of(20);
  again.allowed_ips = {*Prefix::parse("10.0.0.0/8"),
                       {*Prefix::parse("10.0.0.0/8"), true},
                       *Prefix::parse("10.1.0.0/16"),
                       *Prefix::parse("fd00::/8")};
  CHECK(apply({gone, again, change_of(22)}));
  CHECK((seeds_of(node) == Seeds{22, 21, 20}));
  Peer* last = nullptr;
  node.table.for_each([&](Peer& peer) { last = &peer; });
  CHECK((prefixes_of(*last) == std::vector{*Prefix::parse("10.1.0.0/16"), *Prefix::parse("fd00::/8")}));
  PeerSettings fewer = change_of(20);
  fewer.replace_allowed_ips = true;
  fewer.allowed_ips = {*Prefix::parse("10.9.0.0/16")};
  CHECK(apply({fewer}));
  CHECK(prefixes_of(*last) == std::vector{*Prefix::parse("10.9.0.0/16")});
  CHECK(apply({change_of(30)}, true));
  CHECK(seeds_of(node) == Seeds{30});
  CHECK(apply({}, true));
  CHECK(node.table.size() == 0);
}

void what_a_change_leaves_out_stays() {
  Pair p;
  p.connect(Node::key(7));
  CHECK(p.a.table.set_peers({[&] {
                              PeerSettings nothing;
                              nothing.public_key = p.b.table.local().public_key;
                              return nothing;
                            }()},
                            p.a.now, p.a));
  CHECK(p.a.peer().remote.preshared_key == Node::key(7));
  CHECK(p.a.peer().current.load() != nullptr && p.a.peer().endpoint().same_path(p.b.self));
  CHECK(prefixes_of(p.a.peer()) == std::vector{*Prefix::parse("10.0.0.0/8")});
}

void the_mirror_holds_every_index_that_as_many_peers_can_have() {
  constexpr size_t kIndices =
      6;  // of two sessions with two pairs of keys each, of a next one, of a handshake
  const RandomBytes random = [](std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); };
  Node node(1, 1);
  Peer peer(node.table.local(), public_key_of(Node::key(2)));
  for (const size_t peers : {1u, 200u, 1000u, 4000u}) {
    Qsbr qsbr(1);
    IndexTable table(qsbr);
    std::vector<uint64_t> words(IndexTable::most_slots(peers));
    const auto mask = static_cast<uint32_t>(words.size() - 1);
    table.mirror(words.data(), mask);
    std::vector<uint32_t> indices;
    for (size_t i = 0; i < peers * kIndices; i++) indices.push_back(table.allocate(peer, random));
    CHECK(std::ranges::all_of(indices, [&](uint32_t index) { return words[index & mask] == index; }));
  }
}

void more_peers_than_allowed_are_refused_as_a_whole() {
  SessionTable table(Node::key(1), 2, 1, Node(5, 5).environment());
  Node out(6, 6);
  std::vector<PeerSettings> three(3);
  for (uint8_t i = 0; i < 3; i++)
    three[i].public_key = public_key_of(Node::key(static_cast<uint8_t>(i + 20)));
  CHECK(!table.set_peers(three, out.now, out));
  CHECK(table.size() == 0);
  PeerSettings third = three.back();
  three.pop_back();
  CHECK(table.set_peers(three, out.now, out));
  // Room is judged by what there will be in the end.
  CHECK(!table.has_room({third}, false) && table.has_room({third}, true));
  CHECK(!table.set_peers({third}, out.now, out) && table.size() == 2);
  PeerSettings gone = three[0];
  gone.remove = true;
  CHECK(table.set_peers({third, gone, third}, out.now, out) && table.size() == 2);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(a_changed_preshared_key_ends_the_running_session);
  RUN(the_mirror_holds_every_index_that_as_many_peers_can_have);
  RUN(more_peers_than_allowed_are_refused_as_a_whole);
  RUN(a_way_back_to_a_former_private_key_lets_no_old_initiation_in);
  RUN(another_private_key_ends_sessions_and_keeps_peers);
  RUN(without_a_private_key_no_handshake_is_started_or_answered);
  RUN(a_suspended_table_forgets_sessions_and_sends_nothing_until_it_is_resumed);
  RUN(a_change_of_peers_is_carried_out_in_order);
  RUN(what_a_change_leaves_out_stays);
  return omerta::check::finish();
}
