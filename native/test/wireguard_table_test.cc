// SPDX-License-Identifier: Apache-2.0
// Relayed WireGuard sessions: which messages are relayed, and what a stranger can do to the table.
#include "relay/wireguard_table.h"

#include <omerta/limits.h>

#include <thread>

#include "check.h"
#include "stock_wireguard.h"

namespace {

using namespace omerta;
using stock::bytes_of;
using stock::initiation;
using stock::random_bytes;
using stock::server_key;
using Verdict = relay::WireguardTable::Verdict;

constexpr Nanoseconds kStart = 1000 * kSecond;

bool none_own(uint32_t) { return false; }

/// 198.51.100.`host`, or 2001:db8::`host` when `v6`.
session::Endpoint at(uint8_t host, uint16_t port, bool v6 = false) {
  session::Endpoint endpoint;
  const uint8_t four[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, host};
  const uint8_t six[16] = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host};
  std::memcpy(endpoint.remote.ip, v6 ? six : four, 16);
  endpoint.remote.port = __builtin_bswap16(port);
  return endpoint;
}

bool is(const session::Endpoint& a, const session::Endpoint& b) {
  return omerta_same_address(a.remote.ip, a.remote.port, &b.remote) != 0;
}

/// The same in every run, and with it which prefixes share a bucket.
session::RandomBytes repeatable_bytes() {
  return [state = uint64_t{1}](std::span<uint8_t> out) mutable {
    for (uint8_t& byte : out) {
      state = state * 6364136223846793005 + 1442695040888963407;
      byte = static_cast<uint8_t>(state >> 56);
    }
  };
}

/// A relay with one server (key 1, at .200) and what its clients send.
struct World {
  relay::Accounts accounts{{4, 4, 4}};
  relay::WireguardTable table;
  Nanoseconds now = kStart;
  session::CookieReply reply{};
  session::Endpoint server = at(200, 51820);

  explicit World(size_t sessions = 64, session::RandomBytes random = random_bytes)
      : table(sessions, std::move(random), {{1, 2}}) {
    if (sessions > 0) table.bind(3, binding(1, server), now, accounts);
  }

  static omerta_wireguard_binding binding(uint8_t seed, const session::Endpoint& at, uint32_t identity = 0) {
    omerta_wireguard_binding b{};
    const Key32 key = server_key(seed);
    std::memcpy(b.public_key, key.data(), 32);
    b.server = at.remote;
    b.identity = identity;
    return b;
  }

  relay::WireguardTable::Result handshake(const auto& message, const session::Endpoint& from) {
    return table.handshake(bytes_of(message), from, now, none_own, reply);
  }
  /// A client's initiation, and if the relay asks for its cookie, another one with it.
  relay::WireguardTable::Result asked(uint32_t index, const session::Endpoint& from, uint8_t seed = 1) {
    const session::Initiation first = initiation(index, seed);
    const auto result = handshake(first, from);
    if (result.verdict != Verdict::cookie) return result;
    return handshake(stock::initiation_with(stock::cookie_in(reply, first, seed), index, seed), from);
  }
  Verdict ask(uint32_t index, const session::Endpoint& from) { return asked(index, from).verdict; }
  /// One that asks once, as somebody does who forges `from` and does not read what goes there.
  Verdict ask_blindly(uint32_t index, const session::Endpoint& from) {
    return handshake(initiation(index), from).verdict;
  }
  relay::WireguardTable::Result answer(uint32_t server_index, uint32_t client_index,
                                       const session::Endpoint& from) {
    return handshake(stock::response(server_index, client_index), from);
  }
  relay::WireguardTable::Result carry(uint32_t index, const session::Endpoint& from, size_t size = 128) {
    return table.transport(index, size, from, now, accounts);
  }
  /// A whole handshake: client index 100 + n, server index 200 + n.
  bool connect(uint32_t n, const session::Endpoint& client) {
    return ask(100 + n, client) == Verdict::forward &&
           answer(200 + n, 100 + n, server).verdict == Verdict::forward &&
           carry(200 + n, client).verdict == Verdict::forward;
  }
};

void a_session_is_relayed_both_ways_and_counted() {
  World w;
  session::Endpoint client = at(1, 40000);
  client.local.ip[15] = 9;
  client.local.interface = 5;
  const auto asked = w.asked(100, client);
  CHECK(asked.verdict == Verdict::forward && is(asked.to, w.server));
  CHECK(w.carry(100, w.server).verdict == Verdict::not_ours);
  const auto answered = w.answer(200, 100, w.server);
  CHECK(answered.verdict == Verdict::forward && is(answered.to, client));
  CHECK(answered.to.local.ip[15] == 9 && answered.to.local.interface == 5);
  // Before the client has shown that it read the response, nothing else goes to its address.
  CHECK(w.carry(100, w.server).verdict == Verdict::not_ours);
  CHECK(w.table.usage(3).sessions == 0);
  const auto first = w.carry(200, client, 128);
  CHECK(first.verdict == Verdict::forward && is(first.to, w.server));
  const auto back = w.carry(100, w.server, 1000);
  CHECK(back.verdict == Verdict::forward && is(back.to, client));
  CHECK(back.to.local.ip[15] == 9 && back.to.local.interface == 5);
  const auto usage = w.table.usage(3);
  CHECK(usage.sessions == 1 && usage.packets == 2 && usage.bytes == 1128);
  // IPv6 towards an IPv4 server just as well.
  CHECK(w.connect(1, at(1, 40000, true)));
}

void packets_from_elsewhere_go_nowhere() {
  World w;
  const session::Endpoint client = at(1, 40000);
  CHECK(w.ask(100, client) == Verdict::forward);
  CHECK(w.answer(200, 100, at(199, 51820)).verdict == Verdict::not_ours);  // not the server
  CHECK(w.answer(200, 101, w.server).verdict == Verdict::not_ours);        // no such client
  CHECK(w.answer(200, 100, w.server).verdict == Verdict::forward);
  CHECK(w.carry(200, at(2, 40000)).verdict == Verdict::not_ours);  // somebody who guessed the index
  CHECK(w.carry(200, at(1, 40001)).verdict == Verdict::not_ours);  // another port
  CHECK(w.carry(201, client).verdict == Verdict::not_ours);
  CHECK(w.carry(200, client).verdict == Verdict::forward);
  // A client whose address changed is heard again after its next handshake.
  CHECK(w.carry(200, at(1, 40001)).verdict == Verdict::not_ours);
  CHECK(w.carry(100, client).verdict == Verdict::not_ours);
  CHECK(w.connect(1, at(1, 40001)));
  session::Endpoint relayed = client;
  relayed.receive_leg = 7;
  CHECK(w.carry(200, relayed).verdict == Verdict::not_ours);  // a datagram inside a frame
}

void an_initiation_for_nobody_is_nobodys() {
  World w;
  CHECK(w.handshake(initiation(1, 2), at(1, 40000)).verdict == Verdict::not_ours);
  session::Initiation message = initiation(1);
  message.ephemeral[0] = static_cast<uint8_t>(message.ephemeral[0] ^ 1);
  CHECK(w.handshake(message, at(1, 40000)).verdict == Verdict::not_ours);
  CHECK(w.ask(1, w.server) == Verdict::self);
  CHECK(w.table
            .handshake(
                bytes_of(message), at(1, 40000), w.now, [](uint32_t index) { return index == 1; }, w.reply)
            .verdict == Verdict::index_taken);
  World none(0);
  CHECK(!none.table.enabled() && none.ask(1, at(1, 40000)) == Verdict::not_ours);
  bool refused = false;
  try {
    none.table.bind(0, World::binding(1, none.server), none.now, none.accounts);
  } catch (const std::out_of_range&) {
    refused = true;
  }
  CHECK(refused);
}

void before_a_session_stands_a_client_is_sent_no_more_than_it_sent() {
  World w;
  const session::Endpoint client = at(1, 40000);
  session::CookieReply cookie{};
  cookie.type = session::kCookieReplyType;
  cookie.receiver = 100;
  CHECK(w.ask(100, client) == Verdict::forward);
  size_t bytes = 0;
  for (int i = 0; i < 10; i++) {
    if (w.handshake(cookie, w.server).verdict == Verdict::forward) bytes += sizeof cookie;
    if (w.answer(200, 100, w.server).verdict == Verdict::forward) bytes += sizeof(session::Response);
  }
  CHECK(bytes > 0 && bytes <= sizeof(session::Initiation));
  CHECK(w.handshake(cookie, at(9, 9)).verdict == Verdict::not_ours);
  CHECK(sizeof(session::CookieReply) < sizeof(session::Initiation));
}

void only_the_relays_own_cookie_proves_an_address() {
  World w;
  const session::Endpoint client = at(1, 40000);
  // A server that works with whoever forges the address chooses the index: it proves nothing.
  for (uint32_t i = 0; i < 1000; i++) {
    CHECK(w.ask_blindly(100 + i, client) == Verdict::cookie);
    CHECK(w.answer(200 + i, 100 + i, w.server).verdict == Verdict::not_ours);
    CHECK(w.carry(200 + i, client).verdict == Verdict::not_ours);
    CHECK(w.carry(100 + i, w.server).verdict == Verdict::not_ours);
    w.now += kSecond / 20;
  }
  CHECK(sizeof(session::CookieReply) < sizeof(session::Initiation));
  CHECK(w.table.usage(3).sessions == 0);

  // The client opens the reply by what it knows of the server alone, and asks again with a mac2.
  const session::Initiation message = initiation(5000);
  CHECK(w.handshake(message, client).verdict == Verdict::cookie && w.reply.receiver == 5000);
  const session::Cookie cookie = stock::cookie_in(w.reply, message);
  // It is bound to address and port.
  CHECK(w.handshake(stock::initiation_with(cookie, 5001), at(1, 40001)).verdict == Verdict::cookie);
  CHECK(w.handshake(stock::initiation_with(cookie, 5001), at(2, 40000)).verdict == Verdict::cookie);
  CHECK(w.handshake(stock::initiation_with(cookie, 5002), client).verdict == Verdict::forward);
  // Until its keys end it is not asked again by this server's relay, but by another server's.
  CHECK(w.ask_blindly(5003, client) == Verdict::forward);
  w.table.bind(5, World::binding(2, at(201, 51820)), w.now, w.accounts);
  CHECK(w.handshake(initiation(5004, 2), client).verdict == Verdict::cookie);
  w.now += 180 * kSecond;
  CHECK(w.ask_blindly(5005, client) == Verdict::cookie);
}

void half_open_handshakes_have_a_cap_for_each_prefix() {
  World w;
  uint32_t index = 1000;
  for (size_t i = 0; i < relay::WireguardTable::kHalfOpenPerPrefix; i++)
    CHECK(w.ask(index++, at(1, 40000)) == Verdict::forward);
  CHECK(w.ask(index++, at(1, 40000)) == Verdict::half_open_full);
  CHECK(w.ask(index++, at(2, 40000)) == Verdict::forward);
  w.now += relay::WireguardTable::kHalfOpenTime;
  CHECK(w.ask(index++, at(1, 40000)) == Verdict::forward);
}

void half_open_handshakes_have_a_cap_for_each_site() {
  for (const bool v6 : {false, true}) {
    World w;
    uint32_t index = 1000;
    // An IPv4 address of a /24, an IPv6 /64 of a /48, each.
    const auto of_site = [&](uint8_t network) {
      session::Endpoint client = at(v6 ? 1 : network, 40000, v6);
      if (v6) client.remote.ip[7] = network;
      return client;
    };
    for (size_t i = 0; i < relay::WireguardTable::kHalfOpenPerSite; i++)
      CHECK(w.ask(index++, of_site(static_cast<uint8_t>(1 + i % 100))) == Verdict::forward);
    CHECK(w.ask(index++, of_site(101)) == Verdict::half_open_full);
    session::Endpoint other = of_site(101);
    other.remote.ip[v6 ? 5 : 14]++;
    CHECK(w.ask(index++, other) == Verdict::forward);
    w.now += relay::WireguardTable::kHalfOpenTime;
    CHECK(w.ask(index++, of_site(101)) == Verdict::forward);
  }
}

void a_flood_of_forged_addresses_takes_no_place_in_the_table() {
  World w;
  CHECK(w.connect(0, at(250, 40000)));
  uint32_t index = 1000;
  for (int i = 0; i < 3000; i++) {
    w.now += kSecond / 3000;
    session::Endpoint from = at(static_cast<uint8_t>(i % 250), static_cast<uint16_t>(i + 1));
    from.remote.ip[13] = static_cast<uint8_t>(i % 10);  // of ten sites
    CHECK(w.ask_blindly(index++, from) == Verdict::cookie);
  }
  CHECK(w.connect(1, at(251, 1)));
  // Sent once, an initiation is not sent on twice.
  World fresh;
  CHECK(fresh.ask(5, at(1, 1)) == Verdict::forward);
  CHECK(fresh.ask(5, at(1, 1)) == Verdict::repeated);
}

void no_flood_spends_the_checks_of_another_prefix() {
  World w(64, repeatable_bytes());
  CHECK(w.connect(0, at(250, 40000)));
  size_t over = 0;
  session::Initiation garbage{};
  garbage.type = session::kInitiationType;
  const auto flood = [&](uint32_t count, bool v6) {
    for (uint32_t i = 0; i < count; i++) {
      garbage.sender = i;
      auto from = at(static_cast<uint8_t>(i % 240), static_cast<uint16_t>(i), v6);
      if (v6) std::memcpy(from.remote.ip + 4, &i, 4);  // as many prefixes as datagrams
      over += w.handshake(garbage, from).verdict == Verdict::over_rate ? 1 : 0;
    }
  };
  flood(100'000, false);  // of few
  CHECK(over > 70'000);
  size_t let_in = 0;  // newcomers elsewhere, but for those whose bucket is that of one of the 240
  for (uint8_t i = 0; i < 10; i++) {
    session::Endpoint newcomer = at(249, 1);
    newcomer.remote.ip[13] = i;
    let_in += w.ask(800 + i, newcomer) == Verdict::forward ? 1 : 0;
  }
  CHECK(let_in >= 8);
  CHECK(w.connect(1, at(250, 40000)));
  // Of all there are: strangers have to wait, but neither who is known nor who answers a cookie.
  w.now += kSecond;
  const session::Endpoint waiting = at(248, 1);
  const session::Initiation first = initiation(901);
  CHECK(w.handshake(first, waiting).verdict == Verdict::cookie);
  const session::Cookie cookie = stock::cookie_in(w.reply, first);
  flood(300'000, true);
  CHECK(w.ask_blindly(902, at(247, 1)) == Verdict::over_rate);
  CHECK(w.connect(2, at(250, 40000)));
  CHECK(w.handshake(stock::initiation_with(cookie, 903), waiting).verdict == Verdict::forward);
  w.now += kSecond;
  CHECK(w.ask(904, at(247, 1)) == Verdict::forward);
  // And one that is known does not get in without end.
  size_t taken = 0;
  for (uint32_t i = 0; i < 30000; i++) taken += w.ask(5000 + i, at(250, 40000)) != Verdict::over_rate;
  CHECK(taken < 5000);
}

void no_site_spends_the_checks_of_all_strangers() {
  World w(64, repeatable_bytes());
  // With as many servers as there can be, 625 initiations of strangers at once.
  for (uint8_t i = 0; i < 64; i++) w.table.bind(i, World::binding(i + 1, w.server), w.now, w.accounts);
  session::Initiation garbage{};
  garbage.type = session::kInitiationType;
  for (uint32_t i = 0; i < 20'000; i++) {
    garbage.sender = i;
    session::Endpoint from = at(1, 1, true);
    from.remote.ip[6] = static_cast<uint8_t>(i >> 8);  // 20,000 /64s of one /48
    from.remote.ip[7] = static_cast<uint8_t>(i);
    w.handshake(garbage, from);
  }
  CHECK(w.ask_blindly(900, at(249, 1)) == Verdict::cookie);
  session::Endpoint elsewhere = at(1, 1, true);
  elsewhere.remote.ip[5] ^= 1;
  CHECK(w.ask_blindly(901, elsewhere) == Verdict::cookie);
}

void sessions_last_as_long_as_their_keys() {
  World w(4);
  const session::Endpoint client = at(1, 40000);
  CHECK(w.connect(0, client));
  w.now += 179 * kSecond;
  CHECK(w.carry(200, client).verdict == Verdict::forward);
  CHECK(w.connect(1, client));  // renewed, as every 120 s
  w.now += kSecond;
  CHECK(w.carry(200, client).verdict == Verdict::not_ours);
  CHECK(w.carry(201, client).verdict == Verdict::forward);
  w.table.sweep(w.now);
  const auto usage = w.table.usage(3);
  CHECK(usage.sessions == 1 && usage.packets == 4);
}

void sessions_have_a_cap_and_every_server_its_part() {
  World w(4);
  w.table.bind(5, World::binding(2, at(201, 51820)), w.now, w.accounts);
  CHECK(w.connect(0, at(1, 40000)));
  CHECK(w.connect(1, at(2, 40000)));
  CHECK(!w.connect(2, at(3, 40000)));
  CHECK(w.carry(202, at(3, 40000)).verdict == Verdict::sessions_full);
  // The other server's half is untouched.
  CHECK(w.asked(300, at(4, 40000), 2).verdict == Verdict::forward);
  CHECK(w.answer(400, 300, at(201, 51820)).verdict == Verdict::forward);
  CHECK(w.carry(400, at(4, 40000)).verdict == Verdict::forward);
  CHECK(w.table.usage(5).sessions == 1 && w.table.usage(3).sessions == 2);
  // Another server's index at the same client, and the same index at another server, are told apart.
  CHECK(is(w.carry(400, at(4, 40000)).to, at(201, 51820)));
}

void sessions_follow_a_server_to_its_new_address_and_end_with_it() {
  World w;
  const session::Endpoint client = at(1, 40000);
  CHECK(w.connect(0, client));
  const session::Endpoint moved = at(210, 4000);
  w.table.bind(3, World::binding(1, moved), w.now, w.accounts);
  CHECK(is(w.carry(200, client).to, moved));
  CHECK(w.carry(100, w.server).verdict == Verdict::not_ours);
  CHECK(is(w.carry(100, moved).to, client));
  CHECK(w.table.usage(3).packets == 3);
  w.table.bind(3, World::binding(2, moved), w.now, w.accounts);  // somebody else's now
  CHECK(w.carry(200, client).verdict == Verdict::not_ours);
  CHECK(w.table.usage(3).packets == 0);
  w.table.unbind(3, w.accounts);
  CHECK(!w.table.active());
  CHECK(w.accounts.read(relay::AccountKind::identity, 0).packets == 3);
}

void what_is_relayed_is_charged_to_the_server_and_held_to_its_limits() {
  World w;
  const session::Endpoint client = at(1, 40000);
  omerta_wireguard_binding binding = World::binding(1, w.server, 2);
  binding.limits = 1;
  w.table.bind(3, binding, w.now, w.accounts);
  CHECK(w.connect(0, client));
  // A thousand a second, ten at once.
  w.accounts.set_rate(relay::AccountKind::identity, 2, {0, 1'000'000, 10'000'000});
  size_t passed = 0;
  for (int i = 0; i < 100; i++) passed += w.carry(200, client).verdict == Verdict::forward ? 1 : 0;
  CHECK(passed == 10);
  const auto refused = w.carry(100, w.server);
  CHECK(refused.verdict == Verdict::refused_by_limit && refused.limit == OMERTA_DROP_IDENTITY_RATE);
  uint64_t packets = 0;
  w.table.for_each_charge([&](const omerta_leg& leg) { packets += leg.identity == 2 ? leg.packets : 0; });
  CHECK(packets == passed + 1);
  w.table.unbind(3, w.accounts);
  CHECK(w.accounts.read(relay::AccountKind::identity, 2).packets == passed + 1);
}

/// The keys of a stock client's session are its ends' alone, so that the relay cannot tell a message sent
/// again, or made up, from a new one: whoever forges the client's address spends what that session may use,
/// and no more.
void who_forges_a_clients_address_spends_that_sessions_limit_alone() {
  World w;
  const session::Endpoint overheard = at(1, 40000);
  const session::Endpoint other = at(2, 40000);
  omerta_wireguard_binding binding = World::binding(1, w.server, 2);
  binding.limits = 1;
  w.table.bind(3, binding, w.now, w.accounts);
  CHECK(w.connect(0, overheard) && w.connect(1, other));
  w.now += 60 * kSecond;
  // Of each direction of a session a thousand messages a second, ten at once.
  w.accounts.set_limits(1, {{0, 1'000'000, 10'000'000}, 0, 0});
  size_t passed = 0;
  for (int i = 0; i < 1000; i++) {
    const auto result = w.carry(200, overheard);
    if (result.verdict == Verdict::forward) {
      CHECK(is(result.to, w.server));
      passed++;
    } else {
      CHECK(result.verdict == Verdict::refused_by_limit && result.limit == OMERTA_DROP_RATE_LIMITED);
    }
  }
  CHECK(passed == 10);
  for (int i = 0; i < 10; i++) CHECK(w.carry(201, other).verdict == Verdict::forward);
  CHECK(w.carry(100, w.server).verdict == Verdict::forward);  // and its own other direction
  // From any other address it is nobody's, and when the keys have run out too.
  CHECK(w.carry(200, other).verdict == Verdict::not_ours);
  w.now += 121 * kSecond;
  CHECK(w.carry(200, overheard).verdict == Verdict::not_ours);
}

void sessions_an_earlier_daemon_left_in_the_kernel_go_on() {
  World before;
  session::Endpoint client = at(1, 40000);
  client.local.ip[15] = 9;
  client.local.interface = 5;
  CHECK(before.connect(0, client));
  CHECK(before.connect(1, at(2, 40000)));
  std::vector<omerta_leg> routes = before.table.routes(before.now);
  CHECK(routes.size() == 4);

  World w;
  w.table.unbind(3, w.accounts);
  uint64_t changes = w.table.changes();
  const auto changed = [&] {
    const uint64_t known = changes;
    changes = w.table.changes();
    return changes != known;
  };
  w.table.adopt(std::span(routes).first(3), w.now);  // one of them without its other direction
  CHECK(changed());
  // They stay in the kernel, on nobody's account, until their server is bound again.
  CHECK(w.table.routes(w.now).size() == 2);
  for (const omerta_leg& route : w.table.routes(w.now))
    CHECK(route.key_epoch == OMERTA_WIREGUARD_UNBOUND && route.identity == 0 && route.network == 0);
  CHECK(w.carry(200, client).verdict == Verdict::not_ours);
  w.table.bind(4, World::binding(2, at(201, 1)), w.now, w.accounts);
  CHECK(w.table.usage(4).sessions == 0 && w.table.routes(w.now).size() == 2);
  const session::Endpoint moved = at(210, 4000);
  w.table.bind(5, World::binding(1, moved, 2), w.now, w.accounts);
  CHECK(changed() && w.table.usage(5).sessions == 1);
  CHECK(w.carry(201, at(2, 40000)).verdict == Verdict::not_ours);
  CHECK(is(w.carry(200, client).to, moved));
  const auto back = w.carry(100, moved);
  CHECK(is(back.to, client) && back.to.local.ip[15] == 9 && back.to.local.interface == 5);
  for (const omerta_leg& route : w.table.routes(w.now)) CHECK(route.key_epoch == 5 && route.identity == 2);
  w.now += 180 * kSecond;  // no longer than their keys
  CHECK(w.carry(200, client).verdict == Verdict::not_ours);

  // What nobody claims is taken out of the kernel.
  World late;
  late.table.unbind(3, late.accounts);
  late.table.adopt(routes, late.now);
  CHECK(late.table.routes(late.now).size() == 4);
  late.now += relay::WireguardTable::kAdoptionTime;
  const uint64_t last = late.table.changes();
  late.table.sweep(late.now);
  CHECK(late.table.changes() != last && late.table.routes(late.now).empty());
  late.table.bind(3, World::binding(1, late.server), late.now, late.accounts);
  CHECK(late.table.usage(3).sessions == 0);
}

void what_the_kernel_carried_is_charged() {
  World w;
  w.table.bind(3, World::binding(1, w.server, 2), w.now, w.accounts);
  CHECK(w.connect(0, at(1, 40000)));
  std::vector<omerta_leg> ended = w.table.routes(w.now);
  for (omerta_leg& route : ended) {
    route.packets = 10;
    route.bytes = 1000;
  }
  w.table.add_carried(ended, w.accounts);
  CHECK(w.table.usage(3).packets == 21 && w.table.usage(3).bytes == 2128);
  w.table.bind(3, World::binding(1, w.server, 1), w.now, w.accounts);  // another's account from now on
  CHECK(w.accounts.read(relay::AccountKind::identity, 2).packets == 21);
  w.table.add_carried(ended, w.accounts);  // of the former
  CHECK(w.table.usage(3).packets == 0);
  CHECK(w.accounts.read(relay::AccountKind::identity, 2).packets == 41);
}

void the_door_knows_clients_that_answered_a_cookie() {
  World w;
  const auto door = std::make_unique<omerta_door>();
  const auto knows = [&](const session::Endpoint& client) {
    return omerta_is_known(door.get(), omerta_known_hash(door.get(), client.remote.ip),
                           static_cast<uint64_t>(w.now)) != 0;
  };
  w.table.tell(door.get());
  CHECK(door->relays_wireguard == 1);
  session::CookieReply reply;
  const session::Endpoint client = at(1, 40000);
  const session::Initiation first = initiation(7);
  CHECK(w.table.handshake(bytes_of(first), client, w.now, none_own, reply).verdict == Verdict::cookie);
  CHECK(!knows(client));
  const session::Initiation again = stock::initiation_with(stock::cookie_in(reply, first), 7);
  CHECK(w.table.handshake(bytes_of(again), client, w.now, none_own, reply).verdict == Verdict::forward);
  CHECK(knows(client) && !knows(at(2, 40000)));
  w.table.unbind(3, w.accounts);
  CHECK(door->relays_wireguard == 0);
}

void indices_somebody_waits_for_are_mirrored() {
  World w;
  std::vector<uint64_t> words(OMERTA_EXPECTED_INDICES, 7);
  CHECK(w.ask(5, at(9, 1)) == Verdict::forward);
  w.table.mirror_expected(words.data());
  const auto expected = [&](uint32_t index) { return words[index % OMERTA_EXPECTED_INDICES]; };
  CHECK(expected(5) == 1);  // of a handshake under way: the response may come
  const session::Endpoint client = at(1, 40000);
  CHECK(w.ask(100, client) == Verdict::forward);
  CHECK(expected(100) == 1 && expected(200) == 0);
  CHECK(w.answer(200, 100, w.server).verdict == Verdict::forward);
  CHECK(expected(100) == 1 && expected(200) == 1);
  CHECK(w.carry(200, client).verdict == Verdict::forward);
  CHECK(expected(100) == 1 && expected(200) == 1);
  w.now += 180 * kSecond;
  w.table.sweep(w.now);
  for (const uint64_t count : words) CHECK(count == 0);
  CHECK(w.connect(1, client));
  w.table.unbind(3, w.accounts);
  for (const uint64_t count : words) CHECK(count == 0);
}

void workers_relay_while_servers_come_and_go() {
  World w(256);
  std::vector<uint64_t> expected(OMERTA_EXPECTED_INDICES);
  w.table.mirror_expected(expected.data());
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> carried = 0;
  const auto client = [&](uint8_t host) {
    session::CookieReply reply;
    uint32_t n = 1;
    while (!stop) {
      const uint32_t index = static_cast<uint32_t>(host) << 24 | n++;
      const session::Endpoint from = at(host, static_cast<uint16_t>(1 + n % 60000));
      const session::Initiation ask = initiation(index);
      if (w.table.handshake(bytes_of(ask), from, w.now, none_own, reply).verdict == Verdict::cookie) {
        const session::Initiation again = stock::initiation_with(stock::cookie_in(reply, ask), index);
        w.table.handshake(bytes_of(again), from, w.now, none_own, reply);
      }
      const session::Response answer = stock::response(index ^ 0x800000, index);
      w.table.handshake(bytes_of(answer), w.server, w.now, none_own, reply);
      for (int i = 0; i < 20; i++) {
        carried +=
            w.table.transport(index ^ 0x800000, 100, from, w.now, w.accounts).verdict == Verdict::forward;
        carried += w.table.transport(index, 100, w.server, w.now, w.accounts).verdict == Verdict::forward;
      }
    }
  };
  std::thread one(client, uint8_t{1}), two(client, uint8_t{2});
  for (int i = 0; i < 200; i++) {
    w.table.bind(3, World::binding(1, w.server, static_cast<uint32_t>(i % 4)), w.now, w.accounts);
    w.table.bind(4, World::binding(2, at(201, 1)), w.now, w.accounts);
    w.table.usage(3);
    if (i % 10 == 0) w.table.unbind(3, w.accounts);
    w.table.unbind(4, w.accounts);
    w.table.sweep(w.now + (i % 20 == 0 ? 300 * kSecond : 0));
    w.table.add_carried(w.table.routes(w.now), w.accounts);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  stop = true;
  one.join();
  two.join();
  CHECK(carried > 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(a_session_is_relayed_both_ways_and_counted);
  RUN(packets_from_elsewhere_go_nowhere);
  RUN(an_initiation_for_nobody_is_nobodys);
  RUN(before_a_session_stands_a_client_is_sent_no_more_than_it_sent);
  RUN(only_the_relays_own_cookie_proves_an_address);
  RUN(half_open_handshakes_have_a_cap_for_each_prefix);
  RUN(half_open_handshakes_have_a_cap_for_each_site);
  RUN(a_flood_of_forged_addresses_takes_no_place_in_the_table);
  RUN(no_flood_spends_the_checks_of_another_prefix);
  RUN(no_site_spends_the_checks_of_all_strangers);
  RUN(sessions_last_as_long_as_their_keys);
  RUN(sessions_have_a_cap_and_every_server_its_part);
  RUN(sessions_follow_a_server_to_its_new_address_and_end_with_it);
  RUN(what_is_relayed_is_charged_to_the_server_and_held_to_its_limits);
  RUN(who_forges_a_clients_address_spends_that_sessions_limit_alone);
  RUN(sessions_an_earlier_daemon_left_in_the_kernel_go_on);
  RUN(what_the_kernel_carried_is_charged);
  RUN(the_door_knows_clients_that_answered_a_cookie);
  RUN(indices_somebody_waits_for_are_mirrored);
  RUN(workers_relay_while_servers_come_and_go);
  return omerta::check::finish();
}
