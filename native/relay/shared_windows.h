// SPDX-License-Identifier: Apache-2.0
// What legs have let through, in memory the XDP relay judges by too (its maps, xdp/legs.h): what one of the
// two paths took is not taken by the other.
#pragma once

#include <omerta/leg_window.h>
#include <omerta/xdp_maps.h>

#include "common/shared_mapping.h"
#include "relay/leg_entry.h"

namespace omerta::relay {

/// BPF array maps of `slots` entries each, by file descriptor.
struct WindowFiles {
  int legs;
  int windows;
  uint32_t slots;
};

class SharedWindows {
 public:
  /// @throws std::system_error
  explicit SharedWindows(const WindowFiles& files)
      : legs_(files.legs, files.slots * sizeof(omerta_leg), "map legs"),
        windows_(files.windows, files.slots * sizeof(omerta_leg_window), "map windows"),
        slots_(files.slots) {}

  /// The window of a leg; null when the kernel does not have the leg.
  omerta_leg_window* of(uint32_t leg_id) const {
    const auto slot = slot_of(legs_.as<omerta_leg>(), slots_, OMERTA_XDP_REACH, leg_id);
    return slot.has_value() ? windows_.as<omerta_leg_window>() + *slot : nullptr;
  }

 private:
  SharedMapping legs_;
  SharedMapping windows_;
  uint32_t slots_;
};

}  // namespace omerta::relay
