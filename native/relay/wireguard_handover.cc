// SPDX-License-Identifier: Apache-2.0
// Relayed WireGuard sessions and the kernel path in front: which routes it is to have, what it counted, what
// it is told of, and sessions of an earlier daemon that go on by the routes it left there
// (wireguard_table.h).
#include <algorithm>
#include <cstring>

#include "relay/wireguard_table.h"

namespace omerta::relay {
namespace {

omerta_address address_of(const uint8_t ip[16], uint16_t port) {
  omerta_address address{};
  std::memcpy(address.ip, ip, 16);
  address.port = port;
  return address;
}
omerta_address source_of(const omerta_leg& route) { return address_of(route.source_ip, route.source_port); }
omerta_address next_of(const omerta_leg& route) { return address_of(route.next_ip, route.next_port); }

}  // namespace

std::vector<omerta_leg> WireguardTable::routes(Nanoseconds now) const {
  std::vector<omerta_leg> all;
  if (!enabled()) return all;
  const std::lock_guard lock(mutex_);
  for (const Orphan& orphan : orphans_) {
    if (orphan.until <= now) continue;
    all.push_back(orphan.to_server);
    all.push_back(orphan.to_client);
  }
  routes_->for_each([&all](const omerta_leg& route) { all.push_back(route); });
  return all;
}

void WireguardTable::adopt(std::span<const omerta_leg> found, Nanoseconds now) {
  if (!enabled()) return;
  const std::lock_guard lock(mutex_);
  for (const omerta_leg& route : found) {
    if ((route.flags & OMERTA_ROUTE_TO_CLIENT) != 0 || route.expires_at <= now) continue;
    const auto mark = load<omerta_wireguard_session_mark>(reinterpret_cast<const uint8_t*>(route.next_key));
    const auto other = std::ranges::find_if(found, [&](const omerta_leg& each) {
      const omerta_address server = next_of(route);
      return (each.flags & OMERTA_ROUTE_TO_CLIENT) != 0 && each.leg_id == mark.other_index &&
             omerta_same_address(each.source_ip, each.source_port, &server) &&
             same(next_of(each), source_of(route));
    });
    if (other == found.end()) continue;
    Orphan orphan{route, *other, std::min<Nanoseconds>(route.expires_at, now + kAdoptionTime)};
    for (omerta_leg* each : {&orphan.to_server, &orphan.to_client}) {
      each->key_epoch = OMERTA_WIREGUARD_UNBOUND;
      each->identity = 0;
      each->network = 0;
      expect(each->leg_id, 1);
    }
    orphans_.push_back(orphan);
  }
  adopted_.store(!orphans_.empty(), std::memory_order_relaxed);
  changes_.fetch_add(1, std::memory_order_release);
}

/// Under the lock: sessions of an earlier daemon with the server that was just bound go on.
void WireguardTable::claim(size_t number, const omerta_wireguard_binding& binding, Nanoseconds now) {
  std::erase_if(orphans_, [&](const Orphan& orphan) {
    const auto mark =
        load<omerta_wireguard_session_mark>(reinterpret_cast<const uint8_t*>(orphan.to_server.next_key));
    const bool ours = std::memcmp(mark.server, binding.public_key, sizeof mark.server) == 0;
    if (orphan.until > now && !ours) return false;
    expect(orphan.to_server.leg_id, -1);
    expect(orphan.to_client.leg_id, -1);
    changes_.fetch_add(1, std::memory_order_release);
    const auto room = std::ranges::find(sessions_, false, &Session::used);
    if (orphan.until <= now || room == sessions_.end() || sessions_of(number) >= share()) return true;
    Session session;
    session.used = true;
    session.binding = static_cast<uint8_t>(number);
    session.client_index = orphan.to_client.leg_id;
    session.server_index = orphan.to_server.leg_id;
    session.client = source_of(orphan.to_server);
    session.server = binding.server;
    session.expires = orphan.to_server.expires_at;
    session::Endpoint client;
    client.remote = session.client;
    std::memcpy(client.local.ip, orphan.to_client.key, 16);
    client.local.interface = orphan.to_client.next_leg_id;
    if (install(session, binding, client)) *room = session;
    return true;
  });
}

void WireguardTable::add_carried(std::span<const omerta_leg> ended, Accounts& accounts) {
  if (!enabled()) return;
  const std::lock_guard lock(mutex_);
  for (const omerta_leg& route : ended) {
    const size_t number = route.key_epoch;
    if (number >= OMERTA_WIREGUARD_BINDINGS) continue;
    const auto mark = load<omerta_wireguard_session_mark>(reinterpret_cast<const uint8_t*>(route.next_key));
    const omerta_wireguard_binding binding = bindings_[number].read();
    if ((bound_.load(std::memory_order_relaxed) >> number & 1) == 0 ||
        std::memcmp(mark.server, binding.public_key, sizeof mark.server) != 0 ||
        route.identity != binding.identity || route.network != binding.network) {
      accounts.settle(route);
      continue;
    }
    past_[number].packets += route.packets;
    past_[number].bytes += route.bytes;
  }
}

void WireguardTable::mirror_expected(uint64_t* words) {
  if (!enabled()) return;
  const std::lock_guard lock(mutex_);
  expected_ = words;
  std::fill_n(words, OMERTA_EXPECTED_INDICES, 0);
  for (const HalfOpen& entry : half_open_) {
    if (!entry.used) continue;
    expect(entry.client_index, 1);
    if (entry.answered) expect(entry.server_index, 1);
  }
  const auto expect_both = [this](uint32_t client_index, uint32_t server_index) {
    expect(client_index, 1);
    expect(server_index, 1);
  };
  for (const Session& session : sessions_)
    if (session.used) expect_both(session.client_index, session.server_index);
  for (const Orphan& orphan : orphans_) expect_both(orphan.to_client.leg_id, orphan.to_server.leg_id);
}

void WireguardTable::tell(omerta_door* door) {
  const std::lock_guard lock(mutex_);
  door_ = door;
  tell_bound();
}

/// Under the lock, as the next one.
void WireguardTable::tell_bound() const {
  if (door_ != nullptr) OMERTA_WRITE(&door_->relays_wireguard, active() ? 1U : 0U);
}

void WireguardTable::expect(uint32_t index, int by) {
  if (expected_ == nullptr) return;
  uint64_t& count = expected_[index % OMERTA_EXPECTED_INDICES];
  __atomic_store_n(&count, count + static_cast<uint64_t>(by), __ATOMIC_RELEASE);
}

}  // namespace omerta::relay
