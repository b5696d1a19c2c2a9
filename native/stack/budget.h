// SPDX-License-Identifier: Apache-2.0
// Bytes that buffers may take: of one owner, within those of all. What was promised to nobody is not held
// back: who finds nothing left does without, as a network that is full does.
#pragma once

#include <cstddef>
#include <cstdint>

namespace omerta::stack {

class Budget {
 public:
  explicit Budget(size_t limit, Budget* all = nullptr) : limit_(limit), all_(all) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  /// false: there are not as many left, and none is taken.
  bool take(size_t bytes) {
    if (bytes > limit_ - used_ || (all_ != nullptr && !all_->take(bytes))) return false;
    used_ += bytes;
    return true;
  }
  void give(size_t bytes) {
    used_ -= bytes;
    if (bytes != 0) given_++;
    if (all_ != nullptr) all_->give(bytes);
  }
  size_t used() const { return used_; }
  /// How often something was given back.
  uint64_t given() const { return given_; }
  size_t left() const {
    const size_t own = limit_ - used_;
    return all_ == nullptr || own < all_->left() ? own : all_->left();
  }

 private:
  const size_t limit_;
  Budget* const all_;
  size_t used_ = 0;
  uint64_t given_ = 0;
};

}  // namespace omerta::stack
