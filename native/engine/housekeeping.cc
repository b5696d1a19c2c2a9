// SPDX-License-Identifier: Apache-2.0
#include "engine/housekeeping.h"

namespace omerta::engine {
namespace {

/// How soon a further address of the host is noticed.
constexpr Nanoseconds kAddressCheckInterval = 10 * kSecond;

}  // namespace

void Housekeeping::work(Nanoseconds now) {
  Shared& shared = out_.shared();
  next_ = now + kInterval;
  shared.sessions->handle_timers(now, out_);
  shared.host_shares.deal(now);
  shared.wireguard.sweep(now);
  out_.flush();
  if (shared.gso_probe.tick(*shared.sessions, now, out_)) watch_.demote(Offload::udp_gso, Fault::lost);
  out_.flush();
  if (now >= next_address_check_) {
    next_address_check_ = now + kAddressCheckInterval;
    shared.proven_remotes.set_sole(udp::sole_addresses());
  }
  shared.proven_remotes.prepare();
}

}  // namespace omerta::engine
