// SPDX-License-Identifier: Apache-2.0
// The table itself: bindings, and sessions that stand (see the header).
#include "relay/wireguard_table.h"

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "crypto/blake2s.h"
#include "session/constants.h"

namespace omerta::relay {
namespace {

/// MAC1 checks a second for all addresses that have not proven themselves: below 1 µs each, so a flood takes
/// a part of a CPU and no more.
constexpr uint64_t kStrangerChecks = 200'000;
constexpr uint64_t kStrangerBurst = 40'000;
/// Initiations a second of one such prefix: WireGuard sends one in 5 s, and many clients may be behind a NAT.
constexpr uint64_t kNewcomerInitiations = 20;
constexpr uint64_t kNewcomerBurst = 100;
/// Those of one site, which may have 65,536 prefixes: as the kernel path lets through.
constexpr uint64_t kSiteInitiations = 500;
constexpr uint64_t kSiteBurst = 500;
/// Handshakes a second of a prefix that has: an office full of clients after a restart of the relay.
constexpr uint64_t kKnownHandshakes = 50;
constexpr uint64_t kKnownBurst = 200;
constexpr Nanoseconds kSweepInterval = kSecond;

constexpr uint8_t kMac1Label[8] = {'m', 'a', 'c', '1', '-', '-', '-', '-'};
constexpr uint8_t kCookieLabel[8] = {'c', 'o', 'o', 'k', 'i', 'e', '-', '-'};

template <class T>
T drawn(const session::RandomBytes& random) {
  T value{};
  random(std::span(reinterpret_cast<uint8_t*>(&value), sizeof value));
  return value;
}

}  // namespace

WireguardTable::WireguardTable(size_t sessions, session::RandomBytes random, WireguardRoutes::Secret secret)
    : random_(std::move(random)),
      strangers_(kStrangerChecks, kStrangerBurst),
      newcomers_(kNewcomerInitiations, kNewcomerBurst, {32, 64}, drawn<PrefixBuckets::SecretKey>(random_)),
      newcomer_sites_(kSiteInitiations, kSiteBurst, {24, 48}, drawn<PrefixBuckets::SecretKey>(random_)),
      known_budget_(kKnownHandshakes, kKnownBurst, {32, 64}, drawn<PrefixBuckets::SecretKey>(random_)) {
  const auto key = drawn<WireguardRoutes::Secret>(random_);
  known_key_[0] = key.words[0];
  known_key_[1] = key.words[1];
  if (sessions == 0) return;
  routes_ = std::make_unique<WireguardRoutes>(sessions * 2, secret);
  known_ = std::make_unique<std::atomic<Nanoseconds>[]>(kKnownSlots);
  awaited_ = std::make_unique<std::atomic<uint16_t>[]>(kAwaited);
  proofs_.resize(kProofs);
  half_open_.resize(kHalfOpen);
  sessions_.resize(sessions);
}

// ---- bindings -------------------------------------------------------------------------------------

/// What ended sessions were charged, as a leg of the binding's accounts.
omerta_leg WireguardTable::settled(size_t number) const {
  const omerta_wireguard_binding binding = bindings_[number].read();
  omerta_leg ended{};
  ended.identity = binding.identity;
  ended.network = binding.network;
  ended.packets = past_[number].packets;
  ended.bytes = past_[number].bytes;
  return ended;
}

void WireguardTable::bind(size_t number, const omerta_wireguard_binding& given, Nanoseconds now,
                          Accounts& accounts) {
  if (!enabled() || number >= OMERTA_WIREGUARD_BINDINGS)
    throw std::out_of_range("binding: " + std::to_string(number) + " given, there are 0 to " +
                            std::to_string(enabled() ? OMERTA_WIREGUARD_BINDINGS - 1 : 0));
  omerta_wireguard_binding binding = given;
  const Bytes public_key(given.public_key, 32);
  const Key32 mac1 = crypto::blake2s({kMac1Label, public_key});
  const Key32 cookie = crypto::blake2s({kCookieLabel, public_key});
  std::memcpy(binding.mac1_key, mac1.data(), mac1.size());
  std::memcpy(binding.cookie_key, cookie.data(), cookie.size());
  binding.used = 1;

  const std::lock_guard lock(mutex_);
  const bool bound = (bound_.load(std::memory_order_relaxed) >> number & 1) != 0;
  const omerta_wireguard_binding before = bindings_[number].read();
  const bool same_server = bound && std::memcmp(before.public_key, given.public_key, 32) == 0;
  const bool same_accounts = before.identity == given.identity && before.network == given.network;
  if (same_server && same_accounts && same(before.server, given.server) && before.limits == given.limits)
    return;
  for (HalfOpen& entry : half_open_)
    if (entry.used && entry.binding == number) forget(entry);
  for (Session& session : sessions_) {
    if (!session.used || session.binding != number) continue;
    Session moved = session;
    session::Endpoint client;
    client.remote = session.client;
    if (const auto back = routes_->remove(session.client_index, session.server)) {
      std::memcpy(client.local.ip, back->key, 16);
      client.local.interface = back->next_leg_id;
      past_[number].packets += back->packets;
      past_[number].bytes += back->bytes;
    }
    end(session);
    moved.server = given.server;
    if (same_server && moved.expires > now && install(moved, binding, client)) session = moved;
  }
  if (bound && !(same_server && same_accounts)) {
    accounts.settle(settled(number));
    past_[number] = {};
  }
  bindings_[number].write(binding);
  bound_.fetch_or(uint64_t{1} << number, std::memory_order_relaxed);
  tell_bound();
  claim(number, binding, now);
}

void WireguardTable::unbind(size_t number, Accounts& accounts) {
  const std::lock_guard lock(mutex_);
  if (number >= OMERTA_WIREGUARD_BINDINGS || (bound_.load(std::memory_order_relaxed) >> number & 1) == 0)
    return;
  bound_.fetch_and(~(uint64_t{1} << number), std::memory_order_relaxed);
  tell_bound();
  for (HalfOpen& entry : half_open_)
    if (entry.used && entry.binding == number) forget(entry);
  for (Session& session : sessions_)
    if (session.used && session.binding == number) end(session);
  accounts.settle(settled(number));
  past_[number] = {};
}

WireguardTable::Usage WireguardTable::usage(size_t number) const {
  if (!enabled() || number >= OMERTA_WIREGUARD_BINDINGS) return {};
  const std::lock_guard lock(mutex_);
  Usage usage{0, past_[number].packets, past_[number].bytes};
  usage.sessions = static_cast<uint32_t>(sessions_of(number));
  routes_->for_each([&](const omerta_leg& route) {
    if (route.key_epoch != number) return;
    usage.packets += route.packets;
    usage.bytes += route.bytes;
  });
  return usage;
}

void WireguardTable::for_each_charge(const std::function<void(const omerta_leg&)>& visit) const {
  if (!enabled()) return;
  const std::lock_guard lock(mutex_);
  for (size_t number = 0; number < OMERTA_WIREGUARD_BINDINGS; number++) {
    if ((bound_.load(std::memory_order_relaxed) >> number & 1) != 0) visit(settled(number));
  }
  routes_->for_each(visit);
}

// ---- sessions -------------------------------------------------------------------------------------

bool WireguardTable::install(const Session& session, const omerta_wireguard_binding& binding,
                             const session::Endpoint& client) {
  omerta_leg route{};
  route.action = OMERTA_LEG_FORWARD;
  route.key_epoch = session.binding;
  route.expires_at = session.expires;
  route.identity = binding.identity;
  route.network = binding.network;
  route.limits = binding.limits;
  omerta_leg to_server = route;
  to_server.leg_id = session.server_index;
  std::memcpy(to_server.source_ip, session.client.ip, 16);
  to_server.source_port = session.client.port;
  std::memcpy(to_server.next_ip, session.server.ip, 16);
  to_server.next_port = session.server.port;
  omerta_leg to_client = route;
  to_client.leg_id = session.client_index;
  std::memcpy(to_client.source_ip, session.server.ip, 16);
  to_client.source_port = session.server.port;
  std::memcpy(to_client.next_ip, session.client.ip, 16);
  to_client.next_port = session.client.port;
  // The client hears from the address it asked.
  std::memcpy(to_client.key, client.local.ip, 16);
  to_client.next_leg_id = client.local.interface;
  to_client.flags = OMERTA_ROUTE_TO_CLIENT;
  const auto mark = [&binding](omerta_leg& marked, uint32_t other_index) {
    omerta_wireguard_session_mark value{};
    std::memcpy(value.server, binding.public_key, sizeof value.server);
    value.other_index = other_index;
    std::memcpy(marked.next_key, &value, sizeof value);
  };
  mark(to_server, session.client_index);
  mark(to_client, session.server_index);
  if (!routes_->install(to_server)) return false;
  if (!routes_->install(to_client)) {
    routes_->remove(session.server_index, session.client);
    return false;
  }
  expect(session.client_index, 1);
  expect(session.server_index, 1);
  changes_.fetch_add(1, std::memory_order_release);
  return true;
}

/// Every binding has its part of the sessions: no server takes another's.
size_t WireguardTable::share() const {
  const auto bound = static_cast<size_t>(std::popcount(bound_.load(std::memory_order_relaxed)));
  return std::max<size_t>(1, sessions_.size() / std::max<size_t>(1, bound));
}

size_t WireguardTable::sessions_of(size_t number) const {
  return static_cast<size_t>(std::ranges::count_if(
      sessions_, [number](const Session& session) { return session.used && session.binding == number; }));
}

void WireguardTable::end(Session& session) {
  for (const auto& route : {routes_->remove(session.server_index, session.client),
                            routes_->remove(session.client_index, session.server)}) {
    if (!route.has_value()) continue;
    past_[session.binding].packets += route->packets;
    past_[session.binding].bytes += route->bytes;
  }
  expect(session.client_index, -1);
  expect(session.server_index, -1);
  changes_.fetch_add(1, std::memory_order_release);
  session = {};
}

/// The client, whose address the cookie proved, uses the session: it stands for as long as its keys.
WireguardTable::Verdict WireguardTable::promote(uint32_t server_index, const omerta_address& client,
                                                Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  for (HalfOpen& entry : half_open_) {
    if (!entry.used || !entry.answered || entry.server_index != server_index || entry.expires <= now ||
        !same(entry.client.remote, client))
      continue;
    Session* room = nullptr;
    size_t of_binding = 0;
    for (Session& session : sessions_) {
      if (session.used && session.expires <= now) end(session);
      if (!session.used && room == nullptr) room = &session;
      of_binding += session.used && session.binding == entry.binding ? 1 : 0;
    }
    if (room == nullptr || of_binding >= share()) return Verdict::sessions_full;
    Session session;
    session.used = true;
    session.binding = entry.binding;
    session.client_index = entry.client_index;
    session.server_index = server_index;
    session.client = client;
    session.server = entry.server;
    session.expires = now + session::kRejectAfterTime;
    if (!install(session, bindings_[entry.binding].read(), entry.client)) return Verdict::sessions_full;
    *room = session;
    forget(entry);
    return Verdict::forward;
  }
  return Verdict::not_ours;
}

WireguardTable::Result WireguardTable::transport(uint32_t receiver_index, size_t size,
                                                 const session::Endpoint& from, Nanoseconds now,
                                                 Accounts& accounts) {
  if (!active() || from.relayed()) return {};
  omerta_leg route;
  const auto bytes = static_cast<uint32_t>(size);
  omerta_drop_reason reason = routes_->admit(receiver_index, from.remote, bytes, now, accounts, route);
  if (reason == OMERTA_DROP_UNKNOWN_LEG) {
    if (awaited_[receiver_index % kAwaited].load(std::memory_order_acquire) == 0) return {};
    const Verdict promoted = promote(receiver_index, from.remote, now);
    if (promoted != Verdict::forward) return {promoted};
    reason = routes_->admit(receiver_index, from.remote, bytes, now, accounts, route);
    if (reason == OMERTA_DROP_UNKNOWN_LEG) return {};
  }
  if (reason != OMERTA_DROP_NONE) return {Verdict::refused_by_limit, reason};
  Result result{Verdict::forward};
  std::memcpy(result.to.remote.ip, route.next_ip, 16);
  result.to.remote.port = route.next_port;
  std::memcpy(result.to.local.ip, route.key, 16);
  result.to.local.interface = route.next_leg_id;
  return result;
}

void WireguardTable::sweep(Nanoseconds now) {
  if ((!active() && !adopted_.load(std::memory_order_relaxed)) || now < next_sweep_) return;
  next_sweep_ = now + kSweepInterval;
  const std::lock_guard lock(mutex_);
  for (HalfOpen& entry : half_open_)
    if (entry.used && entry.expires <= now) forget(entry);
  for (Session& session : sessions_)
    if (session.used && session.expires <= now) end(session);
  std::erase_if(orphans_, [&](const Orphan& orphan) {
    if (orphan.until > now) return false;
    expect(orphan.to_server.leg_id, -1);
    expect(orphan.to_client.leg_id, -1);
    changes_.fetch_add(1, std::memory_order_release);
    return true;
  });
  adopted_.store(!orphans_.empty(), std::memory_order_relaxed);
}

}  // namespace omerta::relay
