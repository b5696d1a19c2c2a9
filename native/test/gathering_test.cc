// SPDX-License-Identifier: Apache-2.0
#include "udp/gathering.h"

#include "check.h"

namespace {

using namespace omerta;
using udp::Gathering;

constexpr Nanoseconds kRound = 100 * kMillisecond / 1000;

/// Rounds of 100 µs for `time`, in each of which the worker works for `worked` and gets `messages`.
bool after(Gathering& gathering, Nanoseconds& now, Nanoseconds time, Nanoseconds worked, size_t messages) {
  bool worth = false;
  for (const Nanoseconds end = now + time; now < end; now += kRound) {
    worth = gathering.worth(now);
    gathering.count(messages);
    gathering.worked(worked);
  }
  return worth;
}

void a_busy_worker_with_many_messages_pauses() {
  Gathering gathering;
  Nanoseconds now = kSecond;
  CHECK(!gathering.worth(now));
  CHECK(after(gathering, now, 5 * kMillisecond, kRound * 6 / 10, 20));
}

void a_worker_with_time_to_spare_does_not() {
  Gathering gathering;
  Nanoseconds now = kSecond;
  CHECK(!after(gathering, now, 5 * kMillisecond, kRound * 4 / 10, 20));
}

void few_messages_are_not_waited_for() {
  Gathering gathering;
  Nanoseconds now = kSecond;
  CHECK(!after(gathering, now, 5 * kMillisecond, kRound, 9));
}

void pausing_goes_on_while_it_makes_the_worker_less_busy() {
  Gathering gathering;
  Nanoseconds now = kSecond;
  CHECK(after(gathering, now, 5 * kMillisecond, kRound * 6 / 10, 20));
  CHECK(after(gathering, now, 5 * kMillisecond, kRound * 4 / 10, 20));
  CHECK(!after(gathering, now, 5 * kMillisecond, kRound * 3 / 10, 20));
}

void after_a_silence_it_begins_anew() {
  Gathering gathering;
  Nanoseconds now = kSecond;
  CHECK(after(gathering, now, 5 * kMillisecond, kRound * 6 / 10, 20));
  now += kSecond;
  CHECK(!gathering.worth(now));
}

}  // namespace

int main() {
  RUN(a_busy_worker_with_many_messages_pauses);
  RUN(a_worker_with_time_to_spare_does_not);
  RUN(few_messages_are_not_waited_for);
  RUN(pausing_goes_on_while_it_makes_the_worker_less_busy);
  RUN(after_a_silence_it_begins_anew);
  return omerta::check::finish();
}
