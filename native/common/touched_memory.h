// SPDX-License-Identifier: Apache-2.0
// Anonymous memory, every page of it touched at once: the first touch of a page costs microseconds.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace omerta {

class TouchedMemory {
 public:
  /// Huge pages spare a TLB miss per access to a table that is accessed all over; where the kernel has
  /// none, they are small.
  enum class Pages { small, huge };

  /// @throws std::bad_alloc
  explicit TouchedMemory(size_t size, Pages pages = Pages::small) : size_(size) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (pages == Pages::small ? MAP_POPULATE : 0);
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    if (pages == Pages::huge) {
      madvise(memory, size, MADV_HUGEPAGE);
      std::memset(memory, 0, size);
    }
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
