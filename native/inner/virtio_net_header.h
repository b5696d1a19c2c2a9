// SPDX-License-Identifier: Apache-2.0
// The header of every inner packet that crosses a port (virtio 1.2, section 5.1.6): what a TUN device with
// IFF_VNET_HDR and a virtual machine's network device have in front of it.
// <linux/virtio_net.h> has it too, but names a field `class`, which C++ cannot read.
#pragma once

#include <cstdint>

namespace omerta::inner {

struct VirtioNetHeader {
  uint8_t flags;
  uint8_t gso_type;
  uint16_t header_length;
  uint16_t gso_size;         ///< payload bytes of each segment
  uint16_t checksum_start;   ///< offset at which summing starts
  uint16_t checksum_offset;  ///< where, from there, the checksum is stored
};
static_assert(sizeof(VirtioNetHeader) == 10);

inline constexpr uint8_t kNeedsChecksum = 1;  ///< flags: the field holds the pseudo header's sum
inline constexpr uint8_t kDataValid = 2;      ///< flags: checksums are known to be good

inline constexpr uint8_t kGsoNone = 0;
inline constexpr uint8_t kGsoTcp4 = 1;
inline constexpr uint8_t kGsoTcp6 = 4;
inline constexpr uint8_t kGsoUdp = 5;
inline constexpr uint8_t kGsoEcn = 0x80;  ///< added to a TCP type when CWR is set

}  // namespace omerta::inner
