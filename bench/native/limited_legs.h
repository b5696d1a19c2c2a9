// SPDX-License-Identifier: Apache-2.0
// Legs that are charged to accounts, and limits that are looked at and never in the way: what a verdict is
// measured with, in user space (judge.cc) and in the kernel (xdp_cost.cc).
#pragma once

#include "relay/accounts.h"
#include "traffic.h"

namespace omerta::bench {

constexpr uint32_t kLegsOfIdentity = 16;

/// Leg i without its addresses: charged to nobody, and never ending.
inline omerta_leg forwarding_leg(uint32_t i) {
  omerta_leg leg{};
  leg.leg_id = bench_leg_id(i);
  leg.action = OMERTA_LEG_FORWARD;
  leg.key_epoch = kEpoch;
  leg.next_key_epoch = kNextEpoch;
  leg.next_leg_id = bench_next_leg_id(leg.leg_id);
  bench_leg_key(leg.leg_id, leg.key);
  bench_leg_key(leg.next_leg_id, leg.next_key);
  leg.expires_at = UINT64_MAX;
  return leg;
}

/// The same, charged.
inline omerta_leg charged_leg(uint32_t i) {
  omerta_leg leg = forwarding_leg(i);
  leg.identity = 1 + i / kLegsOfIdentity;
  leg.network = static_cast<uint16_t>(1 + i % 64);
  leg.limits = 1;
  return leg;
}

/// A tenth of a ns per byte and less.
constexpr omerta_rate kAmpleRate = {6554, 1, 1'000'000'000};

inline void limit_legs(relay::Accounts& accounts) {
  accounts.set_limits(1, {kAmpleRate, 0, uint64_t{1} << 62});
}

/// Every limit there is, each leg's included.
inline void limit_all(relay::Accounts& accounts, size_t identities) {
  limit_legs(accounts);
  for (size_t i = 1; i < identities; i++) accounts.set_rate(relay::AccountKind::identity, i, kAmpleRate);
  for (size_t i = 1; i <= 64; i++) accounts.set_rate(relay::AccountKind::network, i, kAmpleRate);
  accounts.set_prefix_rate(kAmpleRate, {});
  accounts.set_host_rate(kAmpleRate);
  accounts.set_fair_share(65536, 1'000'000'000);
}

}  // namespace omerta::bench
