// SPDX-License-Identifier: Apache-2.0
// What a start-up self-test of an accelerator found.
#pragma once

#include "common/reason.h"

namespace omerta {

struct SelfTest {
  enum class Verdict {
    untested,  ///< it could not be tried here; it is used all the same
    passed,
    failed,
  };
  Verdict verdict = Verdict::untested;
  /// What was tried, what went wrong, or why it could not be tried.
  Reason reason = {"nothing-passes", {}};

  bool failed() const { return verdict == Verdict::failed; }
};

}  // namespace omerta
