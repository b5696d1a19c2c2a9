// SPDX-License-Identifier: Apache-2.0
// The relay's part in handshakes of stock WireGuard clients: who may ask, which server is meant, whether the
// address is proven, and what is half open until the session stands (wireguard_table.h).
#include <sodium.h>

#include <bit>
#include <cstring>

#include "crypto/blake2s.h"
#include "relay/wireguard_table.h"
#include "session/constants.h"
#include "session/noise.h"

namespace omerta::relay {
namespace {

/// How long an address counts as known: a client with keepalives renews its session every 2 minutes.
constexpr Nanoseconds kKnownTime = 600 * kSecond;

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
/// What one site has: an IPv4 /24, an IPv6 /48.
bool same_site(const omerta_address& a, const omerta_address& b) {
  const Prefix of_a = prefix_of(a), of_b = prefix_of(b);
  const size_t size = of_a.low != 0 || of_b.low != 0 ? 15 : 6;
  return std::memcmp(a.ip, b.ip, size) == 0;
}

}  // namespace

/// Whether the MAC1 checks of one initiation may be made. Prefixes of addresses that proved themselves lately
/// have a budget of their own, so that a flood of strangers does not keep them out, and each other one, and
/// each site, has its part of the strangers'. An initiation that answers the relay's cookie is counted with
/// those who proved themselves: telling it takes two hashes.
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
  return newcomers_.take(source, now) && newcomer_sites_.take(source, now) &&
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
  size_t of_site = 0;
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
    of_site += same_site(entry.client.remote, from.remote) ? 1 : 0;
  }
  if (!is_proven(message, from.remote, binding, now)) {
    Key32 key;
    std::memcpy(key.data(), binding.cookie_key, key.size());
    reply = session::make_cookie_reply(key, message.sender, message.mac1,
                                       cookies_.cookie_for(from.remote, now, random_), random_);
    return {Verdict::cookie};
  }
  if (room == nullptr || of_prefix >= kHalfOpenPerPrefix || of_site >= kHalfOpenPerSite)
    return {Verdict::half_open_full};
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

}  // namespace omerta::relay
