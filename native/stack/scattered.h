// SPDX-License-Identifier: Apache-2.0
// Bytes that lie in several places in memory of somebody else, as the payload of a super-packet does: looked
// at from both ends, and copied once, by who keeps them.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "inner/checksum.h"

namespace omerta::stack {

class Scattered {
 public:
  Scattered() = default;
  /// `size` bytes after the first `skip` of all parts, which have as many.
  Scattered(std::span<const iovec> parts, size_t skip, size_t size) : parts_(parts), size_(size) {
    drop_front_of_parts(skip);
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  void drop_front(size_t count) {
    size_ -= count;
    drop_front_of_parts(count);
  }
  void keep(size_t count) { size_ = std::min(size_, count); }

  void copy_to(uint8_t* out) const {
    for_each([&](const uint8_t* data, size_t size) {
      std::memcpy(out, data, size);
      out += size;
    });
  }
  /// The same for writev(2). @returns how many of `out` are set; at most its size, and then not all bytes are
  /// in them.
  size_t gather(std::span<iovec> out) const {
    size_t count = 0;
    for_each([&](const uint8_t* data, size_t size) {
      if (count < out.size()) out[count++] = {const_cast<uint8_t*>(data), size};
    });
    return count;
  }
  /// Their sum (RFC 1071), added to `sum`. A part may begin at an odd place: its sum is the other way round.
  uint64_t checksum(uint64_t sum) const {
    bool odd = false;
    for_each([&](const uint8_t* data, size_t size) {
      const uint16_t part = inner::checksum_fold(inner::checksum_payload(data, size));
      sum += odd ? __builtin_bswap16(part) : part;
      odd ^= (size & 1) != 0;
    });
    return sum;
  }
  /// visit(data, size) for each piece that lies together, in their order.
  template <class Visit>
  void for_each(Visit visit) const {
    size_t left = size_, skip = skip_;
    for (const iovec& part : parts_) {
      if (left == 0) return;
      const size_t size = std::min(part.iov_len - skip, left);
      if (size != 0) visit(static_cast<const uint8_t*>(part.iov_base) + skip, size);
      left -= size;
      skip = 0;
    }
  }

 private:
  void drop_front_of_parts(size_t count) {
    skip_ += count;
    while (!parts_.empty() && skip_ >= parts_[0].iov_len) {
      skip_ -= parts_[0].iov_len;
      parts_ = parts_.subspan(1);
    }
  }

  std::span<const iovec> parts_;
  size_t skip_ = 0;
  size_t size_ = 0;
};

}  // namespace omerta::stack
