// SPDX-License-Identifier: Apache-2.0
// The engine's one clock: CLOCK_BOOTTIME, which goes on while the machine sleeps, so that a key does
// not outlive its time in a suspended laptop. The session code takes `now` as an argument.
#pragma once

#include <time.h>

#include <cstdint>

namespace omerta {

using Nanoseconds = uint64_t;

inline constexpr Nanoseconds kMillisecond = 1'000'000;
inline constexpr Nanoseconds kSecond = 1'000'000'000;

inline Nanoseconds boot_clock() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return static_cast<Nanoseconds>(t.tv_sec) * kSecond + static_cast<Nanoseconds>(t.tv_nsec);
}

}  // namespace omerta
