// SPDX-License-Identifier: Apache-2.0
// Start-up self-test of the TUN offloads: real packets through a scratch interface, by the same code that
// moves traffic. A TCP connection and datagrams go both ways; every segment's checksum is verified and
// every byte compared.
//
// The scratch interface lives in a network namespace of its own where that may be made (CAP_SYS_ADMIN).
// With CAP_NET_ADMIN alone it appears in the present one as omtestN for some milliseconds, with a
// link-local IPv6 address and nothing else.
#pragma once

#include "common/self_test.h"

namespace omerta::tun {

struct OffloadTest {
  SelfTest checksum;
  SelfTest tcp;
  SelfTest udp;
};

/// Takes a few milliseconds; when packets get lost, up to a second. Never throws: what cannot be tried
/// is untested.
OffloadTest test_offloads();

}  // namespace omerta::tun
