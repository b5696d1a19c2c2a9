// SPDX-License-Identifier: Apache-2.0
#include "relay/wireguard_table.h"

#include <sodium.h>

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "crypto/blake2s.h"
#include "session/constants.h"
#include "session/noise.h"

namespace omerta::relay {
namespace {

/// MAC1 checks a second for all addresses that have not proven themselves: below 1 µs each, so a flood takes
/// a part of a CPU and no more.
constexpr uint64_t kStrangerChecks = 200'000;
constexpr uint64_t kStrangerBurst = 40'000;
/// Initiations a second of one such prefix: WireGuard sends one in 5 s, and many clients may be behind a NAT.
constexpr uint64_t kNewcomerInitiations = 20;
constexpr uint64_t kNewcomerBurst = 100;
/// Handshakes a second of a prefix that has: an office full of clients after a restart of the relay.
constexpr uint64_t kKnownHandshakes = 50;
constexpr uint64_t kKnownBurst = 200;
/// How long an address counts as known: a client with keepalives renews its session every 2 minutes.
constexpr Nanoseconds kKnownTime = 600 * kSecond;
constexpr size_t kKnownSlots = 4096;
constexpr Nanoseconds kSweepInterval = kSecond;
/// Addresses that have proven themselves; two that share a place ask for a cookie more often.
constexpr size_t kProofs = 16384;

constexpr uint8_t kMac1Label[8] = {'m', 'a', 'c', '1', '-', '-', '-', '-'};
constexpr uint8_t kCookieLabel[8] = {'c', 'o', 'o', 'k', 'i', 'e', '-', '-'};

bool same(const omerta_address& a, const omerta_address& b) { return omerta_same_address(a.ip, a.port, &b); }

omerta_address address_of(const uint8_t ip[16], uint16_t port) {
  omerta_address address{};
  std::memcpy(address.ip, ip, 16);
  address.port = port;
  return address;
}
omerta_address source_of(const omerta_leg& route) { return address_of(route.source_ip, route.source_port); }
omerta_address next_of(const omerta_leg& route) { return address_of(route.next_ip, route.next_port); }

/// IPv4 counts per address, IPv6 per /64.
struct Prefix {
  uint64_t high, low;
  bool operator==(const Prefix&) const = default;
};
Prefix prefix_of(const omerta_address& address) {
  const uint64_t high = omerta_load64(address.ip);
  const bool v4 = high == 0 && omerta_load32(address.ip + 8) == 0xffff0000;
  return {high, v4 ? omerta_load64(address.ip + 8) : 0};
}

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

// ---- control --------------------------------------------------------------------------------------

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

// ---- the kernel path ------------------------------------------------------------------------------

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

// ---- handshakes -----------------------------------------------------------------------------------

/// Whether the MAC1 checks of one initiation may be made. Prefixes of addresses that proved themselves lately
/// have a budget of their own, so that a flood of strangers does not keep them out, and each other one has
/// its part of the strangers'. An initiation that answers the relay's cookie is counted with those who proved
/// themselves: telling it takes two hashes.
bool WireguardTable::may_try(const session::Initiation& message, const omerta_address& source,
                             Nanoseconds now) {
  if (message.mac2 != Mac16{}) {
    const std::lock_guard lock(mutex_);
    if (cookies_.verify(session::before_mac2(message), message.mac2, source, now, random_))
      return known_budget_.take(source, now);
  }
  const Prefix prefix = prefix_of(source);
  const Nanoseconds known = known_[omerta_tag(known_key_, prefix.high, prefix.low, 0, 0) % kKnownSlots].load(
      std::memory_order_relaxed);
  if (known != 0 && now - known < kKnownTime && known_budget_.take(source, now)) return true;
  return newcomers_.take(source, now) &&
         strangers_.take(now, static_cast<uint64_t>(std::popcount(bound_.load(std::memory_order_relaxed))));
}

size_t WireguardTable::match(const session::Initiation& message) const {
  for (uint64_t left = bound_.load(std::memory_order_relaxed); left != 0; left &= left - 1) {
    const auto number = static_cast<size_t>(std::countr_zero(left));
    const omerta_wireguard_binding binding = bindings_[number].read();
    const Mac16 expected = crypto::blake2s_mac(Bytes(binding.mac1_key, 32), {session::before_mac1(message)});
    if (sodium_memcmp(expected.data(), message.mac1.data(), expected.size()) == 0) return number;
  }
  return kNone;
}

/// Under the lock, as the next one.
WireguardTable::Proof& WireguardTable::proof_of(const omerta_address& client,
                                                const omerta_wireguard_binding& binding, uint64_t& of) {
  of = omerta_tag(known_key_, omerta_load64(client.ip), omerta_load64(client.ip + 8), client.port,
                  omerta_load64(binding.public_key)) |
       1;  // none is 0
  return proofs_[(of >> 32) % kProofs];
}

bool WireguardTable::is_proven(const session::Initiation& message, const omerta_address& client,
                               const omerta_wireguard_binding& binding, Nanoseconds now) {
  uint64_t of = 0;
  Proof& proof = proof_of(client, binding, of);
  if (proof.of == of && now < proof.until) return true;
  if (!cookies_.verify(session::before_mac2(message), message.mac2, client, now, random_)) return false;
  proof = {of, now + session::kRejectAfterTime};
  if (door_ != nullptr) omerta_know(door_, client.ip, now);
  const Prefix prefix = prefix_of(client);
  known_[omerta_tag(known_key_, prefix.high, prefix.low, 0, 0) % kKnownSlots].store(
      now, std::memory_order_relaxed);
  return true;
}

WireguardTable::Result WireguardTable::ask(const session::Initiation& message, const session::Endpoint& from,
                                           Nanoseconds now, session::CookieReply& reply) {
  if (!may_try(message, from.remote, now)) return {Verdict::over_rate};
  const size_t number = match(message);
  if (number == kNone) return {};

  const std::lock_guard lock(mutex_);
  // Again under the lock: it may have been unbound meanwhile.
  if ((bound_.load(std::memory_order_relaxed) >> number & 1) == 0) return {};
  const omerta_wireguard_binding binding = bindings_[number].read();
  if (same(binding.server, from.remote)) return {Verdict::self};
  HalfOpen* room = nullptr;
  size_t of_prefix = 0;
  for (HalfOpen& entry : half_open_) {
    if (entry.used && entry.expires <= now) forget(entry);
    if (!entry.used) {
      if (room == nullptr) room = &entry;
      continue;
    }
    if (entry.client_index == message.sender && same(entry.client.remote, from.remote))
      return {Verdict::repeated};
    // The response could not tell whom it is for.
    if (entry.client_index == message.sender && same(entry.server, binding.server))
      return {Verdict::index_taken};
    of_prefix += prefix_of(entry.client.remote) == prefix_of(from.remote) ? 1 : 0;
  }
  if (!is_proven(message, from.remote, binding, now)) {
    Key32 key;
    std::memcpy(key.data(), binding.cookie_key, key.size());
    reply = session::make_cookie_reply(key, message.sender, message.mac1,
                                       cookies_.cookie_for(from.remote, now, random_), random_);
    return {Verdict::cookie};
  }
  if (room == nullptr || of_prefix >= kHalfOpenPerPrefix) return {Verdict::half_open_full};
  *room = {};
  room->used = true;
  room->binding = static_cast<uint8_t>(number);
  room->client_index = message.sender;
  room->client = from;
  room->server = binding.server;
  room->expires = now + kHalfOpenTime;
  expect(room->client_index, 1);
  Result result{Verdict::forward};
  result.to.remote = binding.server;
  return result;
}

/// Before the session stands: never more bytes than its initiation had.
WireguardTable::Result WireguardTable::towards_client(HalfOpen& entry, uint32_t size) {
  if (entry.spent + size > OMERTA_WIREGUARD_INITIATION_SIZE) return {Verdict::too_much};
  entry.spent += size;
  Result result{Verdict::forward};
  result.to = entry.client;
  return result;
}

WireguardTable::Result WireguardTable::answer(const session::Response& message, const session::Endpoint& from,
                                              Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  for (HalfOpen& entry : half_open_) {
    if (!entry.used || entry.expires <= now || entry.client_index != message.receiver ||
        !same(entry.server, from.remote))
      continue;
    const Result result = towards_client(entry, OMERTA_WIREGUARD_RESPONSE_SIZE);
    if (result.verdict != Verdict::forward) return result;
    entry.answered = true;
    entry.server_index = message.sender;
    await(message.sender, 1);
    expect(message.sender, 1);
    return result;
  }
  return {};
}

WireguardTable::Result WireguardTable::cookie_reply(const session::CookieReply& message,
                                                    const session::Endpoint& from, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  for (HalfOpen& entry : half_open_)
    if (entry.used && entry.expires > now && entry.client_index == message.receiver &&
        same(entry.server, from.remote))
      return towards_client(entry, OMERTA_WIREGUARD_COOKIE_SIZE);
  return {};
}

// ---- sessions -------------------------------------------------------------------------------------

/// Under the lock.
void WireguardTable::await(uint32_t server_index, int by) {
  std::atomic<uint16_t>& count = awaited_[server_index % kAwaited];
  count.store(static_cast<uint16_t>(count.load(std::memory_order_relaxed) + by), std::memory_order_release);
}

void WireguardTable::forget(HalfOpen& entry) {
  expect(entry.client_index, -1);
  if (entry.answered) {
    await(entry.server_index, -1);
    expect(entry.server_index, -1);
  }
  entry = {};
}

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
