// SPDX-License-Identifier: Apache-2.0
#include "relay/shared_accounts.h"

namespace omerta::relay {

SharedAccounts::SharedAccounts(const AccountFiles& files, const Accounts::Capacity& capacity) {
  mappings_.reserve(6);
  mappings_.emplace_back(files.policy, sizeof(omerta_policy), "map policy");
  mappings_.emplace_back(files.limits, capacity.classes * sizeof(omerta_limits), "map limits");
  mappings_.emplace_back(files.identities, capacity.identities * sizeof(omerta_account), "map identities");
  mappings_.emplace_back(files.networks, capacity.networks * sizeof(omerta_account), "map networks");
  mappings_.emplace_back(files.host, sizeof(omerta_account), "map host");
  mappings_.emplace_back(files.prefixes, OMERTA_PREFIX_BUCKETS * sizeof(__u64), "map prefixes");
}

Accounts::Memory SharedAccounts::memory() const {
  return {mappings_[0].as<omerta_policy>(),  mappings_[1].as<omerta_limits>(),
          mappings_[2].as<omerta_account>(), mappings_[3].as<omerta_account>(),
          mappings_[4].as<omerta_account>(), mappings_[5].as<__u64>()};
}

}  // namespace omerta::relay
