// SPDX-License-Identifier: Apache-2.0
// Deals the host's rate out to identities: what they asked for goes from the accounts to FairShare,
// what they may take from it back to the accounts. One thread at a time.
#pragma once

#include "common/clock.h"
#include "ratelimit/fair_share.h"
#include "relay/accounts.h"

namespace omerta::engine {

class HostShares {
 public:
  explicit HostShares(relay::Accounts& accounts)
      : accounts_(accounts),
        fair_share_(accounts.size(relay::AccountKind::identity)),
        demands_(accounts.size(relay::AccountKind::identity)) {}

  /// To be called about ten times a second.
  void deal(Nanoseconds now) {
    const omerta_rate rate = accounts_.host_rate();
    if ((rate.byte_interval | rate.packet_interval) == 0) {
      fair_share_.reset();
      accounts_.set_fair_share(0, 0);
      return;
    }
    accounts_.demands(demands_);
    const uint32_t factor = fair_share_.update(demands_, now, accounts_.host().theoretical_arrival);
    accounts_.set_fair_share(factor, rate.burst);
  }

 private:
  relay::Accounts& accounts_;
  FairShare fair_share_;
  std::vector<uint64_t> demands_;
};

}  // namespace omerta::engine
