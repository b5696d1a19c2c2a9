// SPDX-License-Identifier: Apache-2.0
// What becomes of a frame of a virtual machine. Each frame is counted once, under one of these.
#pragma once

#include <cstddef>
#include <cstdint>

namespace omerta::guest {

enum class Verdict : uint8_t {
  passed,          ///< an IP packet of its own, for the worker
  answered,        ///< ARP, neighbour and router solicitations, DHCP, pings of the gateway
  noise,           ///< what an innocent system says to its link: MLD, IGMP, mDNS, its addresses
  malformed,       ///< no whole packet of what it says it is
  oversized,       ///< longer than the MTU it was told
  fragment,        ///< a fragment no system makes
  spoofed_mac,     ///< from another station's address
  spoofed_ip,      ///< from an IP address it was not given
  other_station,   ///< to a station that is not there
  other_type,      ///< neither IP nor ARP
  arp_scan,        ///< asks by ARP for others than the gateway
  neighbour_scan,  ///< the same by neighbour discovery, or sends to a link-local address
  dhcp,            ///< asks of DHCP what is not given
  router,          ///< says it is a router, or redirects
  gateway,         ///< to the gateway itself, which answers pings alone
  multicast,       ///< to a group or to all, and no noise
};
inline constexpr size_t kVerdicts = static_cast<size_t>(Verdict::multicast) + 1;

}  // namespace omerta::guest
