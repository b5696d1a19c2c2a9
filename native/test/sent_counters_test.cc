// SPDX-License-Identifier: Apache-2.0
#include "relay/sent_counters.h"

#include <atomic>
#include <thread>

#include "check.h"

namespace {

using omerta::relay::SentCounters;

void counts_of_a_leg_begin_at_zero_and_end_with_it() {
  SentCounters sent(4);
  CHECK(!sent.read(7).has_value());
  sent.add(7, 1, 100);  // nobody counts for it yet
  sent.open(7);
  sent.add(7, 2, 300);
  sent.open(7);  // installed again: it goes on
  sent.add(7, 1, 50);
  CHECK(sent.read(7).has_value() && sent.read(7)->packets == 3 && sent.read(7)->bytes == 350);
  sent.close(7);
  CHECK(!sent.read(7).has_value());
  sent.open(7);
  CHECK(sent.read(7)->packets == 0);
  CHECK(!sent.read(0).has_value());
}

void more_legs_than_there_is_room_for_are_not_counted() {
  SentCounters sent(2);
  for (uint32_t leg = 1; leg <= 3; leg++) sent.open(leg);
  CHECK(sent.read(1).has_value() && sent.read(2).has_value() && !sent.read(3).has_value());
  sent.add(3, 1, 1);
  sent.close(3);
  sent.close(1);
  sent.open(3);
  CHECK(sent.read(3).has_value());
}

void counting_goes_on_while_legs_come_and_go() {
  SentCounters sent(64);
  sent.open(1);
  sent.open(0xffffffff);
  std::atomic<bool> stop = false;
  constexpr uint64_t kEach = 200000;
  std::thread workers[2];
  for (auto& worker : workers)
    worker = std::thread([&] {
      for (uint64_t i = 0; i < kEach; i++) sent.add(1, 1, 10);
    });
  std::thread control([&] {
    for (uint32_t i = 0; !stop; i++) {
      sent.open(2 + i % 60);
      sent.close(2 + (i + 30) % 60);
    }
  });
  for (auto& worker : workers) worker.join();
  stop = true;
  control.join();
  CHECK(sent.read(1)->packets == 2 * kEach && sent.read(1)->bytes == 20 * kEach);
  CHECK(sent.read(0xffffffff)->packets == 0);
}

}  // namespace

int main() {
  RUN(counts_of_a_leg_begin_at_zero_and_end_with_it);
  RUN(more_legs_than_there_is_room_for_are_not_counted);
  RUN(counting_goes_on_while_legs_come_and_go);
  return omerta::check::finish();
}
