// SPDX-License-Identifier: Apache-2.0
// Why something is as it is, for the control plane to word (ts/engine/native/accelerators.ts): a code, and
// facts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace omerta {

struct Reason {
  std::string_view code;  ///< a literal, one of NativeReason in ts/engine/native/native-addon.ts
  std::string detail;     ///< a name, a version, what a self-test saw; empty: nothing
  double number = 0;      ///< a count, an errno, a ratio
};

}  // namespace omerta
