// SPDX-License-Identifier: Apache-2.0
// Sequence numbers, compared modulo 2^32 (RFC 9293 3.4). What is compared is never further apart than 2^31:
// windows are at most 2^30 (RFC 7323 2.3).
#pragma once

#include <cstdint>

namespace omerta::stack {

using Sequence = uint32_t;

inline bool before(Sequence a, Sequence b) { return static_cast<int32_t>(a - b) < 0; }
inline bool at_or_before(Sequence a, Sequence b) { return static_cast<int32_t>(a - b) <= 0; }
inline Sequence earlier(Sequence a, Sequence b) { return before(a, b) ? a : b; }
inline Sequence later(Sequence a, Sequence b) { return before(a, b) ? b : a; }

}  // namespace omerta::stack
