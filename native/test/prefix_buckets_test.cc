// SPDX-License-Identifier: Apache-2.0
// What strangers may cost, by prefix: a table that cannot grow and is never closed.
#include <arpa/inet.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "ratelimit/prefix_buckets.h"

namespace {

using namespace omerta;

/// The bytes from 0 on.
constexpr PrefixBuckets::SecretKey kKey = {{0x0706050403020100, 0x0f0e0d0c0b0a0908}};

omerta_address address(const char* text) {
  omerta_address found{};
  if (inet_pton(AF_INET6, text, found.ip) == 1) return found;
  found.ip[10] = found.ip[11] = 0xff;
  inet_pton(AF_INET, text, found.ip + 12);
  return found;
}

/// Which of 300 addresses find the only token of their bucket taken.
std::vector<int> refused(const char* format) {
  PrefixBuckets buckets(1, 1, {24, 48}, kKey);
  std::vector<int> found;
  for (int number = 0; number < 300; number++) {
    char text[64];
    if (std::strchr(format, ':') != nullptr)
      std::snprintf(text, sizeof text, format, static_cast<unsigned>(number));
    else
      std::snprintf(text, sizeof text, format, static_cast<unsigned>(number >> 8),
                    static_cast<unsigned>(number & 255));
    if (!buckets.take(address(text), kSecond)) found.push_back(number);
  }
  return found;
}

void the_same_addresses_share_a_bucket_as_in_the_wasm_engine() {
  // The same numbers are in test/engine/prefix-buckets.test.ts.
  CHECK(refused("10.%u.%u.7") == std::vector<int>({60, 107, 176, 195, 206, 212, 218, 235, 283}));
  CHECK(refused("2001:db8:%x::7") ==
        std::vector<int>({86, 113, 115, 151, 159, 169, 171, 192, 199, 207, 241, 273, 274, 299}));
}

void whoever_fills_the_table_closes_it_to_nobody() {
  PrefixBuckets buckets(1, 2, {32, 64}, kKey);
  const auto of = [](int number) {
    char text[64];
    std::snprintf(text, sizeof text, "10.%d.%d.%d", number >> 16, number >> 8 & 255, number & 255);
    return address(text);
  };
  for (int flooding = 0; flooding < 100'000; flooding++) buckets.take(of(flooding), kSecond);
  int taken = 0;
  for (int i = 0; i < 100; i++) taken += buckets.take(of(200'000 + i), 2 * kSecond) ? 1 : 0;
  CHECK(taken > 80);
}

}  // namespace

int main() {
  RUN(the_same_addresses_share_a_bucket_as_in_the_wasm_engine);
  RUN(whoever_fills_the_table_closes_it_to_nobody);
  return omerta::check::finish();
}
