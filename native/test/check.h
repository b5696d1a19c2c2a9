// SPDX-License-Identifier: Apache-2.0
// The whole test harness: CHECK(condition) counts, TEST(name) names, main returns finish().
#pragma once

#include <atomic>
#include <cstdio>

namespace omerta::check {

struct Tally {
  const char* test = "";
  std::atomic<long> passed = 0;  ///< by any thread of a test
  std::atomic<long> failed = 0;
};

inline Tally tally;

inline void record(bool ok, const char* condition, const char* file, int line) {
  if (ok) {
    tally.passed++;
    return;
  }
  tally.failed++;
  std::fprintf(stderr, "FAILED %s:%d: %s\n  in: %s\n", file, line, condition, tally.test);
}

/// Prints the tally; the process's exit code. A run that checked nothing has failed.
inline int finish() {
  std::printf("%ld passed, %ld failed\n", tally.passed.load(), tally.failed.load());
  return tally.failed == 0 && tally.passed > 0 ? 0 : 1;
}

}  // namespace omerta::check

/// Names what the following CHECKs prove, as a sentence.
#define TEST(sentence) (::omerta::check::tally.test = (sentence))
#define CHECK(condition) ::omerta::check::record(static_cast<bool>(condition), #condition, __FILE__, __LINE__)
/// Runs a test function under its own name, which is the sentence.
#define RUN(function) (TEST(#function), function())
