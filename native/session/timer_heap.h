// SPDX-License-Identifier: Apache-2.0
// Deadlines of many owners, each with at most one: a binary heap that knows where everybody is, so that
// a deadline is moved or taken back in O(log n) and waiting ones cost nothing.
#pragma once

#include <cstddef>
#include <vector>

#include "common/clock.h"

namespace omerta::session {

/// What an owner keeps of its deadline.
struct Timer {
  static constexpr size_t kIdle = SIZE_MAX;
  Nanoseconds due = 0;
  size_t place = kIdle;  ///< in the heap
};

/// @tparam kTimer what the owner keeps of its deadline in this heap
template <class Owner, Timer Owner::*kTimer = &Owner::timer>
class TimerHeap {
 public:
  /// When the first of them is due; UINT64_MAX: nobody is.
  Nanoseconds next() const { return heap_.empty() ? UINT64_MAX : (heap_.front()->*kTimer).due; }
  /// The owner is due at `due`, whatever was set before.
  void set(Owner& owner, Nanoseconds due) {
    Timer& timer = owner.*kTimer;
    timer.due = due;
    if (timer.place == Timer::kIdle) {
      heap_.push_back(&owner);
      timer.place = heap_.size() - 1;
    }
    settle(timer.place);
  }
  void cancel(Owner& owner) {
    const size_t place = (owner.*kTimer).place;
    if (place == Timer::kIdle) return;
    (owner.*kTimer).place = Timer::kIdle;
    Owner* last = heap_.back();
    heap_.pop_back();
    if (last == &owner) return;
    put(last, place);
    settle(place);
  }
  /// One whose time has come, its deadline taken back; nullptr: nobody's has.
  Owner* take_due(Nanoseconds now) {
    if (next() > now || heap_.empty()) return nullptr;
    Owner* owner = heap_.front();
    cancel(*owner);
    return owner;
  }

 private:
  void put(Owner* owner, size_t place) {
    heap_[place] = owner;
    (owner->*kTimer).place = place;
  }
  void settle(size_t place) {
    Owner* owner = heap_[place];
    const auto due = [this](size_t i) { return (heap_[i]->*kTimer).due; };
    const Nanoseconds own = due(place);
    while (place > 0 && own < due((place - 1) / 2)) {
      put(heap_[(place - 1) / 2], place);
      place = (place - 1) / 2;
    }
    for (;;) {
      size_t child = 2 * place + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && due(child + 1) < due(child)) child++;
      if (due(child) >= own) break;
      put(heap_[child], place);
      place = child;
    }
    put(owner, place);
  }
  std::vector<Owner*> heap_;
};

}  // namespace omerta::session
