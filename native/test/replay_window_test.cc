// SPDX-License-Identifier: Apache-2.0
// The replay window beside a set of all counters seen, and under several threads at once (the thread
// sanitizer build watches those).
#include "session/replay_window.h"

#include <algorithm>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "session/constants.h"

namespace {

using omerta::session::kRejectAfterMessages;
using omerta::session::ReplayWindow;

bool accept(ReplayWindow& window, uint64_t counter) { return window.accept(counter, kRejectAfterMessages); }

/// What RFC 6479 wants, without regard to cost.
class Model {
 public:
  explicit Model(uint64_t size) : size_(size) {}
  bool accept(uint64_t counter) {
    if (counter >= kRejectAfterMessages) return false;
    if (any_ && greatest_ >= counter && greatest_ - counter >= size_) return false;
    if (!seen_.insert(counter).second) return false;
    greatest_ = any_ ? std::max(greatest_, counter) : counter;
    any_ = true;
    return true;
  }
  uint64_t greatest() const { return greatest_; }

 private:
  const uint64_t size_;
  bool any_ = false;
  uint64_t greatest_ = 0;
  std::set<uint64_t> seen_;
};

void the_window_is_8128_packets_and_not_1024() {
  ReplayWindow window;
  CHECK(accept(window, 100'000));
  CHECK(accept(window, 100'000 - 1024));
  CHECK(accept(window, 100'000 - 8127));
  CHECK(!accept(window, 100'000 - 8127));
  CHECK(!accept(window, 100'000 - 8128));
}

void a_wider_window_is_as_wide_as_asked_for() {
  for (const uint64_t size : {uint64_t{1}, uint64_t{64}, uint64_t{8129}, uint64_t{65'536}}) {
    ReplayWindow window(size);
    CHECK(window.size() == size);
    CHECK(accept(window, 1'000'000));
    CHECK(accept(window, 1'000'000 - (size - 1)) == (size > 1));
    CHECK(!accept(window, 1'000'000 - size));
    CHECK(accept(window, 1'000'001));
  }
}

void the_window_agrees_with_a_set_of_all_counters_seen() {
  std::mt19937_64 random(20261122);
  const auto below = [&random](uint64_t bound) { return random() % bound; };
  for (const uint64_t size : {ReplayWindow::kDefaultSize, uint64_t{100}, uint64_t{70'000}}) {
    ReplayWindow window(size);
    Model model(size);
    for (int i = 0; i < 300'000; i++) {
      uint64_t counter = 0;
      const uint64_t kind = below(100'000);
      if (kind == 0)
        counter = model.greatest() + (uint64_t{1} << 37) + below(uint64_t{1} << 40);  // far beyond a tag
      else if (kind < 10)
        counter = model.greatest() + below(3 * size);  // past the whole ring
      else if (kind < 40'000)
        counter = model.greatest() + below(4);
      else
        counter = model.greatest() - std::min(model.greatest(), below(size + size / 8 + 2));
      CHECK(accept(window, counter) == model.accept(counter));
    }
  }
}

void the_window_agrees_with_the_set_up_to_the_last_counter() {
  std::mt19937_64 random(7);
  for (const uint64_t size : {ReplayWindow::kDefaultSize, uint64_t{65'536}}) {
    ReplayWindow window(size);
    Model model(size);
    CHECK(accept(window, 5) == model.accept(5));
    for (int i = 0; i < 100'000; i++) {
      const uint64_t counter = kRejectAfterMessages + 100 - random() % (2 * size);
      CHECK(accept(window, counter) == model.accept(counter));
    }
    CHECK(!accept(window, kRejectAfterMessages) && !accept(window, UINT64_MAX));
    CHECK(!accept(window, 6));
  }
}

void a_jump_onto_a_tag_of_an_earlier_block_accepts_nothing_twice() {
  ReplayWindow window;
  std::set<uint64_t> accepted;
  std::mt19937_64 random(3);
  for (int epoch = 0; epoch < 50; epoch++) {
    const uint64_t base = static_cast<uint64_t>(epoch) << 37;
    for (int i = 0; i < 2000; i++) {
      const uint64_t counter = base + random() % 9000;
      if (accept(window, counter)) CHECK(accepted.insert(counter).second);
    }
  }
  CHECK(accepted.size() > 1000);
}

/// Runs `work(thread)` in several threads that start together.
template <class Work>
void together(size_t threads, const Work& work) {
  std::atomic<size_t> waiting{threads};
  std::vector<std::thread> running;
  for (size_t t = 0; t < threads; t++)
    running.emplace_back([&, t] {
      waiting.fetch_sub(1);
      while (waiting.load() != 0) {
      }
      work(t);
    });
  for (std::thread& thread : running) thread.join();
}

constexpr size_t kThreads = 4;

void threads_with_the_same_counters_accept_each_exactly_once() {
  constexpr uint64_t kCounters = 60'000;
  ReplayWindow window(kCounters);
  std::vector<std::atomic<int>> accepted(kCounters);
  together(kThreads, [&](size_t thread) {
    std::mt19937_64 random(thread);
    for (uint64_t base = 0; base < kCounters; base += 50) {
      uint64_t order[50];
      for (uint64_t i = 0; i < 50; i++) order[i] = base + i;
      std::shuffle(std::begin(order), std::end(order), random);
      for (const uint64_t counter : order) accepted[counter] += accept(window, counter) ? 1 : 0;
    }
  });
  for (const auto& times : accepted) CHECK(times.load() == 1);
}

void threads_with_counters_of_their_own_accept_all_of_them() {
  constexpr uint64_t kEach = 30'000;
  ReplayWindow window(kThreads * kEach);
  std::atomic<uint64_t> refused{0};
  together(kThreads, [&](size_t thread) {
    for (uint64_t i = 0; i < kEach; i++)  // neighbours in one word
      if (!accept(window, i * kThreads + thread)) refused++;
  });
  CHECK(refused.load() == 0);
}

void threads_that_race_over_a_small_ring_accept_nothing_twice() {
  constexpr uint64_t kCounters = 200'000;
  ReplayWindow window(64);
  std::vector<std::atomic<int>> accepted(kCounters);
  together(kThreads, [&](size_t thread) {
    std::mt19937_64 random(thread + 100);
    for (uint64_t i = 0; i < kCounters; i++) {
      const uint64_t counter = i - std::min(i, random() % 200);
      accepted[counter] += accept(window, counter) ? 1 : 0;
    }
  });
  for (const auto& times : accepted) CHECK(times.load() <= 1);
}

}  // namespace

int main() {
  RUN(the_window_is_8128_packets_and_not_1024);
  RUN(a_wider_window_is_as_wide_as_asked_for);
  RUN(the_window_agrees_with_a_set_of_all_counters_seen);
  RUN(the_window_agrees_with_the_set_up_to_the_last_counter);
  RUN(a_jump_onto_a_tag_of_an_earlier_block_accepts_nothing_twice);
  RUN(threads_with_the_same_counters_accept_each_exactly_once);
  RUN(threads_with_counters_of_their_own_accept_all_of_them);
  RUN(threads_that_race_over_a_small_ring_accept_nothing_twice);
  return omerta::check::finish();
}
