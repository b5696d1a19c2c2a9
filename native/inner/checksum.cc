// SPDX-License-Identifier: Apache-2.0
#include "inner/checksum.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace omerta::inner {
namespace {

constexpr size_t kBlock = 64;

#if defined(__x86_64__)

/// Sums, and copies if asked to, blocks of 64 bytes; the caller does the rest. Words of 32 bits in lanes
/// of 64 cannot overflow below 128 GiB.
template <bool kCopy>
[[gnu::target("avx2")]] uint64_t wide(uint8_t* to, const uint8_t* from, size_t blocks) {
  const __m256i low = _mm256_set1_epi64x(0xffffffff);
  __m256i sums[4] = {};
  for (size_t i = 0; i < blocks; i++) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i * kBlock));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i * kBlock + 32));
    if constexpr (kCopy) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * kBlock), a);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i * kBlock + 32), b);
    }
    sums[0] = _mm256_add_epi64(sums[0], _mm256_and_si256(a, low));
    sums[1] = _mm256_add_epi64(sums[1], _mm256_srli_epi64(a, 32));
    sums[2] = _mm256_add_epi64(sums[2], _mm256_and_si256(b, low));
    sums[3] = _mm256_add_epi64(sums[3], _mm256_srli_epi64(b, 32));
  }
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_add_epi64(_mm256_add_epi64(sums[0], sums[1]),
                                                                         _mm256_add_epi64(sums[2], sums[3])));
  return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

const bool kWide = __builtin_cpu_supports("avx2") != 0;

#else

template <bool kCopy>
uint64_t wide(uint8_t*, const uint8_t*, size_t) {
  return 0;
}
constexpr bool kWide = false;

#endif

}  // namespace

uint64_t checksum_payload(const uint8_t* data, size_t size, uint64_t sum) {
  const size_t blocks = kWide ? size / kBlock : 0;
  if (blocks != 0) sum += wide<false>(nullptr, data, blocks);
  return checksum_add(data + blocks * kBlock, size - blocks * kBlock, checksum_fold(sum));
}

uint64_t checksum_copy(uint8_t* to, const uint8_t* from, size_t size, uint64_t sum) {
  const size_t blocks = kWide ? size / kBlock : 0;
  if (blocks != 0) sum += wide<true>(to, from, blocks);
  const size_t done = blocks * kBlock;
  if (size != done) std::memcpy(to + done, from + done, size - done);
  return checksum_add(from + done, size - done, checksum_fold(sum));
}

}  // namespace omerta::inner
