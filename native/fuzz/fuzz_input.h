// SPDX-License-Identifier: Apache-2.0
// An input of the fuzzer as a sequence of numbers: what comes after its end is zero.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace omerta::fuzz {

/// A property that does not hold ends the run: libFuzzer keeps the input.
inline void require(bool holds) {
  if (!holds) std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }
  uint8_t byte() {
    if (left_ == 0) return 0;
    left_--;
    return *data_++;
  }
  uint16_t word() {
    const uint16_t low = byte();
    return static_cast<uint16_t>(low | byte() << 8);
  }
  /// At most `size` bytes, in an allocation of just that size: a read past its end is seen.
  std::vector<uint8_t> bytes(size_t size) {
    const size_t taken = std::min(size, left_);
    std::vector<uint8_t> out(data_, data_ + taken);
    data_ += taken;
    left_ -= taken;
    return out;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

}  // namespace omerta::fuzz
