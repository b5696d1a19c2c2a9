// SPDX-License-Identifier: Apache-2.0
// The table of relayed WireGuard sessions under messages of clients, servers and strangers in any order, with
// bindings that come and go and time that passes. The input is operations; messages that no mutation would
// make right (a MAC1, an index under way) are made right here.
//
// Held: to an address that has not proven itself no more is sent than came from it; what is forwarded goes to
// a bound server or to a client that asked; a session is of its two addresses alone; routes are two a
// session; the words the kernel looks at count every index that is waited for, and made anew they are the
// same; it is told whether there is a server; nothing outlives its time.
#include <sodium.h>

#include <algorithm>
#include <array>
#include <map>

#include "crypto/blake2s.h"
#include "fuzz/fuzz_input.h"
#include "relay/wireguard_table.h"
#include "session/constants.h"
#include "session/noise.h"

using namespace omerta;
using omerta::fuzz::require;
using Verdict = relay::WireguardTable::Verdict;

namespace {

constexpr size_t kSessions = 4;
constexpr size_t kServers = 3;

uint64_t random_state = 1;
void random_bytes(std::span<uint8_t> out) {
  for (uint8_t& byte : out)
    byte = static_cast<uint8_t>((random_state = random_state * 6364136223846793005u + 1) >> 33);
}

Key32 public_key(size_t server) {
  static const std::array<Key32, kServers> keys = [] {
    std::array<Key32, kServers> made{};
    for (size_t i = 0; i < kServers; i++) {
      Key32 secret;
      secret.fill(static_cast<uint8_t>(i + 1));
      made[i] = session::public_key_of(secret);
    }
    return made;
  }();
  return keys[server % kServers];
}

Key32 mac1_key(size_t server) {
  const uint8_t label[8] = {'m', 'a', 'c', '1', '-', '-', '-', '-'};
  const Key32 key = public_key(server);
  return crypto::blake2s({label, key});
}

/// Hosts 0-3 are clients of IPv4 or IPv6, 4-7 where servers may be.
session::Endpoint host(uint8_t which) {
  session::Endpoint endpoint;
  const bool v4 = (which & 8) == 0;
  if (v4) endpoint.remote.ip[10] = endpoint.remote.ip[11] = 0xff;
  if (!v4) endpoint.remote.ip[0] = 0x20;
  endpoint.remote.ip[v4 ? 15 : 7] = static_cast<uint8_t>(1 + (which & 7));
  endpoint.remote.port = static_cast<uint16_t>(9 + (which >> 6));
  return endpoint;
}

using Address = std::array<uint8_t, 18>;
Address address_of(const session::Endpoint& endpoint) {
  Address address{};
  std::memcpy(address.data(), endpoint.remote.ip, 16);
  std::memcpy(address.data() + 16, &endpoint.remote.port, 2);
  return address;
}

struct Relay {
  relay::Accounts accounts{{3, 2, 2}};
  relay::WireguardTable table{kSessions, random_bytes, {{1, 2}}};
  std::vector<uint64_t>& expected;
  omerta_door& door;
  std::array<std::optional<session::Endpoint>, OMERTA_WIREGUARD_BINDINGS> servers{};
  Nanoseconds now = 1000 * kSecond;
  /// Bytes that came from an address less those that went there: never below zero before it is proven.
  std::map<Address, int64_t> owed;
  std::map<Address, bool> proven;
  /// The last initiation that was forwarded and the last response: what belongs together follows from them.
  uint32_t client_index = 0;
  uint32_t server_index = 0;
  session::CookieReply cookie{};
  session::Endpoint client{};
  session::Endpoint server{};

  Relay(std::vector<uint64_t>& words, omerta_door& told) : expected(words), door(told) {
    table.mirror_expected(expected.data());
    table.tell(&door);
  }

  bool is_server(const session::Endpoint& endpoint) const {
    for (const auto& bound : servers)
      if (bound && address_of(*bound) == address_of(endpoint)) return true;
    return false;
  }
  void came(const session::Endpoint& from, size_t bytes) {
    owed[address_of(from)] += static_cast<int64_t>(bytes);
  }
  void went(const session::Endpoint& to, size_t bytes) {
    if (is_server(to) || proven[address_of(to)]) return;
    int64_t& balance = owed[address_of(to)];
    balance -= static_cast<int64_t>(bytes);
    require(balance >= 0);
  }
};

template <class Message>
Bytes bytes_of(const Message& message) {
  return Bytes(reinterpret_cast<const uint8_t*>(&message), sizeof message);
}

Verdict send_handshake(Relay& relay, Bytes message, const session::Endpoint& from, bool own) {
  session::CookieReply reply{};
  relay.came(from, message.size());
  const auto result = relay.table.handshake(
      message, from, relay.now, [own](uint32_t) { return own; }, reply);
  require(!own || result.verdict == Verdict::index_taken || result.verdict == Verdict::not_ours ||
          message.size() == sizeof(session::CookieReply));
  if (result.verdict == Verdict::cookie) {
    require(message.size() == sizeof(session::Initiation));
    require(reply.receiver == load<uint32_t>(message.data() + 4));
    relay.went(from, sizeof reply);
    relay.cookie = reply;
  }
  if (result.verdict != Verdict::forward) return result.verdict;
  if (message.size() == sizeof(session::Initiation)) {
    require(relay.is_server(result.to));
    relay.client_index = load<uint32_t>(message.data() + 4);
    relay.client = from;
    relay.server = result.to;
  }
  if (message.size() == sizeof(session::Response)) relay.server_index = load<uint32_t>(message.data() + 4);
  relay.went(result.to, message.size());
  return result.verdict;
}

/// With the cookie of the last reply, if it is this address's, mac2 is right (whitepaper 5.4.4, 5.4.7).
void prove_by_cookie(const Relay& relay, session::Initiation& message, size_t server) {
  const uint8_t label[8] = {'c', 'o', 'o', 'k', 'i', 'e', '-', '-'};
  const Key32 public_half = public_key(server);
  const Key32 key = crypto::blake2s({label, public_half});
  Mac16 cookie{};
  unsigned long long length = 0;
  // The cookie is bound to mac1 of the message that was answered: only a repeated one opens it.
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(
          cookie.data(), &length, nullptr, relay.cookie.sealed_cookie.data(),
          relay.cookie.sealed_cookie.size(), message.mac1.data(), message.mac1.size(),
          relay.cookie.nonce.data(), key.data()) != 0)
    return;
  message.mac2 =
      crypto::blake2s_mac(cookie, {Bytes(reinterpret_cast<const uint8_t*>(&message), sizeof message - 16)});
}

void transport(Relay& relay, fuzz::Input& input) {
  const uint8_t what = input.byte();
  const uint8_t where = input.byte();
  uint32_t index = what & 15;
  session::Endpoint from = host(where);
  if ((what & 0x30) == 0x10) {
    index = relay.server_index;
    from = relay.client;
  }
  if ((what & 0x30) == 0x20) {
    index = relay.client_index;
    from = relay.server;
  }
  const size_t size = 32 + input.byte() * 4u;
  relay.came(from, size);
  const auto result = relay.table.transport(index, size, from, relay.now, relay.accounts);
  require(result.verdict == Verdict::forward || result.verdict == Verdict::not_ours ||
          result.verdict == Verdict::sessions_full || result.verdict == Verdict::refused_by_limit);
  if (result.verdict != Verdict::forward) return;
  // It said an index that went to its address alone.
  relay.proven[address_of(from)] = true;
  require(address_of(from) != address_of(result.to));
  relay.went(result.to, size);
}

void compare(Relay& relay) {
  size_t sessions = 0;
  for (size_t number = 0; number < OMERTA_WIREGUARD_BINDINGS; number++) {
    if (!relay.servers[number]) continue;
    sessions += relay.table.usage(number).sessions;
  }
  require(sessions <= kSessions);
  require((relay.door.relays_wireguard != 0) ==
          std::ranges::any_of(relay.servers, [](const auto& bound) { return bound.has_value(); }));
  const std::vector<omerta_leg> routes = relay.table.routes(relay.now);
  require(routes.size() <= 2 * kSessions && routes.size() % 2 == 0);
  for (const omerta_leg& route : routes) {
    require(relay.expected[route.leg_id % OMERTA_EXPECTED_INDICES] > 0);
    if (route.key_epoch == OMERTA_WIREGUARD_UNBOUND) continue;
    require(relay.servers[route.key_epoch].has_value());
    session::Endpoint source, next;
    std::memcpy(source.remote.ip, route.source_ip, 16);
    source.remote.port = route.source_port;
    std::memcpy(next.remote.ip, route.next_ip, 16);
    next.remote.port = route.next_port;
    const Address server = address_of(*relay.servers[route.key_epoch]);
    require(((route.flags & OMERTA_ROUTE_TO_CLIENT) ? address_of(source) : address_of(next)) == server);
  }
}

/// A handshake message of one of 16 senders.
template <class Message>
Message begun(uint32_t type, uint8_t sender) {
  Message message{};
  message.type = type;
  message.sender = sender & 15;
  return message;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool ready = sodium_init() >= 0;
  require(ready);
  random_state = 1;
  fuzz::Input input(data, size);
  static std::vector<uint64_t> expected(OMERTA_EXPECTED_INDICES);
  std::ranges::fill(expected, 0);
  static omerta_door door;
  door = {};
  auto relay = std::make_unique<Relay>(expected, door);
  relay->accounts.set_limits(1, {{}, 0, 2000});
  for (int steps = 0; !input.empty() && steps < 300; steps++) {
    switch (input.byte() % 13) {
      case 0: {
        const size_t number = input.byte() % 4;
        const uint8_t what = input.byte();
        omerta_wireguard_binding binding{};
        const Key32 key = public_key(what & 3);
        std::memcpy(binding.public_key, key.data(), 32);
        const session::Endpoint at = host(static_cast<uint8_t>(4 | (what >> 2 & 3) | (what & 0x20 ? 8 : 0)));
        binding.server = at.remote;
        binding.identity = what >> 6 & 1;
        binding.network = what >> 7;
        binding.limits = what >> 5 & 1;
        relay->table.bind(number, binding, relay->now, relay->accounts);
        relay->servers[number] = at;
        break;
      }
      case 1: {
        const size_t number = input.byte() % 4;
        relay->table.unbind(number, relay->accounts);
        relay->servers[number].reset();
        break;
      }
      case 2:
      case 3: {
        const uint8_t what = input.byte();
        auto message = begun<session::Initiation>(session::kInitiationType, what);
        message.ephemeral[0] = static_cast<uint8_t>(what >> 6);
        message.mac1 = crypto::blake2s_mac(mac1_key(what >> 4 & 3), {session::before_mac1(message)});
        const uint8_t from = input.byte();
        if (from & 0x10) message.mac1[0] ^= 1;
        const bool own = (from & 0x30) == 0x30;
        const Verdict verdict = send_handshake(*relay, bytes_of(message), host(from), own);
        // As a client does; bit 5: it does not get the answer, or forged its address.
        if (verdict != Verdict::cookie || (from & 0x20)) break;
        prove_by_cookie(*relay, message, what >> 4 & 3);
        send_handshake(*relay, bytes_of(message), host(from), own);
        break;
      }
      case 4:
      case 5: {
        const uint8_t indices = input.byte();
        auto message = begun<session::Response>(session::kResponseType, indices);
        message.receiver = indices >> 4;
        const uint8_t from = input.byte();
        if (from & 0x10) message.receiver = relay->client_index;
        send_handshake(*relay, bytes_of(message), from & 0x10 ? relay->server : host(from),
                       (from & 0x30) == 0x20);
        break;
      }
      case 6: {
        session::CookieReply message{};
        message.type = session::kCookieReplyType;
        const uint8_t what = input.byte();
        message.receiver = what & 0x10 ? relay->client_index : what & 15;
        send_handshake(*relay, bytes_of(message), what & 0x10 ? relay->server : host(input.byte()), false);
        break;
      }
      case 7: {
        const uint8_t what = input.byte();
        relay->now += (what & 0x80 ? kSecond * (what & 0x7f) : kMillisecond * what);
        relay->table.sweep(relay->now);
        break;
      }
      case 8: {
        // Many clients at once: above a part of the table a cookie is asked for.
        const uint8_t count = input.byte() % 96;
        const uint8_t first = input.byte();
        for (uint8_t i = 0; i < count; i++) {
          session::Initiation message{};
          message.type = session::kInitiationType;
          message.sender = 1000u + i;
          message.mac1 = crypto::blake2s_mac(mac1_key(first), {session::before_mac1(message)});
          send_handshake(*relay, bytes_of(message), host(static_cast<uint8_t>(first + i % 4)), false);
        }
        break;
      }
      case 9: {
        // The daemon ends, and the next one finds the routes in the kernel.
        const std::vector<omerta_leg> left = relay->table.routes(relay->now);
        for (size_t number = 0; number < 4; number++) {
          relay->table.unbind(number, relay->accounts);
          relay->servers[number].reset();
        }
        if (input.byte() & 1) relay->table.adopt(left, relay->now);
        break;
      }
      case 10: {
        std::vector<omerta_leg> ended = relay->table.routes(relay->now);
        for (omerta_leg& route : ended) {
          route.packets = input.byte();
          route.bytes = route.packets * 100;
          // It ended when its binding had other accounts.
          if (route.packets % 4 == 1) route.identity ^= 1;
        }
        relay->table.add_carried(ended, relay->accounts);
        uint64_t packets = 0;
        relay->table.for_each_charge([&](const omerta_leg& leg) { packets += leg.packets; });
        require(packets < UINT32_MAX);
        break;
      }
      default:
        transport(*relay, input);
    }
    compare(*relay);
  }

  const std::vector<uint64_t> kept = relay->expected;
  relay->table.mirror_expected(relay->expected.data());
  require(relay->expected == kept);

  // Nothing outlives its time.
  for (int i = 0; i < 2; i++) {
    relay->now += 1000 * kSecond;
    relay->table.sweep(relay->now);
  }
  require(relay->table.routes(relay->now).empty());
  for (const uint64_t count : relay->expected) require(count == 0);
  return 0;
}
