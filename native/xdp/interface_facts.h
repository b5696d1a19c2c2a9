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
/// What became of the frames XDP programs gave a driver to send, by its own counters.
struct TransmitCounts {
  uint64_t errors = 0;  ///< it could not send
  uint64_t taken = 0;   ///< of those sent back by the interface they came in by: it says it sent
};
/// Nullopt where the driver has no such counters.
std::optional<TransmitCounts> transmit_counts(const std::string& name);
/// The low 32 bits of how many packets have left by the interface. A veth counts those its other end took.
std::optional<uint32_t> packets_sent(const std::string& name);

}  // namespace omerta::xdp
