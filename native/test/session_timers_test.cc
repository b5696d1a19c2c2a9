// SPDX-License-Identifier: Apache-2.0
// What a session does by itself as time passes: retries, renewals, keepalives, the end of keys, and the heap
// its deadlines are kept in. Named after the rule each test holds (docs/wireguard.md).
#include <sodium.h>

#include "check.h"
#include "session_pair.h"

namespace {

using namespace omerta;
using namespace omerta::session;
using namespace omerta::session_test;

void an_unanswered_initiation_is_retried_with_jitter_and_given_up_after_90_s() {
  Node a(1, 1);
  Node b(2, 2);
  a.add(b);
  a.write(b, "x");
  std::vector<Nanoseconds> times{a.now};
  size_t seen = a.sent.size();
  const Nanoseconds start = a.now;
  while (a.lost == 0 && a.now - start < 200 * kSecond) {
    a.now += 10 * kMillisecond;
    a.tick();
    if (a.sent.size() != seen) times.push_back(a.now);
    seen = a.sent.size();
  }
  CHECK(a.lost == 1);
  CHECK(a.now - start >= kRekeyAttemptTime && a.now - start < kRekeyAttemptTime + 6 * kSecond);
  bool differs = false;
  for (size_t i = 2; i < times.size(); i++) {
    const Nanoseconds gap = times[i] - times[i - 1];
    CHECK(gap >= kRekeyTimeout && gap <= kRekeyTimeout + kRekeyTimeoutJitter + 20 * kMillisecond);
    differs |= gap != times[1] - times[0];
  }
  CHECK(times.size() >= 16 && differs);
  CHECK(a.peer().staged.empty());
}

void the_initiator_renews_the_key_after_120_s_of_use_and_data_keeps_flowing() {
  Pair p;
  p.connect();
  const Keypair* first = p.a.peer().current.load();
  p.pass(119 * kSecond);
  p.a.write(p.b, "before");
  p.deliver();
  CHECK(p.a.peer().current.load() == first);
  p.pass(2 * kSecond);
  p.a.write(p.b, "after");
  p.deliver();
  CHECK(p.a.peer().current.load() != first);
  p.a.write(p.b, "on the new key");
  p.deliver();
  CHECK(p.b.inbox.size() == 4);
}

void the_initiator_renews_on_receive_at_165_s() {
  Pair p;
  p.connect();
  const Keypair* first = p.a.peer().current.load();
  p.pass(166 * kSecond);
  CHECK(p.a.peer().current.load() == first);
  p.b.write(p.a, "from the responder only");
  p.deliver();
  CHECK(p.a.peer().current.load() != first);
}

void a_key_is_rejected_in_both_directions_after_180_s() {
  Pair p;
  p.connect();
  p.a.write(p.b, "kept back");
  const Sent packet = p.a.sent.front();
  p.a.sent.clear();
  p.advance(kRejectAfterTime);
  CHECK(p.b.receive(packet.bytes, p.a.self) == Outcome::unknown_index);
  CHECK(p.a.peer().current.load()->take_counters(1, p.a.now).count == 0);
}

void keys_are_wiped_after_540_s() {
  Pair p;
  p.connect();
  p.advance(kZeroKeysTime + kSecond);
  p.a.tick();
  CHECK(p.a.peer().current.load() == nullptr && p.a.peer().previous.load() == nullptr);
}

void a_passive_keepalive_answers_data_but_never_a_keepalive() {
  Pair p;
  p.connect();
  p.pass(kSecond);
  p.a.write(p.b, "data");
  p.deliver();
  const int before = p.a.keepalives;
  p.pass(8 * kSecond);  // the greeting was a second earlier, and the timer runs from it
  CHECK(p.a.keepalives == before);
  p.pass(2 * kSecond);
  CHECK(p.a.keepalives == before + 1);
  p.pass(60 * kSecond);
  CHECK(p.a.keepalives == before + 1);
  CHECK(p.b.keepalives <= 1);
}

void silence_for_15_s_after_data_starts_a_handshake() {
  Pair p;
  p.connect();
  p.pass(11 * kSecond);  // the greeting's own timer is answered by a keepalive
  p.a.write(p.b, "into the void");
  p.a.sent.clear();
  for (int i = 0; i < 149; i++) {
    p.a.now += 100 * kMillisecond;
    p.a.tick();
  }
  CHECK(p.a.sent.empty());
  for (int i = 0; i < 6; i++) {
    p.a.now += 100 * kMillisecond;
    p.a.tick();
  }
  CHECK(p.a.sent.size() == 1 && p.a.sent.front().bytes[0] == 1);
}

void a_persistent_keepalive_is_put_off_by_any_authenticated_packet() {
  Pair p;
  p.a.add(p.b, std::nullopt, true, 25 * kSecond);
  p.b.add(p.a, std::nullopt, false);
  p.pass(30 * kSecond);  // nothing was ever sent: the keepalive itself starts the session
  CHECK(p.b.established == 1);
  const int before = p.b.keepalives;
  p.pass(17 * kSecond);
  p.b.write(p.a, "traffic");
  p.deliver();
  p.pass(9 * kSecond);  // without the packet a keepalive would have been due by now
  CHECK(p.b.keepalives == before);
  p.pass(20 * kSecond);
  CHECK(p.b.keepalives > before);
}

void without_an_endpoint_a_path_is_asked_for_once_a_second() {
  Node a(1, 1);
  Node b(2, 2);
  a.add(b, std::nullopt, false);
  a.write(b, "x");
  for (int i = 0; i < 30; i++) {
    a.now += 100 * kMillisecond;
    a.tick();
  }
  CHECK(a.paths_needed >= 3 && a.paths_needed <= 5);
  CHECK(a.sent.empty());
  a.add(b);  // the endpoint becomes known: the handshake starts without waiting for a timer
  CHECK(a.sent.size() == 1);
}

void turning_on_the_persistent_keepalive_sends_one() {
  Pair p;
  p.connect();
  p.pass(kSecond);
  const int before = p.b.keepalives;
  p.a.add(p.b, std::nullopt, true, 3600 * kSecond);
  p.deliver();
  CHECK(p.b.keepalives == before + 1);
  p.a.add(p.b, std::nullopt, true, 1800 * kSecond);  // it was on already
  p.deliver();
  CHECK(p.b.keepalives == before + 1);
}

void turning_on_the_persistent_keepalive_without_a_session_starts_one() {
  Pair p;
  p.connect();
  p.pass(600 * kSecond);  // the keys are gone
  const int before = p.a.established;
  p.a.add(p.b, std::nullopt, true, 3600 * kSecond);
  p.deliver();
  CHECK(p.a.established == before + 1);
}

void the_first_persistent_keepalive_does_not_wait_for_the_machine_to_be_up_for_its_interval() {
  Pair p;
  p.a.now = p.b.now = 10 * kMillisecond;
  p.a.table.suspend();
  p.a.add(p.b, std::nullopt, true, 600 * kSecond);
  p.b.add(p.a, std::nullopt, false);
  p.a.table.resume(p.a.now);
  p.pass(200 * kMillisecond);
  CHECK(p.a.established == 1);
  p.a.table.suspend();
  p.pass(kSecond);
  p.a.table.resume(p.a.now);
  p.pass(200 * kMillisecond);
  CHECK(p.a.established == 2);
}

void a_short_persistent_keepalive_is_kept_whoever_started_the_session() {
  for (const bool responder : {false, true}) {
    Pair p;
    p.a.add(p.b);
    p.b.add(p.a, std::nullopt, false);
    if (responder) {
      p.b.add(p.a, std::nullopt, true, kSecond);
    } else {
      p.a.add(p.b, std::nullopt, true, kSecond);
    }
    p.a.write(p.b, "x");
    p.deliver();
    int& heard = responder ? p.a.keepalives : p.b.keepalives;
    const int before = heard;
    p.pass(10 * kSecond);
    CHECK(heard - before >= 9 && heard - before <= 11);
  }
}

/// The deadlines of a heap beside a list of them.
void the_timer_heap_agrees_with_a_linear_search() {
  struct Owner {
    Timer timer;
    std::optional<Nanoseconds> due;
  };
  std::vector<Owner> owners(200);
  TimerHeap<Owner> heap;
  Nanoseconds now = 0;
  for (int step = 0; step < 20'000; step++) {
    Owner& owner = owners[randombytes_uniform(static_cast<uint32_t>(owners.size()))];
    const uint32_t what = randombytes_uniform(10);
    if (what < 6) {
      owner.due = now + randombytes_uniform(500);
      heap.set(owner, *owner.due);
    } else if (what < 8) {
      owner.due.reset();
      heap.cancel(owner);
    } else {
      now += randombytes_uniform(50);
      Nanoseconds last = 0;
      while (Owner* due = heap.take_due(now)) {
        CHECK(due->due.has_value() && *due->due <= now && *due->due >= last);
        last = due->due.value_or(0);
        due->due.reset();
      }
      for (const Owner& each : owners) CHECK(!each.due.has_value() || *each.due > now);
    }
  }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(an_unanswered_initiation_is_retried_with_jitter_and_given_up_after_90_s);
  RUN(the_initiator_renews_the_key_after_120_s_of_use_and_data_keeps_flowing);
  RUN(the_initiator_renews_on_receive_at_165_s);
  RUN(a_key_is_rejected_in_both_directions_after_180_s);
  RUN(keys_are_wiped_after_540_s);
  RUN(a_passive_keepalive_answers_data_but_never_a_keepalive);
  RUN(silence_for_15_s_after_data_starts_a_handshake);
  RUN(a_persistent_keepalive_is_put_off_by_any_authenticated_packet);
  RUN(without_an_endpoint_a_path_is_asked_for_once_a_second);
  RUN(turning_on_the_persistent_keepalive_sends_one);
  RUN(turning_on_the_persistent_keepalive_without_a_session_starts_one);
  RUN(the_first_persistent_keepalive_does_not_wait_for_the_machine_to_be_up_for_its_interval);
  RUN(a_short_persistent_keepalive_is_kept_whoever_started_the_session);
  RUN(the_timer_heap_agrees_with_a_linear_search);
  return omerta::check::finish();
}
