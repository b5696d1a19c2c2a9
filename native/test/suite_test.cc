// SPDX-License-Identifier: Apache-2.0
// Suites: how a session gets its second keypair, and that nothing that goes wrong on the way costs a
// packet (docs/protocol.md, "Suites").
#include "session/suite_offer.h"

#include <sodium.h>

#include <set>

#include "check.h"
#include "session_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session;
using namespace omerta::session_test;
using crypto::Suite;

constexpr uint8_t kChachaOnly = suite_bit(Suite::chacha20_poly1305);
constexpr uint8_t kBoth = kChachaOnly | suite_bit(Suite::aes_256_gcm);
/// Data of these tests is longer than that, so that a message of this size is a suite frame.
constexpr size_t kSuiteMessage = kTransportOverhead + kSuiteFrameSize;

bool is_suite_message(const std::vector<uint8_t>& bytes) {
  return bytes[0] == kTransportType && bytes.size() == kSuiteMessage;
}

/// A session and numbered data in both directions.
struct Traffic : Pair {
  Traffic(uint8_t suites_of_a, uint8_t suites_of_b, size_t window = kWideWindow)
      : Pair(suites_of_a, suites_of_b, window) {
    connect();
    a.inbox.clear();
    b.inbox.clear();
  }
  static std::string numbered(int n) { return "data number " + std::to_string(1000000 + n); }
  /// One packet each way; they stay on the wire until somebody delivers.
  void write_both() {
    a.write(b, numbered(written));
    b.write(a, numbered(written));
    written++;
  }
  void burst(int packets) {
    for (int i = 0; i < packets; i++) {
      write_both();
      deliver();
    }
  }
  /// Every packet arrived once, and nothing else did.
  bool complete(const Node& node) const {
    std::multiset<std::string> seen;
    for (const std::string& text : node.inbox) seen.insert(text.substr(0, numbered(0).size()));
    for (int i = 0; i < written; i++)
      if (seen.count(numbered(i)) != 1) return false;
    return seen.size() == static_cast<size_t>(written);
  }
  bool complete() const { return complete(a) && complete(b); }
  static Keypair& first(Node& node) { return *node.peer().current.load(); }
  static Suite suite(Node& node) { return node.peer().sending()->suite(); }
  bool settled() { return first(a).negotiation.settled && first(b).negotiation.settled; }

  int written = 0;
};

void both_sides_switch_within_a_running_transfer_and_no_packet_is_lost() {
  Traffic t(kBoth, kBoth);
  t.burst(100);
  CHECK(t.settled() && t.complete());
  CHECK(Traffic::suite(t.a) == Suite::aes_256_gcm && Traffic::suite(t.b) == Suite::aes_256_gcm);
  for (Node* node : {&t.a, &t.b}) {
    CHECK(node->count(SuiteStep::settled) == 1 && node->count(SuiteStep::given_up) == 0);
    CHECK(node->malformed == 0);
  }
  t.a.write(t.b, "under the second pair");
  CHECK(load<uint32_t>(t.a.sent.front().bytes.data() + 4) ==
        Traffic::first(t.b).negotiation.keypair->local_index);
}

void packets_delayed_and_reordered_around_the_switch_all_arrive() {
  for (int round = 0; round < 50; round++) {
    Traffic t(kBoth, kBoth);
    for (int i = 0; i < 400; i++) {
      t.write_both();
      // Each wire holds up to 40 messages and lets them go in any order.
      for (auto [from, to] : {std::pair{&t.a, &t.b}, std::pair{&t.b, &t.a}})
        while (from->sent.size() > randombytes_uniform(40)) {
          const size_t pick = randombytes_uniform(static_cast<uint32_t>(from->sent.size()));
          const std::vector<uint8_t> bytes = from->sent[pick].bytes;
          from->sent.erase(from->sent.begin() + static_cast<std::ptrdiff_t>(pick));
          to->receive(bytes, from->self);
        }
    }
    t.deliver();
    CHECK(t.settled() && t.complete());
  }
}

void offers_that_cross_end_in_one_second_pair_on_each_side() {
  Traffic t(kBoth, kBoth);
  for (int i = 0; i < 40; i++) t.write_both();  // both have offered before either heard anything
  CHECK(t.a.count(SuiteStep::offered) == 1 && t.b.count(SuiteStep::offered) == 1);
  t.deliver();
  t.burst(2);
  CHECK(t.settled() && t.complete());
}

void a_side_that_is_pinned_off_keeps_the_session_as_it_was() {
  for (const bool pinned_a : {true, false}) {
    Traffic t(pinned_a ? 0 : kBoth, pinned_a ? kBoth : 0);
    for (int second = 0; second < 10; second++) {
      t.burst(50);
      t.pass(kSecond);
    }
    Node& offering = pinned_a ? t.b : t.a;
    Node& pinned = pinned_a ? t.a : t.b;
    CHECK(t.complete());
    CHECK(Traffic::suite(t.a) == Suite::chacha20_poly1305 && Traffic::suite(t.b) == Suite::chacha20_poly1305);
    CHECK(offering.count(SuiteStep::offered) == kOffersPerSession);
    CHECK(offering.count(SuiteStep::given_up) == 1);
    CHECK(pinned.count(SuiteStep::offered) == 0 && pinned.count(SuiteStep::offer_received) == 0);
  }
}

void without_aes_on_one_side_the_window_widens_under_new_chacha_keys() {
  Traffic t(kBoth, kChachaOnly);
  t.burst(50);
  CHECK(t.settled() && t.complete());
  CHECK(Traffic::suite(t.a) == Suite::chacha20_poly1305 && Traffic::suite(t.b) == Suite::chacha20_poly1305);
  CHECK(t.a.peer().sending() != &Traffic::first(t.a));
  CHECK(t.a.peer().sending()->window() == kWideWindow);
  CHECK(Traffic::first(t.a).window() == kStandardWindow);
}

void whichever_suite_frames_get_lost_no_packet_does() {
  // Loses the suite frames whose bit is set in a pattern, one after another, and then none.
  for (uint32_t pattern = 0; pattern < 256; pattern++) {
    Traffic t(kBoth, kBoth);
    int seen = 0;
    t.loses = [&](const Node&, const std::vector<uint8_t>& bytes) {
      return is_suite_message(bytes) && seen < 8 && (pattern >> seen++ & 1) != 0;
    };
    for (int i = 0; i < 6; i++) {
      t.burst(20);
      t.pass(kSecond);
    }
    t.burst(20);
    CHECK(t.complete());
    // Three offers of each side are the first six frames as long as none arrives.
    CHECK(t.settled() == ((pattern & 63) != 63));
  }
}

void when_nothing_under_the_second_keys_arrives_the_session_stays_in_its_first() {
  for (const bool both_ways : {true, false}) {
    Traffic t(kBoth, kBoth);
    const uint32_t index_of_a = Traffic::first(t.a).local_index;
    const uint32_t index_of_b = Traffic::first(t.b).local_index;
    int lost = 0;
    t.loses = [&](const Node& from, const std::vector<uint8_t>& bytes) {
      if (bytes[0] != kTransportType || (!both_ways && &from == &t.b)) return false;
      const uint32_t index = load<uint32_t>(bytes.data() + 4);
      const bool second = index != index_of_a && index != index_of_b;
      lost += second ? 1 : 0;
      return second;
    };
    for (int i = 0; i < 20; i++) {
      t.burst(20);
      t.pass(kSecond);
    }
    CHECK(t.complete());
    CHECK(!Traffic::first(t.a).negotiation.settled && !Traffic::first(t.b).negotiation.settled);
    CHECK(t.a.count(SuiteStep::given_up) == 1 && t.b.count(SuiteStep::given_up) == 1);
    CHECK(lost > 0 && lost <= 3 * kSuiteRepeats);
  }
}

void what_arrives_after_the_repeating_ended_is_still_taken() {
  Traffic t(kBoth, kBoth);
  std::vector<std::vector<uint8_t>> late;
  t.loses = [&](const Node& from, const std::vector<uint8_t>& bytes) {
    if (!is_suite_message(bytes)) return false;
    if (&from == &t.a) late.push_back(bytes);
    return true;
  };
  for (int i = 0; i < 12; i++) {
    t.burst(20);
    t.pass(kSecond);
  }
  CHECK(t.a.count(SuiteStep::given_up) == 1 && !late.empty());
  t.loses = nullptr;
  t.b.receive(late.front(), t.a.self);
  t.deliver();
  t.burst(20);
  CHECK(t.settled() && t.complete());
}

void a_restarted_side_negotiates_again_in_its_new_session() {
  Traffic t(kBoth, kBoth);
  t.burst(50);
  Node fresh(2, 2, kBoth, kWideWindow);
  fresh.now = t.b.now + kSecond;
  t.a.now = fresh.now;
  fresh.add(t.a);
  const auto exchange = [&] {
    for (int i = 0; i < 12; i++)
      for (auto [from, to] : {std::pair{&fresh, &t.a}, std::pair{&t.a, &fresh}})
        while (!from->sent.empty()) {
          const std::vector<uint8_t> bytes = from->sent.front().bytes;
          from->sent.pop_front();
          to->receive(bytes, from->self);
        }
  };
  t.a.sent.clear();
  t.a.inbox.clear();
  for (int i = 0; i < 60; i++) {
    fresh.write(t.a, Traffic::numbered(i));
    exchange();
  }
  CHECK(t.a.inbox.size() == 60);
  CHECK(Traffic::suite(fresh) == Suite::aes_256_gcm && Traffic::suite(t.a) == Suite::aes_256_gcm);
}

void a_renewed_session_starts_in_chacha_and_negotiates_again_without_loss() {
  Traffic t(kBoth, kBoth);
  t.burst(50);
  const Keypair* before = &Traffic::first(t.a);
  std::set<uint32_t> second_indices{before->negotiation.keypair->local_index};
  bool chacha_again = false;
  for (int i = 0; i < 130; i++) {
    t.pass(kSecond);
    for (int packet = 0; packet < 50; packet++) {
      t.write_both();
      t.deliver();
      chacha_again |= &Traffic::first(t.a) != before && Traffic::suite(t.a) == Suite::chacha20_poly1305;
    }
  }
  CHECK(t.complete() && chacha_again);
  CHECK(&Traffic::first(t.a) != before && t.settled());
  CHECK(Traffic::suite(t.a) == Suite::aes_256_gcm && Traffic::suite(t.b) == Suite::aes_256_gcm);
  CHECK(!second_indices.contains(Traffic::first(t.a).negotiation.keypair->local_index));
}

/// Like WireGuard's own implementations: authenticated, counted as data received, dropped.
void a_stock_peer_gets_three_offers_a_session_at_most_and_its_timers_run_as_without() {
  struct Heard {
    int keepalives, handshakes, offers, data;
    bool operator==(const Heard&) const = default;
  };
  const auto run = [](uint8_t suites) {
    Traffic t(suites, 0);
    t.b.knows_suites = false;
    t.b.inbox.clear();
    Heard heard{};
    t.loses = [&](const Node& from, const std::vector<uint8_t>& bytes) {
      heard.handshakes += bytes[0] != kTransportType ? 1 : 0;
      heard.keepalives += &from == &t.b && bytes.size() == kTransportOverhead ? 1 : 0;
      return false;
    };
    // Bursts that nobody answers, silence, an answer now and then; over two renewals.
    for (int i = 0; i < 260; i++) {
      t.pass(kSecond);
      if (i % 40 < 3)
        for (int packet = 0; packet < 60; packet++) {
          t.a.write(t.b, Traffic::numbered(t.written++));
          t.deliver();
        }
      if (i % 40 == 25) t.b.write(t.a, Traffic::numbered(0));
    }
    for (const std::string& text : t.b.inbox) (text[0] == '\xC0' ? heard.offers : heard.data)++;
    CHECK(t.a.established >= 2);
    CHECK(heard.offers <= kOffersPerSession * t.a.established);
    CHECK(Traffic::suite(t.a) == Suite::chacha20_poly1305);
    return heard;
  };
  const Heard without = run(0);
  Heard with = run(kBoth);
  CHECK(without.offers == 0 && with.offers >= 3);
  with.offers = 0;
  CHECK(with == without);
}

void a_session_without_a_burst_is_never_offered_anything() {
  Traffic t(kBoth, kBoth);
  for (int i = 0; i < 1000; i++) {
    t.advance(2 * kMillisecond);
    t.a.write(t.b, Traffic::numbered(i));
    t.deliver();
  }
  CHECK(t.b.inbox.size() == 1000);
  CHECK(t.a.count(SuiteStep::offered) == 0);
  CHECK(Traffic::first(t.a).negotiation.keypair == nullptr);
}

void a_wide_window_takes_a_packet_60000_behind_once() {
  Traffic t(kBoth, kBoth);
  t.burst(50);
  t.a.write(t.b, "held back on a slower path");
  const std::vector<uint8_t> late = t.a.sent.front().bytes;
  t.a.sent.clear();
  CHECK(t.a.peer().sending()->take_counters(60000, t.a.now).count == 60000);
  t.a.write(t.b, "on the faster path by now");
  t.deliver();
  CHECK(t.b.receive(late, t.a.self) == Outcome::accepted);
  CHECK(t.b.receive(late, t.a.self) == Outcome::replayed_initiation);

  Traffic narrow(0, 0);  // what the same packet meets in a session as WireGuard has it
  narrow.a.write(narrow.b, "held back on a slower path");
  const std::vector<uint8_t> too_late = narrow.a.sent.front().bytes;
  narrow.a.sent.clear();
  CHECK(narrow.a.peer().sending()->take_counters(60000, narrow.a.now).count == 60000);
  narrow.a.write(narrow.b, "on the faster path by now");
  narrow.deliver();
  CHECK(narrow.b.receive(too_late, narrow.a.self) == Outcome::replayed_initiation);
}

void a_replay_under_the_second_keys_is_dropped_and_does_not_move_the_endpoint() {
  Traffic t(kBoth, kBoth);
  t.burst(50);
  t.a.write(t.b, "once under the second keys");
  const std::vector<uint8_t> packet = t.a.sent.front().bytes;
  t.deliver();
  CHECK(t.b.receive(packet, endpoint(66)) == Outcome::replayed_initiation);
  CHECK(t.b.peer().endpoint().same_path(t.a.self));
  std::vector<uint8_t> changed = packet;
  changed[20] ^= 1;
  store<uint64_t>(changed.data() + 8, load<uint64_t>(packet.data() + 8) + 1);
  CHECK(t.b.receive(changed, endpoint(66)) == Outcome::bad_handshake);
}

void the_keys_of_a_session_all_differ_and_fit_crosswise() {
  Traffic t(kBoth, kBoth);
  t.burst(50);
  const Keypair& a1 = Traffic::first(t.a);
  const Keypair& a2 = *a1.negotiation.keypair;
  const Keypair& b1 = Traffic::first(t.b);
  const Keypair& b2 = *b1.negotiation.keypair;
  std::set<Key32> all{a1.send_key.bytes, a1.receive_key.bytes, a2.send_key.bytes, a2.receive_key.bytes};
  CHECK(all.size() == 4);
  CHECK(a2.send_key.bytes == b2.receive_key.bytes && a2.receive_key.bytes == b2.send_key.bytes);
  CHECK(a2.send_key.id != a1.send_key.id);
  CHECK(is_zero(a1.suite_secret) && is_zero(b1.suite_secret));  // used once, then wiped
}

void other_words_give_other_keys() {
  const Key32 secret = Node::key(7);
  const SuiteOffer i{kBoth, 5, kWideWindow};
  const SuiteOffer r{kBoth, 6, kWideWindow};
  std::set<Key32> keys;
  const auto add = [&](Suite suite, const SuiteOffer& a, const SuiteOffer& b) {
    const TransportKeys made = derive_suite_keys(secret, suite, a, b, true);
    const TransportKeys across = derive_suite_keys(secret, suite, a, b, false);
    CHECK(made.send == across.receive && made.receive == across.send);
    keys.insert(made.send);
    keys.insert(made.receive);
  };
  add(Suite::aes_256_gcm, i, r);
  add(Suite::chacha20_poly1305, i, r);
  add(Suite::aes_256_gcm, r, i);
  add(Suite::aes_256_gcm, {kChachaOnly, 5, kWideWindow}, r);
  add(Suite::aes_256_gcm, {kBoth, 7, kWideWindow}, r);
  add(Suite::aes_256_gcm, i, {kBoth, 6, kStandardWindow});
  CHECK(keys.size() == 12);
}

void aes_gcm_asks_for_a_new_key_at_2_34_blocks_and_is_not_used_beyond_2_35() {
  Traffic t(kBoth, kBoth);
  t.burst(50);
  Keypair& second = *t.b.peer().sending();
  CHECK(second.suite() == Suite::aes_256_gcm);
  t.advance(10 * kSecond);
  const uint64_t initiations = t.b.table.initiations_sent();
  t.b.table.data_sent(second, kRekeyAfterGcmBytes - (1u << 20), t.b.now, t.b);
  CHECK(t.b.table.initiations_sent() == initiations);
  t.b.table.data_sent(second, 1u << 20, t.b.now, t.b);
  CHECK(t.b.table.initiations_sent() == initiations + 1);
  CHECK(Traffic::suite(t.b) == Suite::aes_256_gcm);
  t.b.table.data_sent(second, kRejectAfterGcmBytes - kRekeyAfterGcmBytes, t.b.now, t.b);
  CHECK(Traffic::suite(t.b) == Suite::chacha20_poly1305);  // the initiation was not answered: go on
  t.b.sent.clear();
  t.a.inbox.clear();
  t.b.write(t.a, "on the first keys, and it arrives");
  t.deliver();
  CHECK(t.a.inbox.size() == 1);
}

void an_authentic_peer_can_make_the_slow_path_work_64_times_a_session() {
  Traffic t(kBoth, kBoth);
  const SuiteFrame offer = encode_offer({kBoth, 0x1234567, kWideWindow}, false);
  const Key32 key_of_b = t.b.table.local().public_key;
  size_t answers = 0;
  for (int i = 0; i < 1000; i++) {
    t.a.now += 2 * kMillisecond;  // no burst: a offers nothing itself
    CHECK(t.a.table.send_inside(key_of_b, offer, t.a.now, t.a));
    const size_t size = t.a.sent.back().bytes.size();
    t.b.receive(t.a.sent.back().bytes, t.a.self);
    for (const Sent& answer : t.b.sent) CHECK(answer.bytes.size() <= size);
    answers += t.b.sent.size();
    t.a.sent.clear();
    t.b.sent.clear();
  }
  CHECK(answers == kSuiteFramesPerSession);
}

void what_was_said_once_cannot_be_changed_in_the_same_session() {
  Traffic t(kBoth, kBoth);
  const Key32 key_of_b = t.b.table.local().public_key;
  const auto say = [&](const SuiteFrame& frame) {
    t.a.now += 2 * kMillisecond;
    CHECK(t.a.table.send_inside(key_of_b, frame, t.a.now, t.a));
    t.b.receive(t.a.sent.back().bytes, t.a.self);
    t.a.sent.clear();
  };
  say(encode_offer({kBoth, 0x1234567, kWideWindow}, false));
  CHECK(Traffic::first(t.b).negotiation.keypair->remote_index == 0x1234567);
  CHECK(t.b.sent.size() == 1);
  t.b.sent.clear();
  say(encode_offer({kBoth, 0x7654321, kWideWindow}, false));
  say(encode_offer({kChachaOnly, 0x1234567, kWideWindow}, false));
  CHECK(t.b.sent.empty());
  CHECK(Traffic::first(t.b).negotiation.keypair->remote_index == 0x1234567);
  CHECK(Traffic::first(t.b).negotiation.keypair->suite() == Suite::aes_256_gcm);
}

void no_suite_in_common_is_no_answer() {
  Traffic t(kBoth, kBoth);
  t.a.now += 2 * kMillisecond;
  CHECK(t.a.table.send_inside(t.b.table.local().public_key, encode_offer({0xF0, 9, kWideWindow}, false),
                              t.a.now, t.a));
  t.b.receive(t.a.sent.back().bytes, t.a.self);
  CHECK(t.b.sent.empty() && Traffic::first(t.b).negotiation.keypair == nullptr);
  CHECK(common_suite(0xFF, kChachaOnly) == Suite::chacha20_poly1305);  // unknown bits mean nothing
  CHECK(common_suite(0xFF, kBoth) == Suite::aes_256_gcm);
}

void malformed_suite_frames_are_refused() {
  const SuiteFrame offer = encode_offer({kBoth, 5, kWideWindow}, true);
  CHECK(decode_offer(offer)->offer == (SuiteOffer{kBoth, 5, kWideWindow}) && decode_offer(offer)->have);
  CHECK(decode_proof(encode_proof(ProofState::opened)) == ProofState::opened);
  const auto changed = [](SuiteFrame frame, size_t at, uint8_t value) {
    frame[at] = value;
    return frame;
  };
  for (const auto& [at, value] : {std::pair<size_t, uint8_t>{0, 0xC1},
                                  {1, 3},
                                  {2, 11},
                                  {3, 1},
                                  {5, 2},
                                  {6, 1},
                                  {7, 1},
                                  {8, 0} /* index 0 */,
                                  {13, 0} /* window below 8,128 */})
    CHECK(!decode_offer(changed(encode_offer({kBoth, 5, 8200}, false), at, value)).has_value());
  CHECK(!decode_offer(Bytes(offer).first(15)).has_value());
  const SuiteFrame proof = encode_proof(ProofState::made);
  for (size_t at = 5; at < 16; at++) CHECK(!decode_proof(changed(proof, at, 1)).has_value());
  CHECK(!decode_proof(changed(proof, 4, 3)).has_value());
  std::vector<uint8_t> longer(32, 0);
  std::copy(offer.begin(), offer.end(), longer.begin());
  CHECK(!decode_offer(longer).has_value() && !decode_proof(longer).has_value());

  Traffic t(kBoth, kBoth);
  t.a.write(t.b, std::string_view("\xC0\x04\x0C\x00 and more than fits", 20));
  t.deliver();
  CHECK(t.b.malformed == 1 && t.b.inbox.empty());
}

void a_proof_under_the_first_keys_and_an_offer_under_the_second_change_nothing() {
  Traffic t(kBoth, kBoth);
  const Key32 key_of_b = t.b.table.local().public_key;
  t.a.now += 2 * kMillisecond;
  t.a.table.send_inside(key_of_b, encode_proof(ProofState::opened), t.a.now, t.a);
  t.deliver();
  CHECK(!Traffic::first(t.b).negotiation.settled && t.b.sent.empty());
  t.burst(50);
  t.a.table.send_inside(key_of_b, encode_offer({kBoth, 77, kWideWindow}, false), t.a.now, t.a);
  const size_t received = static_cast<size_t>(t.b.count(SuiteStep::offer_received));
  t.deliver();
  CHECK(static_cast<size_t>(t.b.count(SuiteStep::offer_received)) == received);
  t.burst(10);
  CHECK(t.settled() && t.complete());
}

void an_ended_session_gives_both_its_indices_back() {
  Traffic t(kBoth, kBoth);
  t.burst(50);
  const uint32_t index1 = Traffic::first(t.b).local_index;
  const uint32_t index2 = Traffic::first(t.b).negotiation.keypair->local_index;
  CHECK(t.b.table.find(index1) != nullptr && t.b.table.find(index2) != nullptr);
  t.advance(kZeroKeysTime + kSecond);
  t.b.tick();
  CHECK(t.b.table.find(index1) == nullptr && t.b.table.find(index2) == nullptr);
  t.b.table.remove_peers({t.a.table.local().public_key});
  t.b.table.reclaim();
  CHECK(t.b.table.size() == 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(both_sides_switch_within_a_running_transfer_and_no_packet_is_lost);
  RUN(packets_delayed_and_reordered_around_the_switch_all_arrive);
  RUN(offers_that_cross_end_in_one_second_pair_on_each_side);
  RUN(a_side_that_is_pinned_off_keeps_the_session_as_it_was);
  RUN(without_aes_on_one_side_the_window_widens_under_new_chacha_keys);
  RUN(whichever_suite_frames_get_lost_no_packet_does);
  RUN(when_nothing_under_the_second_keys_arrives_the_session_stays_in_its_first);
  RUN(what_arrives_after_the_repeating_ended_is_still_taken);
  RUN(a_restarted_side_negotiates_again_in_its_new_session);
  RUN(a_renewed_session_starts_in_chacha_and_negotiates_again_without_loss);
  RUN(a_stock_peer_gets_three_offers_a_session_at_most_and_its_timers_run_as_without);
  RUN(a_session_without_a_burst_is_never_offered_anything);
  RUN(a_wide_window_takes_a_packet_60000_behind_once);
  RUN(a_replay_under_the_second_keys_is_dropped_and_does_not_move_the_endpoint);
  RUN(the_keys_of_a_session_all_differ_and_fit_crosswise);
  RUN(other_words_give_other_keys);
  RUN(aes_gcm_asks_for_a_new_key_at_2_34_blocks_and_is_not_used_beyond_2_35);
  RUN(an_authentic_peer_can_make_the_slow_path_work_64_times_a_session);
  RUN(what_was_said_once_cannot_be_changed_in_the_same_session);
  RUN(no_suite_in_common_is_no_answer);
  RUN(malformed_suite_frames_are_refused);
  RUN(a_proof_under_the_first_keys_and_an_offer_under_the_second_change_nothing);
  RUN(an_ended_session_gives_both_its_indices_back);
  return omerta::check::finish();
}
