// SPDX-License-Identifier: Apache-2.0
// The leg tags of four frames at once, of each the one it came with and the one it goes on with: eight
// chains of SipHash in the lanes of a vector, which take little longer than the two of tag_pair.h.
#pragma once

#include <omerta/tag_pair.h>

#include <cstddef>
#include <cstdint>

namespace omerta::relay {

constexpr size_t kTagLanes = 4;

/// What a frame's tags are made of; `leg` and 32 bytes of `frame` are read.
struct TagWork {
  const omerta_leg* leg;
  const uint8_t* frame;
  uint32_t size;
};

/// Whether this processor's vectors are wide enough to gain by it.
bool tag_lanes_available();

/// Same as omerta_tag_pair_of() of each. Only where tag_lanes_available().
void tag_lanes(const TagWork (&work)[kTagLanes], omerta_tag_pair (&tags)[kTagLanes]);

}  // namespace omerta::relay
