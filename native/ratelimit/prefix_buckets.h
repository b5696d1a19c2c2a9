// SPDX-License-Identifier: Apache-2.0
// Token buckets for strangers, one per source prefix (IPv4 /24, IPv6 /48), in a table of fixed size:
// prefixes that share a slot share a bucket, and nobody can make the table grow. The slot is chosen
// under a secret key, so that nobody can aim at another's.
#pragma once

#include <omerta/wire.h>

#include <memory>
#include <vector>

#include "ratelimit/token_bucket.h"

namespace omerta {

class PrefixBuckets {
 public:
  static constexpr size_t kSlots = 4096;

  PrefixBuckets(uint64_t per_second, uint64_t burst, uint64_t key0, uint64_t key1) : key_{key0, key1} {
    buckets_.reserve(kSlots);
    for (size_t i = 0; i < kSlots; i++) buckets_.push_back(std::make_unique<TokenBucket>(per_second, burst));
  }

  bool take(const omerta_address& source, Nanoseconds now) {
    uint64_t high = omerta_load64(source.ip);
    uint64_t low = omerta_load64(source.ip + 8);
    const bool mapped = high == 0 && (low & 0xffffffff) == 0xffff0000;
    if (mapped)
      low &= 0x00ffffffffffffff;  // little-endian: the last address byte is the highest
    else
      high &= 0x0000ffffffffffff, low = 0;
    return buckets_[omerta_tag(key_, high, low, 0, 0) % kSlots]->take(now);
  }

 private:
  __u64 key_[2];
  std::vector<std::unique_ptr<TokenBucket>> buckets_;
};

}  // namespace omerta
