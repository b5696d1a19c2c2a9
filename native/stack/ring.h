// SPDX-License-Identifier: Apache-2.0
// Bytes of a stream between two moving ends, in memory that grows with what is in it, is charged to a budget,
// and is given back when nothing is left: a connection that is idle has none.
#pragma once

#include <sys/uio.h>

#include <memory>

#include "stack/budget.h"
#include "stack/scattered.h"

namespace omerta::stack {

class Ring {
 public:
  explicit Ring(Budget& budget) : budget_(budget) {}
  ~Ring() { release(); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// Bytes from the front to the end of what was written furthest behind it.
  size_t extent() const { return extent_; }
  size_t capacity() const { return capacity_; }
  /// Makes room for `size` bytes from the front on. false: the budget has not as many.
  bool reserve(size_t size);
  /// Writes what reserve() made room for; `offset` counts from the front.
  void write(size_t offset, const Scattered& bytes);
  /// Memory of `size` bytes from `offset` on, to be read or written: two parts where it goes round.
  size_t parts(size_t offset, size_t size, iovec out[2]) const;
  /// What lies in parts() up to here was written by others.
  void written(size_t extent) { extent_ = std::max(extent_, extent); }
  /// The front moves on, whether or not anything was written there.
  void drop(size_t size);

 private:
  static constexpr size_t kLeast = 4096;

  void release();

  Budget& budget_;
  std::unique_ptr<uint8_t[]> memory_;
  size_t capacity_ = 0;  ///< a power of two, or 0
  size_t front_ = 0;
  size_t extent_ = 0;
};

}  // namespace omerta::stack
