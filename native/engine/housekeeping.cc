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
  switch (shared.gso_probe.tick(*shared.sessions, now, out_)) {
    case GsoProbe::Finding::none:
      break;
    case GsoProbe::Finding::lost_to_peer:
      watch_.demoted_for_peer();
      break;
    case GsoProbe::Finding::lost_to_all:
      watch_.demote(Accelerator::udp_gso, Fault::lost);
      break;
    case GsoProbe::Finding::restore:
      watch_.restore(Accelerator::udp_gso, Fault::lost);
      break;
  }
  shared.accelerators.set_peers_without_gso(shared.gso_probe.peers_without(now));
  out_.flush();
  if (now >= next_address_check_) {
    next_address_check_ = now + kAddressCheckInterval;
    shared.proven_remotes.set_sole(udp::sole_addresses());
  }
  shared.proven_remotes.prepare();
}

}  // namespace omerta::engine
