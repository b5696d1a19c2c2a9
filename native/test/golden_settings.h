// SPDX-License-Identifier: Apache-2.0
// The golden packets' changes of limits, applied to a table's accounts.
#pragma once

#include "relay/accounts.h"
#include "test/golden.h"

namespace omerta::golden {

inline relay::AccountKind kind_of(const std::string& name) {
  return name == "identity" ? relay::AccountKind::identity : relay::AccountKind::network;
}

inline void apply(relay::Accounts& accounts, const Setting& setting) {
  if (setting.set == "limits")
    accounts.set_limits(setting.index, {setting.rate, 0, setting.byte_cap});
  else if (setting.set == "reset")
    accounts.reset(kind_of(setting.kind), setting.index);
  else if (setting.set == "host")
    accounts.set_host_rate(setting.rate);
  else if (setting.set == "prefix")
    accounts.set_prefix_rate(setting.rate, {setting.ipv4_bits, setting.ipv6_bits});
  else if (setting.set == "fair")
    accounts.set_fair_share(setting.factor, setting.rate.burst);
  else
    accounts.set_rate(kind_of(setting.set), setting.index, setting.rate);
}

}  // namespace omerta::golden
