// SPDX-License-Identifier: Apache-2.0
// bpf_fib_lookup answers for an interface only when forwarding is on there. The program asks for `lo`
// (xdp/next_hop.h says why), so it is `lo` where it is switched on: net.ipv4.conf.lo.forwarding and
// net.ipv6.conf.lo.forwarding.
#pragma once

#include <cstdint>

namespace omerta::xdp {

/// What the sysctls say. IPv6 counts as on where the kernel has none.
struct LoopbackForwarding {
  bool ipv4 = false;
  bool ipv6 = false;
};

LoopbackForwarding loopback_forwarding();
/// Switches on what is off. @returns OMERTA_XDP_SET_FORWARDING_* of what this call changed.
uint32_t enable_loopback_forwarding();
/// Switches off what OMERTA_XDP_SET_FORWARDING_* says was switched on.
void disable_loopback_forwarding(uint32_t flags);

}  // namespace omerta::xdp
