// SPDX-License-Identifier: Apache-2.0
// Fixed-size byte strings and little-endian access.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>

namespace omerta {

static_assert(std::endian::native == std::endian::little, "wire integers are read in place");

using Key32 = std::array<uint8_t, 32>;
using Mac16 = std::array<uint8_t, 16>;
using Bytes = std::span<const uint8_t>;

template <class T>
T load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
void store(void* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

inline bool is_zero(const Key32& key) {
  uint8_t any = 0;
  for (uint8_t byte : key) any = static_cast<uint8_t>(any | byte);
  return any == 0;
}

}  // namespace omerta
