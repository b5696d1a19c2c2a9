// SPDX-License-Identifier: Apache-2.0
#include "relay/leg_refusals.h"

#include <thread>
#include <vector>

#include "check.h"

namespace {

using omerta::relay::LegRefusals;

void drops_are_counted_by_leg_until_the_leg_is_gone() {
  LegRefusals refusals(1000);
  for (uint32_t leg = 1; leg <= 100; leg++)
    for (uint32_t i = 0; i < leg; i++) refusals.add(leg);
  for (uint32_t leg = 1; leg <= 100; leg++) CHECK(refusals.of(leg) == leg);
  CHECK(refusals.of(101) == 0);
  refusals.forget(7);
  CHECK(refusals.of(7) == 0 && refusals.of(8) == 8);
  refusals.add(7);
  CHECK(refusals.of(7) == 1);
}

void more_legs_than_there_is_room_for_lose_counts_and_take_none() {
  LegRefusals refusals(64);
  for (uint32_t leg = 1; leg <= 5000; leg++) refusals.add(leg);
  uint32_t counted = 0;
  for (uint32_t leg = 1; leg <= 5000; leg++) {
    CHECK(refusals.of(leg) <= 1);
    counted += refusals.of(leg);
  }
  CHECK(counted == 64);
  for (uint32_t leg = 1; leg <= 5000; leg++) refusals.forget(leg);
  refusals.add(9999);
  CHECK(refusals.of(9999) == 1);
}

void workers_count_at_once_and_lose_nothing() {
  LegRefusals refusals(1000);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++)
    threads.emplace_back([&] {
      for (uint32_t i = 0; i < 40000; i++) refusals.add(1 + i % 8);
    });
  for (std::thread& thread : threads) thread.join();
  for (uint32_t leg = 1; leg <= 8; leg++) CHECK(refusals.of(leg) == 20000);
}

}  // namespace

int main() {
  RUN(drops_are_counted_by_leg_until_the_leg_is_gone);
  RUN(more_legs_than_there_is_room_for_lose_counts_and_take_none);
  RUN(workers_count_at_once_and_lose_nothing);
  return omerta::check::finish();
}
