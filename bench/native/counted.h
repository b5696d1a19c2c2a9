// SPDX-License-Identifier: Apache-2.0
// Instructions and allocations of chosen parts of a program. Instructions are callgrind's
// (`valgrind --tool=callgrind --collect-atstart=no`), which are the same on a busy machine as on a quiet one;
// without valgrind nothing is counted and nothing costs anything.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_TOGGLE_COLLECT
#define CALLGRIND_DUMP_STATS_AT(name) static_cast<void>(name)
#endif

namespace omerta::bench {

/// Whether this thread is in a part that counts.
inline thread_local bool counting = false;
/// Allocations by operator new in parts that count, since the last report().
inline thread_local uint64_t allocations = 0;

inline void start_counting() {
  counting = true;
  CALLGRIND_TOGGLE_COLLECT;
}

inline void stop_counting() {
  if (!counting) return;
  CALLGRIND_TOGGLE_COLLECT;
  counting = false;
}

/// Ends a part: callgrind writes what was counted since the last report under this name, as
/// `NAME|units|allocations`, units being what the instructions are divided by.
void report(const char* name, uint64_t units);

}  // namespace omerta::bench
