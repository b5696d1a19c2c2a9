// SPDX-License-Identifier: Apache-2.0
// Cookies: what is asked of senders of handshakes under load, and what a cookie is good for.
#include <sodium.h>

#include "check.h"
#include "crypto/blake2s.h"
#include "session_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session;
using namespace omerta::session_test;

/// Uses up what is answered without a cookie.
void put_under_load(Node& node) {
  Node noise(9, 9);
  noise.now = node.now;
  noise.add(node);
  for (int i = 0; i < 300; i++) {
    noise.peer().last_initiation.store(0);
    noise.table.start_handshake(node.table.local().public_key, noise.now, noise);
    node.receive(noise.sent.back().bytes, noise.self);
  }
  node.sent.clear();
}

void under_load_a_cookie_is_asked_for_and_used_at_the_next_attempt() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  put_under_load(p.b);
  p.a.write(p.b, "x");
  CHECK(p.b.receive(p.a.sent.front().bytes, p.a.self) == Outcome::cookie_sent);
  CHECK(p.b.sent.size() == 1 && p.b.sent.front().bytes.size() == 64);
  const Endpoint before = p.a.peer().endpoint();
  CHECK(p.a.receive(p.b.sent.front().bytes, endpoint(77)) == Outcome::accepted);
  CHECK(p.a.peer().endpoint().same_path(before));  // no roaming on a cookie reply
  CHECK(p.a.sent.size() == 1);                     // no retry at once
  p.b.sent.clear();
  p.a.now += kRekeyTimeout + kRekeyTimeoutJitter;
  p.b.now += kSecond / 2;  // still under load
  p.a.tick();
  CHECK(p.a.sent.size() == 2);
  // The cookie is bound to the port: the same message from another port is asked again.
  CHECK(p.b.receive(p.a.sent.back().bytes, endpoint(1, 4444)) == Outcome::cookie_sent);
  CHECK(p.b.receive(p.a.sent.back().bytes, p.a.self) == Outcome::accepted);
}

/// Node b of a pair under load, and two that ask it for sessions: it knows `other`, and not `noise`.
struct Loaded {
  Pair p;
  Node noise{9, 9};
  Node other{8, 8};

  Loaded() {
    noise.add(p.b);
    other.add(p.b);
    PeerSettings known;
    known.public_key = other.table.local().public_key;
    CHECK(p.b.table.set_peers({known}, p.b.now, p.b));
    put_under_load(p.b);
  }
  Outcome attempt(Node& from, const Endpoint& by) {
    from.now = p.b.now;
    from.peer().last_initiation.store(0);
    from.table.start_handshake(p.b.table.local().public_key, from.now, from);
    return p.b.receive(from.sent.back().bytes, by);
  }
  void take_cookie(Node& from, const Endpoint& by) {
    CHECK(attempt(from, by) == Outcome::cookie_sent);
    CHECK(from.receive(p.b.sent.back().bytes, p.b.self) == Outcome::accepted);
  }
  /// A handshake every millisecond for half a second, of which 20 a second get through to the look-up.
  void noise_is_held_to_its_rate(const Endpoint& by) {
    int passed = 0;
    int limited = 0;
    for (int i = 0; i < 500; i++) {
      p.b.now += kMillisecond;
      const Outcome outcome = attempt(noise, by);
      passed += outcome == Outcome::unknown_peer ? 1 : 0;
      limited += outcome == Outcome::over_rate ? 1 : 0;
    }
    CHECK(passed >= 10 && passed <= 16);
    CHECK(passed + limited == 500);
  }
};

void under_load_one_address_gets_twenty_handshakes_a_second_and_others_are_not_hurt() {
  Loaded l;
  l.take_cookie(l.noise, l.noise.self);
  l.take_cookie(l.other, l.other.self);
  l.noise_is_held_to_its_rate(l.noise.self);
  CHECK(l.attempt(l.other, l.other.self) == Outcome::accepted);
}

void under_load_each_leg_of_a_relay_gets_twenty_handshakes_a_second() {
  Loaded l;
  const auto leg_of_the_relay = [](uint32_t leg) {
    Endpoint by_leg = endpoint(50);
    by_leg.receive_leg = by_leg.send_leg = leg;
    return by_leg;
  };
  l.take_cookie(l.noise, leg_of_the_relay(1));
  l.take_cookie(l.other, leg_of_the_relay(2));
  l.take_cookie(l.noise, leg_of_the_relay(3));  // a cookie is good for its leg alone
  l.take_cookie(l.noise, leg_of_the_relay(1));
  l.noise_is_held_to_its_rate(leg_of_the_relay(1));
  CHECK(l.attempt(l.other, leg_of_the_relay(2)) == Outcome::accepted);
}

void a_cookie_is_good_for_its_address_and_its_port_alone() {
  CookieJar jar;
  const RandomBytes random = [](std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); };
  const uint8_t covered[100] = {1, 2, 3};
  const Nanoseconds start = 1000 * kSecond;
  const Cookie cookie = jar.cookie_for(address(7, 1000), start, random);
  const Mac16 mac2 = crypto::blake2s_mac(cookie, {covered});
  const auto good = [&](const omerta_address& from, Nanoseconds age) {
    return jar.verify(covered, mac2, from, start + age, random);
  };
  CHECK(good(address(7, 1000), 0));
  CHECK(!good(address(7, 1001), 0) && !good(address(8, 1000), 0));
  CHECK(good(address(7, 1000), 119 * kSecond));
  CHECK(good(address(7, 1000), 121 * kSecond));  // under the secret of before
  CHECK(!good(address(7, 1000), 245 * kSecond));
}

void a_cookie_reply_moves_no_endpoint_and_is_taken_once() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  put_under_load(p.b);
  p.a.write(p.b, "x");
  CHECK(p.b.receive(p.a.sent.front().bytes, p.a.self) == Outcome::cookie_sent);
  const std::vector<uint8_t> reply = p.b.sent.front().bytes;
  CHECK(reply.size() < sizeof(Initiation));
  const int moved = p.a.moved;
  CHECK(p.a.receive(reply, endpoint(77)) == Outcome::accepted);
  CHECK(p.a.peer().endpoint().same_path(p.b.self) && p.a.moved == moved);
  CHECK(p.a.receive(reply, p.b.self) == Outcome::unknown_index);  // it answered one message
}

void a_cookie_is_used_for_115_s() {
  for (const Nanoseconds age : {114 * kSecond, 116 * kSecond}) {
    Pair p;
    p.a.add(p.b);
    p.b.add(p.a, std::nullopt, false);
    put_under_load(p.b);
    p.a.write(p.b, "x");
    CHECK(p.b.receive(p.a.sent.front().bytes, p.a.self) == Outcome::cookie_sent);
    CHECK(p.a.receive(p.b.sent.front().bytes, p.b.self) == Outcome::accepted);
    p.advance(age);
    p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
    const bool used = load<Initiation>(p.a.sent.back().bytes.data()).mac2 != Mac16{};
    CHECK(used == (age < kCookieUseTime));
  }
}

void under_load_a_missing_cookie_is_asked_for_until_a_second_after() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  put_under_load(p.b);
  p.advance(999 * kMillisecond);
  p.a.write(p.b, "x");
  CHECK(p.b.receive(p.a.sent.back().bytes, p.a.self) == Outcome::cookie_sent);
  p.advance(kSecond + kMillisecond);
  p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
  std::vector<uint8_t> plain = p.a.sent.back().bytes;
  std::memset(plain.data() + sizeof(Initiation) - sizeof(Mac16), 0, sizeof(Mac16));
  CHECK(p.b.receive(plain, p.a.self) == Outcome::accepted);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(under_load_a_cookie_is_asked_for_and_used_at_the_next_attempt);
  RUN(under_load_one_address_gets_twenty_handshakes_a_second_and_others_are_not_hurt);
  RUN(under_load_each_leg_of_a_relay_gets_twenty_handshakes_a_second);
  RUN(a_cookie_is_good_for_its_address_and_its_port_alone);
  RUN(a_cookie_reply_moves_no_endpoint_and_is_taken_once);
  RUN(a_cookie_is_used_for_115_s);
  RUN(under_load_a_missing_cookie_is_asked_for_until_a_second_after);
  return omerta::check::finish();
}
