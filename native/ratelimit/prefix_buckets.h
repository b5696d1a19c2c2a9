// SPDX-License-Identifier: Apache-2.0
// Token buckets for strangers, one per source prefix, in a table of fixed size: prefixes that share a
// slot share a bucket, and nobody can make the table grow. The slot is chosen under a secret key, so
// that nobody can aim at another's.
#pragma once

#include <omerta/wire.h>

#include <memory>
#include <vector>

#include "ratelimit/token_bucket.h"

namespace omerta {

class PrefixBuckets {
 public:
  static constexpr size_t kSlots = 4096;

  /// Leading bits of an address that share a bucket; at most 32 and 64.
  struct Bits {
    unsigned ipv4;
    unsigned ipv6;
  };
  struct SecretKey {
    uint64_t words[2];
  };

  PrefixBuckets(uint64_t per_second, uint64_t burst, Bits bits, SecretKey key)
      : key_{key.words[0], key.words[1]}, mask4_(leading(32, bits.ipv4)), mask6_(leading(64, bits.ipv6)) {
    buckets_.reserve(kSlots);
    for (size_t i = 0; i < kSlots; i++) buckets_.push_back(std::make_unique<TokenBucket>(per_second, burst));
  }

  /// Takes one token of the address's prefix; the port plays no part.
  bool take(const omerta_address& source, Nanoseconds now) {
    uint64_t high = __builtin_bswap64(omerta_load64(source.ip));
    uint64_t low = __builtin_bswap64(omerta_load64(source.ip + 8));
    const bool mapped = high == 0 && low >> 32 == 0xffff;
    if (mapped)
      low &= 0x0000ffff00000000 | mask4_;
    else
      high &= mask6_, low = 0;
    return buckets_[omerta_tag(key_, high, low, 0, 0) % kSlots]->take(now);
  }

 private:
  /// The first `bits` of a word of `width` bits.
  static uint64_t leading(unsigned width, unsigned bits) {
    const uint64_t all = width == 64 ? UINT64_MAX : (uint64_t{1} << width) - 1;
    return bits == 0 ? 0 : all & ~((uint64_t{1} << (width - bits)) - 1);
  }

  __u64 key_[2];
  uint64_t mask4_;
  uint64_t mask6_;
  std::vector<std::unique_ptr<TokenBucket>> buckets_;
};

}  // namespace omerta
