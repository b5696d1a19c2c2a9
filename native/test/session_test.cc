// SPDX-License-Identifier: Apache-2.0
// Handshakes and transport packets of two session tables over a wire that the test holds, under a clock that
// the test moves. Named after the rule each test holds (docs/wireguard.md).
#include <sodium.h>

#include <memory>
#include <utility>

#include "check.h"
#include "crypto/blake2s.h"
#include "session_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session;
using namespace omerta::session_test;

Key32 hex32(std::string_view hex) {
  Key32 out;
  size_t length = 0;
  sodium_hex2bin(out.data(), out.size(), hex.data(), hex.size(), nullptr, &length, nullptr);
  return out;
}

void blake2s_matches_its_published_vectors() {
  // RFC 7693 appendix B.
  const Bytes abc(reinterpret_cast<const uint8_t*>("abc"), 3);
  CHECK(crypto::blake2s({abc}) == hex32("508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"));
  CHECK(crypto::blake2s({abc.first(1), abc.subspan(1)}) == crypto::blake2s({abc}));
}

void the_initial_hash_values_are_wireguards() {
  // Known constants of every implementation: HASH(construction), HASH(that ‖ identifier).
  const std::string_view construction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
  const Key32 chaining =
      crypto::blake2s({Bytes(reinterpret_cast<const uint8_t*>(construction.data()), construction.size())});
  CHECK(chaining == hex32("60e26daef327efc02ec335e2a025d2d016eb4206f87277f52d38d1988b78cd36"));
}

void a_handshake_carries_the_staged_packet_and_the_answer() {
  Pair p;
  p.connect();
  CHECK(p.b.inbox.size() == 1 && starts_with(p.b.inbox[0], "hello"));
  CHECK(p.b.inbox.at(0).size() == 16);  // padded to 16
  CHECK(p.a.established == 1 && p.b.established == 1);
  p.b.write(p.a, "answer");
  p.deliver();
  CHECK(p.a.inbox.size() == 1 && starts_with(p.a.inbox[0], "answer"));
}

void the_responder_does_not_send_on_a_key_it_has_not_received_on() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  p.a.write(p.b, "x");
  p.b.receive(p.a.sent.front().bytes, p.a.self);
  CHECK(p.b.sent.size() == 1);  // the response
  p.b.write(p.a, "too early");
  // Nothing but handshakes may leave: the key is not confirmed.
  for (const Sent& s : p.b.sent) CHECK(s.bytes[0] == 1 || s.bytes[0] == 2);
}

void a_wrong_preshared_key_completes_no_handshake() {
  Pair p;
  p.a.add(p.b, Node::key(7));
  p.b.add(p.a, Node::key(8), false);
  p.a.write(p.b, "x");
  p.deliver();
  CHECK(p.a.established == 0 && p.b.inbox.empty());
}

void handshakes_have_their_own_traffic_class_and_packets_the_ecn_of_what_is_inside() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  p.a.write(p.b, std::string("\x45\x03", 2) + std::string(18, '.'));  // IPv4, congestion experienced
  CHECK(p.a.sent.front().bytes[0] == 1 && p.a.sent.front().traffic_class == 0x88);
  p.b.receive(p.a.sent.front().bytes, p.a.self);
  p.a.sent.clear();
  CHECK(p.b.sent.front().bytes[0] == 2 && p.b.sent.front().traffic_class == 0x88);
  p.a.receive(p.b.sent.front().bytes, p.b.self);
  CHECK(p.a.sent.front().bytes[0] == 4 && p.a.sent.front().traffic_class == 3);
  p.a.write(p.b, std::string("\x60\x20", 2) + std::string(38, '.'));  // IPv6, ECT(0)
  CHECK(p.a.sent.back().traffic_class == 2);
  p.a.write(p.b, "\xC0\x03 is no IP packet");
  CHECK(p.a.sent.back().traffic_class == 0);
}

void padding_stops_at_the_inner_mtu() {
  Pair p;
  p.connect();
  const auto padded = [&](size_t size, size_t mtu) {
    p.a.mtu = mtu;
    p.a.write(p.b, std::string(size, 'x'));
    return p.a.sent.back().bytes.size() - kTransportOverhead;
  };
  CHECK(padded(1, 1420) == 16);
  CHECK(padded(1408, 1420) == 1408);
  CHECK(padded(1409, 1420) == 1420);
  CHECK(padded(1420, 1420) == 1420);
  CHECK(padded(1421, 1420) == 1421);  // the MTU was larger when it was staged
  CHECK(padded(8991, 9000) == 8992);
}

void a_replayed_packet_is_dropped_and_does_not_move_the_endpoint() {
  Pair p;
  p.connect();
  p.a.write(p.b, "once");
  const Sent packet = p.a.sent.front();
  p.deliver();
  const int moved = p.b.moved;
  CHECK(p.b.receive(packet.bytes, endpoint(66)) == Outcome::replayed_initiation);
  CHECK(p.b.moved == moved);
  CHECK(p.b.peer().endpoint().same_path(p.a.self));
}

void an_authentic_packet_from_elsewhere_moves_the_endpoint() {
  Pair p;
  p.connect();
  p.a.self = endpoint(99, 1234);
  p.a.write(p.b, "roamed");
  p.deliver();
  CHECK(p.b.peer().endpoint().same_path(endpoint(99, 1234)));
  CHECK(p.b.moved >= 1);
}

void a_peer_that_moves_with_every_packet_is_told_of_four_times_a_second_and_where_it_is_at_last() {
  Pair p;
  p.connect();
  p.advance(kSecond);
  const int moved = p.b.moved;
  for (int i = 0; i < 1000; i++) {  // a second
    p.advance(kMillisecond);
    if (i % 100 == 0) p.b.tick();
    p.a.write(p.b, "from here and there");
    p.b.receive(p.a.sent.back().bytes, endpoint(static_cast<uint8_t>(100 + i % 2)));
    p.a.sent.clear();
  }
  CHECK(p.b.moved > moved && p.b.moved <= moved + 5);
  const int before = p.b.moved;
  p.pass(500 * kMillisecond);
  CHECK(p.b.moved == before + 1 && p.b.peer().endpoint().same_path(endpoint(101)));
  p.pass(500 * kMillisecond);
  CHECK(p.b.moved == before + 1);
}

void a_flipped_bit_anywhere_opens_nothing() {
  Pair p;
  p.connect();
  p.a.write(p.b, "bits");
  const Sent packet = p.a.sent.front();
  p.a.sent.clear();
  for (size_t i = 4; i < packet.bytes.size(); i++) {
    std::vector<uint8_t> bytes = packet.bytes;
    bytes[i] ^= 0x20;
    CHECK(p.b.receive(bytes, p.a.self) != Outcome::accepted);
  }
  CHECK(p.b.receive(packet.bytes, p.a.self) == Outcome::accepted);
}

void a_flipped_bit_in_an_initiation_is_refused_without_an_answer() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  p.a.write(p.b, "x");
  const Sent initiation = p.a.sent.front();
  for (size_t i = 4; i < 132; i++) {  // mac1 covers all of this; mac2 is only looked at under load
    std::vector<uint8_t> bytes = initiation.bytes;
    bytes[i] ^= 1;
    CHECK(p.b.receive(bytes, p.a.self) == Outcome::bad_mac1);
  }
  CHECK(p.b.sent.empty());
}

void a_replayed_initiation_is_refused() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  p.a.write(p.b, "x");
  const Sent initiation = p.a.sent.front();
  CHECK(p.b.receive(initiation.bytes, p.a.self) == Outcome::accepted);
  p.advance(kSecond);
  CHECK(p.b.receive(initiation.bytes, p.a.self) == Outcome::replayed_initiation);
  CHECK(p.b.sent.size() == 1);
}

void initiations_of_one_peer_are_consumed_at_most_fifty_a_second() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  int accepted = 0;
  for (int i = 0; i < 1000; i++) {
    p.advance(kMillisecond);
    p.a.peer().last_initiation.store(0);
    p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
    if (p.b.receive(p.a.sent.back().bytes, p.a.self) == Outcome::accepted) accepted++;
    p.a.sent.clear();
  }
  CHECK(accepted == 50);
}

void a_stranger_gets_silence() {
  Pair p;
  p.a.add(p.b);
  p.a.write(p.b, "x");
  CHECK(p.b.receive(p.a.sent.front().bytes, p.a.self) == Outcome::unknown_peer);
  CHECK(p.b.sent.empty() && p.b.table.size() == 0);
}

void at_most_128_packets_are_staged_and_the_oldest_go_first() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  for (int i = 0; i < 200; i++) p.a.write(p.b, "packet " + std::to_string(i));
  CHECK(p.a.peer().staged.size() == kMaxStagedPackets);
  p.deliver();
  CHECK(p.b.inbox.size() == kMaxStagedPackets);
  CHECK(starts_with(p.b.inbox.front(), "packet 72"));
}

void simultaneous_initiations_end_in_one_working_session() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a);
  p.a.write(p.b, "from a");
  p.b.write(p.a, "from b");
  p.deliver();
  CHECK(p.a.inbox.size() == 1 && p.b.inbox.size() == 1);  // at once, not after a retry
  p.pass(12 * kSecond);
  p.a.write(p.b, "after");
  p.b.write(p.a, "after");
  p.deliver();
  CHECK(!p.a.inbox.empty() && starts_with(p.a.inbox.back(), "after"));
  CHECK(!p.b.inbox.empty() && starts_with(p.b.inbox.back(), "after"));
}

void a_restarted_peer_is_reached_again() {
  Pair p;
  p.connect();
  auto fresh = std::make_unique<Node>(2, 2);
  fresh->now = p.b.now + kSecond;
  p.a.now += kSecond;
  fresh->add(p.a);
  fresh->write(p.a, "i am back");
  const auto exchange = [&] {
    for (int i = 0; i < 4; i++) {
      while (!fresh->sent.empty()) {
        p.a.receive(fresh->sent.front().bytes, fresh->self);
        fresh->sent.pop_front();
      }
      while (!p.a.sent.empty()) {
        fresh->receive(p.a.sent.front().bytes, p.a.self);
        p.a.sent.pop_front();
      }
    }
  };
  exchange();
  CHECK(!p.a.inbox.empty() && starts_with(p.a.inbox.back(), "i am back"));
}

void sending_stops_before_the_counter_wraps() {
  Pair p;
  p.connect();
  Keypair& keypair = *p.a.peer().current.load();
  const uint64_t sent = keypair.sent();
  CHECK(keypair.take_counters(100, p.a.now).first == sent);
  CHECK(keypair.sent() == sent + 100);
  // Past 32 bits the numbers go on: nothing cuts them off.
  keypair.take_counters((uint64_t{1} << 32) - keypair.sent(), p.a.now);
  CHECK(keypair.take_counters(1, p.a.now).first == uint64_t{1} << 32);
  keypair.take_counters(kRejectAfterMessages - keypair.sent() - 3, p.a.now);
  const CounterRange last = keypair.take_counters(64, p.a.now);
  CHECK(last.count == 3 && last.first + last.count == kRejectAfterMessages);
  CHECK(keypair.take_counters(1, p.a.now).count == 0);
  // The key is used up: what is sent waits for a new one, and gets it.
  const Keypair* worn = p.a.peer().current.load();
  p.pass(6 * kSecond);
  p.a.write(p.b, "on a new key");
  p.deliver();
  CHECK(p.a.peer().current.load() != worn);
  CHECK(starts_with(p.b.inbox.back(), "on a new key"));
}

void a_low_order_public_key_never_completes_a_handshake() {
  Node a(1, 1);
  PeerSettings settings;  // the all-zero point
  settings.endpoint = endpoint(5);
  CHECK(a.table.set_peers({settings}, a.now, a));
  a.table.start_handshake(settings.public_key, a.now, a);
  CHECK(a.sent.empty());
}

/// The seven points of small order (RFC 7748 section 6.1), of which any shared secret is zero.
constexpr std::string_view kLowOrder[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
};

void every_low_order_point_is_refused_as_a_public_key_and_as_an_ephemeral() {
  for (const std::string_view point : kLowOrder) {
    Node a(1, 1);
    PeerSettings settings;
    settings.public_key = hex32(point);
    settings.endpoint = endpoint(5);
    CHECK(a.table.set_peers({settings}, a.now, a));
    a.table.start_handshake(settings.public_key, a.now, a);
    CHECK(a.sent.empty());

    Pair p;
    p.a.add(p.b);
    p.b.add(p.a, std::nullopt, false);
    p.a.write(p.b, "x");
    const auto resigned = [&](auto message, const Node& receiver) {
      message.ephemeral = hex32(point);
      message.mac1 = crypto::blake2s_mac(receiver.table.local().mac1_key, {before_mac1(message)});
      const auto* bytes = reinterpret_cast<const uint8_t*>(&message);
      return std::vector<uint8_t>(bytes, bytes + sizeof message);
    };
    const std::vector<uint8_t> initiation = p.a.sent.front().bytes;
    CHECK(p.b.receive(resigned(load<Initiation>(initiation.data()), p.b), p.a.self) ==
          Outcome::bad_handshake);
    CHECK(p.b.receive(initiation, p.a.self) == Outcome::accepted);
    const std::vector<uint8_t> response = p.b.sent.back().bytes;
    CHECK(p.a.receive(resigned(load<Response>(response.data()), p.a), p.b.self) == Outcome::bad_handshake);
    CHECK(p.a.receive(response, p.b.self) == Outcome::accepted);
  }
}

void the_source_address_is_kept_until_a_handshake_is_repeated() {
  Pair p;
  p.connect();
  Endpoint heard = p.b.self;
  heard.local.ip[15] = 42;  // what b's packet was sent to
  heard.local.interface = 3;
  p.b.write(p.a, "x");
  CHECK(p.a.receive(p.b.sent.front().bytes, heard) == Outcome::accepted);
  p.b.sent.clear();
  const auto source = [&p] { return p.a.sent.back().to.local.ip[15]; };
  p.a.write(p.b, "y");
  CHECK(source() == 42 && p.a.sent.back().to.local.interface == 3);
  // Nothing comes back: the first attempt still goes out as before, the next ones as routing wants.
  p.advance(kSecond);
  p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
  CHECK(p.a.sent.back().bytes[0] == kInitiationType && source() == 42);
  p.a.now += kRekeyTimeout + kRekeyTimeoutJitter;
  p.a.tick();
  CHECK(p.a.sent.back().bytes[0] == kInitiationType && source() == 0);
  CHECK(p.a.sent.back().to.local.interface == 0);
}

void an_initiation_must_be_later_than_the_last_one() {
  Pair p;
  p.a.add(p.b);
  p.b.add(p.a, std::nullopt, false);
  p.a.write(p.b, "x");
  const std::vector<uint8_t> first = p.a.sent.back().bytes;
  p.a.now += 6 * kSecond;
  p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
  const std::vector<uint8_t> second = p.a.sent.back().bytes;
  CHECK(p.b.receive(second, p.a.self) == Outcome::accepted);
  p.advance(kSecond);
  // The earlier one was never seen, and comes too late.
  CHECK(p.b.receive(first, p.a.self) == Outcome::replayed_initiation);
  CHECK(p.b.receive(second, p.a.self) == Outcome::replayed_initiation);
}

void previous_current_and_next_keys_are_kept_over_a_renewal() {
  Pair p;
  p.connect();
  p.a.write(p.b, "under the old key");
  const std::vector<uint8_t> late = p.a.sent.front().bytes;
  p.a.sent.clear();
  p.advance(kSecond);
  p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
  CHECK(p.b.receive(p.a.sent.front().bytes, p.a.self) == Outcome::accepted);
  p.a.sent.clear();
  // The responder holds the new key back, and goes on with the one it has.
  CHECK(p.b.peer().next.load() != nullptr && p.b.peer().current.load() != nullptr);
  p.b.write(p.a, "still on the old one");
  const std::vector<uint8_t> response = p.b.sent.front().bytes;
  CHECK(p.a.receive(p.b.sent.back().bytes, p.b.self) == Outcome::accepted);
  CHECK(p.a.receive(response, p.b.self) == Outcome::accepted);
  CHECK(p.a.sent.size() == 1 && p.a.sent.front().bytes.size() == 32);  // confirmed at once
  CHECK(p.b.receive(p.a.sent.front().bytes, p.a.self) == Outcome::accepted);
  CHECK(p.b.peer().next.load() == nullptr && p.b.peer().previous.load() != nullptr);
  CHECK(p.b.receive(late, p.a.self) == Outcome::accepted);
  CHECK(starts_with(p.b.inbox.back(), "under the old key"));
}

/// One handshake follows another before the packets under the keys of before have arrived.
void nothing_under_way_is_lost_by_the_next_handshake() {
  Pair p;
  p.connect();
  p.advance(kSecond);
  const auto sent_by = [](Node& node) { return std::exchange(node.sent, {}); };
  p.b.table.start_handshake(p.a.table.local().public_key, p.b.now, p.b);
  CHECK(p.a.receive(sent_by(p.b).front().bytes, p.b.self) == Outcome::accepted);
  CHECK(p.b.receive(sent_by(p.a).front().bytes, p.a.self) == Outcome::accepted);
  const std::vector<uint8_t> of_b = sent_by(p.b).front().bytes;  // under the new keys
  p.a.write(p.b, "under the old keys");
  const std::vector<uint8_t> of_a = sent_by(p.a).front().bytes;
  p.a.table.start_handshake(p.b.table.local().public_key, p.a.now, p.a);
  CHECK(p.b.receive(sent_by(p.a).front().bytes, p.a.self) == Outcome::accepted);
  CHECK(p.b.receive(of_a, p.a.self) == Outcome::accepted);
  CHECK(p.a.receive(sent_by(p.b).front().bytes, p.b.self) == Outcome::accepted);
  p.deliver();
  const uint32_t newest = p.a.peer().current.load()->local_index;
  CHECK(p.a.receive(of_b, p.b.self) == Outcome::accepted);
  CHECK(p.a.peer().current.load()->local_index == newest);  // not back to the keys between
  CHECK(p.b.peer().current.load()->remote_index == newest);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(blake2s_matches_its_published_vectors);
  RUN(the_initial_hash_values_are_wireguards);
  RUN(a_handshake_carries_the_staged_packet_and_the_answer);
  RUN(the_responder_does_not_send_on_a_key_it_has_not_received_on);
  RUN(a_wrong_preshared_key_completes_no_handshake);
  RUN(handshakes_have_their_own_traffic_class_and_packets_the_ecn_of_what_is_inside);
  RUN(padding_stops_at_the_inner_mtu);
  RUN(a_replayed_packet_is_dropped_and_does_not_move_the_endpoint);
  RUN(an_authentic_packet_from_elsewhere_moves_the_endpoint);
  RUN(a_peer_that_moves_with_every_packet_is_told_of_four_times_a_second_and_where_it_is_at_last);
  RUN(a_flipped_bit_anywhere_opens_nothing);
  RUN(a_flipped_bit_in_an_initiation_is_refused_without_an_answer);
  RUN(a_replayed_initiation_is_refused);
  RUN(initiations_of_one_peer_are_consumed_at_most_fifty_a_second);
  RUN(a_stranger_gets_silence);
  RUN(at_most_128_packets_are_staged_and_the_oldest_go_first);
  RUN(simultaneous_initiations_end_in_one_working_session);
  RUN(a_restarted_peer_is_reached_again);
  RUN(sending_stops_before_the_counter_wraps);
  RUN(a_low_order_public_key_never_completes_a_handshake);
  RUN(every_low_order_point_is_refused_as_a_public_key_and_as_an_ephemeral);
  RUN(the_source_address_is_kept_until_a_handshake_is_repeated);
  RUN(an_initiation_must_be_later_than_the_last_one);
  RUN(previous_current_and_next_keys_are_kept_over_a_renewal);
  RUN(nothing_under_way_is_lost_by_the_next_handshake);
  return omerta::check::finish();
}
