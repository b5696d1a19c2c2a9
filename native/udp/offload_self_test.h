// SPDX-License-Identifier: Apache-2.0
// Start-up self-test of UDP GSO and GRO: segmented messages over loopback, received with and without
// GRO, compared byte by byte. It sees a kernel that segments wrongly or hands sizes over wrongly; what a
// network device does to segments, only traffic can tell (gro_watch.h, engine/gso_probe.h).
#pragma once

#include "common/self_test.h"

namespace omerta::udp {

struct OffloadTest {
  SelfTest gso;
  SelfTest gro;
};

/// Takes about a millisecond, and sockets on loopback ports the kernel chooses.
OffloadTest test_offloads();

}  // namespace omerta::udp
