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

/// @tparam Owner has a member `Timer timer`
template <class Owner>
class TimerHeap {
 public:
  /// The owner is due at `due`, whatever was set before.
  void set(Owner& owner, Nanoseconds due) {
    owner.timer.due = due;
    if (owner.timer.place == Timer::kIdle) {
      heap_.push_back(&owner);
      owner.timer.place = heap_.size() - 1;
    }
    settle(owner.timer.place);
  }
  void cancel(Owner& owner) {
    const size_t place = owner.timer.place;
    if (place == Timer::kIdle) return;
    owner.timer.place = Timer::kIdle;
    Owner* last = heap_.back();
    heap_.pop_back();
    if (last == &owner) return;
    put(last, place);
    settle(place);
  }
  /// One whose time has come, its deadline taken back; nullptr: nobody's has.
  Owner* take_due(Nanoseconds now) {
    if (heap_.empty() || heap_.front()->timer.due > now) return nullptr;
    Owner* owner = heap_.front();
    cancel(*owner);
    return owner;
  }

 private:
  void put(Owner* owner, size_t place) {
    heap_[place] = owner;
    owner->timer.place = place;
  }
  void settle(size_t place) {
    Owner* owner = heap_[place];
    while (place > 0 && owner->timer.due < heap_[(place - 1) / 2]->timer.due) {
      put(heap_[(place - 1) / 2], place);
      place = (place - 1) / 2;
    }
    for (;;) {
      size_t child = 2 * place + 1;
      if (child >= heap_.size()) break;
      if (child + 1 < heap_.size() && heap_[child + 1]->timer.due < heap_[child]->timer.due) child++;
      if (heap_[child]->timer.due >= owner->timer.due) break;
      put(heap_[child], place);
      place = child;
    }
    put(owner, place);
  }
  std::vector<Owner*> heap_;
};

}  // namespace omerta::session
