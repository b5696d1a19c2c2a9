// SPDX-License-Identifier: Apache-2.0
// Anonymous memory, every page of it touched at once: the first touch of a page costs microseconds.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

namespace omerta {

class TouchedMemory {
 public:
  /// @throws std::bad_alloc
  explicit TouchedMemory(size_t size) : size_(size) {
    void* memory =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<uint8_t*>(memory);
  }
  ~TouchedMemory() { munmap(data_, size_); }
  TouchedMemory(const TouchedMemory&) = delete;
  TouchedMemory& operator=(const TouchedMemory&) = delete;

  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  uint8_t* data_;
  size_t size_;
};

}  // namespace omerta
