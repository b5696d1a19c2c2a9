// SPDX-License-Identifier: Apache-2.0
#include "stack/ring.h"

#include <bit>

namespace omerta::stack {

bool Ring::reserve(size_t size) {
  if (size <= capacity_) return true;
  const size_t capacity = std::bit_ceil(std::max(size, kLeast));
  if (!budget_.take(capacity - capacity_)) return false;
  std::unique_ptr<uint8_t[]> memory(new uint8_t[capacity]);
  iovec old[2];
  const size_t count = parts(0, extent_, old);
  Scattered({old, count}, 0, extent_).copy_to(memory.get());
  memory_ = std::move(memory);
  capacity_ = capacity;
  front_ = 0;
  return true;
}

void Ring::write(size_t offset, const Scattered& bytes) {
  iovec to[2];
  parts(offset, bytes.size(), to);
  Scattered first = bytes, second = bytes;
  first.keep(to[0].iov_len);
  first.copy_to(static_cast<uint8_t*>(to[0].iov_base));
  second.drop_front(first.size());
  second.copy_to(static_cast<uint8_t*>(to[1].iov_base));
  written(offset + bytes.size());
}

size_t Ring::parts(size_t offset, size_t size, iovec out[2]) const {
  out[0] = out[1] = {nullptr, 0};
  if (size == 0) return 0;
  const size_t at = (front_ + offset) & (capacity_ - 1);
  const size_t first = std::min(size, capacity_ - at);
  out[0] = {memory_.get() + at, first};
  out[1] = {memory_.get(), size - first};
  return size == first ? 1 : 2;
}

void Ring::drop(size_t size) {
  if (size >= extent_) return release();
  front_ = (front_ + size) & (capacity_ - 1);
  extent_ -= size;
}

void Ring::release() {
  budget_.give(capacity_);
  memory_.reset();
  capacity_ = front_ = extent_ = 0;
}

}  // namespace omerta::stack
