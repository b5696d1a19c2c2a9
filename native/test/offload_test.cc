// SPDX-License-Identifier: Apache-2.0
// The start-up self-tests of the offloads pass on a sound kernel, quickly, and leave nothing behind. What
// they find on an unsound one: test/tunnel/accelerators.test.ts.
#include <net/if.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "check.h"
#include "tun/offload_self_test.h"
#include "udp/offload_self_test.h"

namespace {

using namespace omerta;

void segmented_datagrams_come_unchanged_over_loopback() {
  const udp::OffloadTest test = udp::test_offloads();
  CHECK(test.gso.verdict == SelfTest::Verdict::passed);
  CHECK(test.gro.verdict == SelfTest::Verdict::passed);
}

void packets_come_unchanged_through_a_scratch_interface() {
  const tun::OffloadTest test = tun::test_offloads();
  for (const SelfTest& result : {test.checksum, test.tcp, test.udp}) {
    CHECK(!result.failed());
    CHECK(!result.reason.code.empty());
    if (result.verdict == SelfTest::Verdict::untested) std::printf("  %s\n", result.reason.detail.c_str());
  }
}

void the_scratch_interface_vanishes() {
  bool gone = false;
  for (int tries = 0; tries < 500 && !gone; tries++) {
    gone = true;
    struct if_nameindex* all = if_nameindex();
    for (const struct if_nameindex* i = all; i->if_index != 0; i++)
      gone &= std::string(i->if_name).rfind("omtest", 0) != 0;
    if_freenameindex(all);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(gone);
}

}  // namespace

int main() {
  RUN(segmented_datagrams_come_unchanged_over_loopback);
  RUN(packets_come_unchanged_through_a_scratch_interface);
  RUN(the_scratch_interface_vanishes);
  return omerta::check::finish();
}
