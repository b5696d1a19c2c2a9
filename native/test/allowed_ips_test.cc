// SPDX-License-Identifier: Apache-2.0
// Cryptokey routing: which peer has which prefix.
#include <sodium.h>

#include <algorithm>
#include <memory>

#include "check.h"
#include "session_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session;
using namespace omerta::session_test;

/// A prefix of few distinct bits, so that prefixes nest.
Prefix random_prefix() {
  const uint8_t family = randombytes_uniform(2) == 0 ? 4 : 6;
  uint8_t address[16] = {};
  for (uint8_t& byte : address) byte = static_cast<uint8_t>(randombytes_uniform(2) * 0x81);
  return *Prefix::make(family, address, randombytes_uniform(family == 4 ? 33 : 129));
}

bool contains(const Prefix& prefix, uint8_t family, const uint8_t* address) {
  return prefix.family == family && *Prefix::make(family, address, prefix.length) == prefix;
}

void longest_prefix_match_agrees_with_a_linear_search_while_prefixes_come_and_go() {
  Node node(1, 1);
  Qsbr qsbr(1);
  std::vector<std::unique_ptr<Peer>> peers;
  for (uint8_t i = 0; i < 20; i++)
    peers.push_back(
        std::make_unique<Peer>(node.table.local(), public_key_of(Node::key(static_cast<uint8_t>(i + 10)))));
  AllowedIps routes(qsbr);
  std::vector<std::pair<Prefix, Peer*>> model;  // in the order they were given
  for (int step = 0; step < 6000; step++) {
    Peer* peer = peers[randombytes_uniform(static_cast<uint32_t>(peers.size()))].get();
    const Prefix prefix = !model.empty() && randombytes_uniform(3) == 0
                              ? model[randombytes_uniform(static_cast<uint32_t>(model.size()))].first
                              : random_prefix();
    const auto found = std::ranges::find(model, prefix, &std::pair<Prefix, Peer*>::first);
    const uint32_t what = randombytes_uniform(100);
    if (what == 0) {
      routes.clear(peer->allowed_ips);
      std::erase_if(model, [&](const auto& route) { return route.second == peer; });
    } else if (what < 45) {
      routes.remove(prefix, peer->allowed_ips);
      if (found != model.end() && found->second == peer) model.erase(found);
    } else if (what == 99) {
      std::vector<std::pair<Prefix, Peer*>> kept{{prefix, peer}};
      for (const auto& route : model)
        if (route.second == peer && randombytes_uniform(2) == 0 && route.first != prefix)
          kept.push_back(route);
      routes.begin_replacement();
      for (const auto& route : kept) routes.insert(route.first, peer->allowed_ips);
      routes.end_replacement(peer->allowed_ips);
      std::erase_if(model, [&](const auto& route) { return route.second == peer || route.first == prefix; });
      model.insert(model.end(), kept.begin(), kept.end());
    } else {
      routes.insert(prefix, peer->allowed_ips);
      if (found != model.end()) model.erase(found);
      model.emplace_back(prefix, peer);
    }
    qsbr.reclaim();
    for (int look = 0; look < 5; look++) {
      const Prefix address = random_prefix();
      Peer* expected = nullptr;
      int best = -1;
      for (const auto& [route, owner] : model)
        if (route.length > best && contains(route, address.family, address.address)) {
          best = route.length;
          expected = owner;
        }
      CHECK(routes.lookup(address.family, address.address) == expected);
    }
    if (step % 100 != 0) continue;
    for (const auto& owner : peers) {
      std::vector<Prefix> expected;
      for (const auto& [route, of] : model)
        if (of == owner.get()) expected.push_back(route);
      CHECK(prefixes_of(*owner) == expected);
      CHECK(owner->allowed_ips.size() == expected.size());
    }
  }
  for (const auto& peer : peers) routes.clear(peer->allowed_ips);
  const uint8_t anywhere[16] = {};
  CHECK(routes.lookup(4, anywhere) == nullptr && routes.lookup(6, anywhere) == nullptr);
}

void a_prefix_given_to_another_peer_leaves_the_first() {
  Pair p;
  Node c(3, 3);
  p.a.add(p.b);
  PeerSettings settings;
  settings.public_key = c.table.local().public_key;
  settings.allowed_ips = {*Prefix::parse("10.0.0.0/8")};
  CHECK(p.a.table.set_peers({settings}, p.a.now, p.a));
  const uint8_t inside[4] = {10, 1, 2, 3};
  CHECK(p.a.table.routes().lookup(4, inside)->remote.public_key == c.table.local().public_key);
  p.a.table.remove_peers({c.table.local().public_key});
  CHECK(p.a.table.routes().lookup(4, inside) == nullptr);
}

void a_subnet_of_another_peers_prefix_is_the_peers_that_has_the_subnet() {
  Pair p;
  Node c(3, 3);
  p.a.add(p.b);  // 10.0.0.0/8
  PeerSettings settings;
  settings.public_key = c.table.local().public_key;
  settings.allowed_ips = {*Prefix::parse("10.1.0.0/16")};
  CHECK(p.a.table.set_peers({settings}, p.a.now, p.a));
  const uint8_t inside[4] = {10, 1, 2, 3};
  const uint8_t beside[4] = {10, 2, 2, 3};
  const auto owner = [&](const uint8_t* address) { return p.a.table.routes().lookup(4, address); };
  CHECK(owner(inside)->remote.public_key == c.table.local().public_key);
  CHECK(owner(beside)->remote.public_key == p.b.table.local().public_key);
  settings.allowed_ips = {{*Prefix::parse("10.1.0.0/16"), true}};  // taken back: the wider one holds again
  CHECK(p.a.table.set_peers({settings}, p.a.now, p.a));
  CHECK(owner(inside)->remote.public_key == p.b.table.local().public_key);
}

void malformed_prefixes_are_refused() {
  for (const char* text : {"", "/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "10.0.0.0/8x", "::/129",
                           "fe80::%1/64", "10.0.0.0/", "1.2.3.4.5/8", "abc"})
    CHECK(!Prefix::parse(text).has_value());
  CHECK(Prefix::parse("10.255.0.1/8") == Prefix::parse("10.0.0.0/8"));
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(longest_prefix_match_agrees_with_a_linear_search_while_prefixes_come_and_go);
  RUN(a_prefix_given_to_another_peer_leaves_the_first);
  RUN(a_subnet_of_another_peers_prefix_is_the_peers_that_has_the_subnet);
  RUN(malformed_prefixes_are_refused);
  return omerta::check::finish();
}
