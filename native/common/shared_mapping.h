// SPDX-License-Identifier: Apache-2.0
// Memory another process or the kernel sees too: a file mapped MAP_SHARED, such as a BPF array map.
#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

namespace omerta {

class SharedMapping {
 public:
  /// Maps the first `size` bytes of `fd`, which stays the caller's. @throws std::system_error naming `what`.
  SharedMapping(int fd, std::size_t size, const char* what)
      : data_(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)), size_(size) {
    if (data_ == MAP_FAILED) throw std::system_error(errno, std::generic_category(), what);
  }
  ~SharedMapping() {
    if (data_ != nullptr) munmap(data_, size_);
  }
  SharedMapping(SharedMapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(other.size_) {}
  SharedMapping& operator=(SharedMapping&&) = delete;

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_;
  std::size_t size_;
};

}  // namespace omerta
