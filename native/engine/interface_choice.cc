// SPDX-License-Identifier: Apache-2.0
#include "engine/interface_choice.h"

#include <net/if.h>

#include <system_error>

namespace omerta::engine {

std::string InterfaceChoice::of(const session::Endpoint& to) {
  uint32_t index = to.local.leaves_by;
  if (index == 0) {
    try {
      if (!lookup_.has_value()) lookup_.emplace();
    } catch (const std::system_error&) {
      return {};  // netlink is not to be had
    }
    const uint32_t fwmark = fwmark_.load(std::memory_order_relaxed);
    index = lookup_->interface_to(to.remote.ip, to.local.ip, fwmark);
    // With its interface down an address is nobody's: then another one is sent from.
    if (index == 0) index = lookup_->interface_to(to.remote.ip, {}, fwmark);
  }
  char name[IF_NAMESIZE];
  return index != 0 && if_indextoname(index, name) != nullptr ? name : std::string{};
}

}  // namespace omerta::engine
