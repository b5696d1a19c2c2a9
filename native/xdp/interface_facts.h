// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of a network interface that matters to XDP. Asked by ioctl and netlink, since
// /sys may be that of another network namespace.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace omerta::xdp {

struct InterfaceFacts {
  std::string name;
  uint32_t index = 0;
  uint32_t mtu = 0;
  bool up = false;
  bool ethernet = false;        ///< has MAC addresses, and is no tunnel
  std::string driver;           ///< empty: it does not tell
  uint32_t receive_queues = 0;  ///< 0: it does not tell
  uint32_t transmit_queues = 0;
  uint32_t receive_ring = 0;
  uint32_t transmit_ring = 0;
  /// Bits of NETDEV_XDP_ACT_* (linux/netdev.h); empty before Linux 6.3.
  std::optional<uint64_t> xdp_features;
  /// The XDP program that is attached now, 0 = none.
  uint32_t program_id = 0;
  bool generic = false;  ///< it runs after the socket buffer is made
};

inline constexpr uint64_t kXdpBasic = 1, kXdpRedirect = 2, kXdpTransmit = 4;

/// Facts of an interface; nullopt when there is none of this name.
std::optional<InterfaceFacts> interface_facts(const std::string& name);
/// Names of all interfaces.
std::vector<std::string> interface_names();
/// Frames of XDP programs the driver could not send, by its own counters; nullopt where it has none.
std::optional<uint64_t> transmit_errors(const std::string& name);

}  // namespace omerta::xdp
