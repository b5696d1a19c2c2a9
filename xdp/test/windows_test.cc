// SPDX-License-Identifier: Apache-2.0
// What of a leg went through the kernel is not taken by the socket again, and the other way round
// (omerta/leg_window.h): a frame that is passed on once may be dropped or forwarded the next time, and
// whoever overheard it chooses when to send it again.
#include "bpf_relay.h"
#include "relay/forwarding_table.h"
#include "relay/shared_windows.h"

using namespace omerta::xdp;
namespace golden = omerta::golden;
namespace relay = omerta::relay;
using golden::Bytes;

namespace {

constexpr uint64_t kNow = 10'000'000'000;
const omerta_address kSender = golden::address_of("100.64.0.1:4000");

omerta_leg leg_to(const char* next) {
  omerta_leg leg{};
  const omerta_address to = golden::address_of(next);
  leg.leg_id = 0x4000'0001;
  leg.action = OMERTA_LEG_FORWARD;
  std::memcpy(leg.source_ip, kSender.ip, 16);
  leg.source_port = kSender.port;
  std::memcpy(leg.next_ip, to.ip, 16);
  leg.next_port = to.port;
  leg.next_leg_id = 77;
  leg.key[0] = 5;
  return leg;
}

/// A transport message in a frame.
Bytes frame(const omerta_leg& leg, uint64_t counter, size_t size = 96) {
  Bytes bytes(size);
  bytes[0] = OMERTA_FRAME_MAGIC;
  bytes[1] = OMERTA_KIND_FORWARD;
  bytes[2] = OMERTA_HOP_LIMIT_DEFAULT;
  std::memcpy(&bytes[4], &leg.leg_id, 4);
  bytes[16] = 4;
  bytes[20] = 9;  // receiver index
  std::memcpy(&bytes[24], &counter, 8);
  const uint64_t tag = omerta_frame_tag(leg.key, bytes.data(), static_cast<__u32>(size));
  std::memcpy(&bytes[8], &tag, 8);
  return bytes;
}

/// A relay with a leg in both tables.
struct Both {
  omerta_leg leg = leg_to("203.0.113.9:5000");
  BpfRelay kernel;
  relay::SharedWindows windows{{kernel.program().legs_fd(), kernel.program().windows_fd(), 128}};
  relay::ForwardingTable socket{128};

  Both() {
    kernel.install(leg);
    kernel.remember_way(leg, 1000);
    socket.install(leg);
    socket.share_windows(windows);
  }
  uint32_t through_kernel(const Bytes& bytes) {
    return kernel.program().run(packet_of(arriving(kSender), bytes), kNow).action;
  }
  omerta_drop_reason through_socket(Bytes bytes) {
    return socket.judge_datagram(kSender, bytes.data(), static_cast<uint32_t>(bytes.size()), kNow).reason;
  }
};

void what_the_kernel_forwarded_the_socket_does_not() {
  TEST("a message the kernel forwarded is not forwarded by the socket");
  Both both;
  CHECK(both.through_kernel(frame(both.leg, 1)) == XDP_TX);
  CHECK(both.through_socket(frame(both.leg, 1)) == OMERTA_DROP_REPEATED);
  CHECK(both.through_socket(frame(both.leg, 2)) == OMERTA_DROP_NONE);
}

void what_the_socket_forwarded_the_kernel_does_not() {
  TEST("a message that passed to the socket is not forwarded by the kernel when a way is known");
  Both both;
  both.kernel.remember_way(both.leg, 60);  // too small for it: the socket's
  CHECK(both.through_kernel(frame(both.leg, 1)) == XDP_PASS);
  CHECK(both.through_socket(frame(both.leg, 1)) == OMERTA_DROP_NONE);
  both.kernel.remember_way(both.leg, 1000);
  CHECK(both.through_kernel(frame(both.leg, 1)) == XDP_DROP);
  CHECK(both.kernel.program().counters().drops[OMERTA_DROP_REPEATED] == 1);
  CHECK(both.through_kernel(frame(both.leg, 2)) == XDP_TX);
}

void a_leg_the_kernel_does_not_have_is_judged_by_the_sockets_window() {
  TEST("a leg that is not in the kernel has the socket's window, and a new leg in its place begins anew");
  Both both;
  both.kernel.remove(both.leg.leg_id);
  CHECK(both.through_socket(frame(both.leg, 1)) == OMERTA_DROP_NONE);
  CHECK(both.through_socket(frame(both.leg, 1)) == OMERTA_DROP_REPEATED);
  both.kernel.install(both.leg);
  CHECK(both.through_kernel(frame(both.leg, 2)) == XDP_TX);
  CHECK(both.through_socket(frame(both.leg, 2)) == OMERTA_DROP_REPEATED);
}

}  // namespace

int main() {
  return run_bpf_test([] {
    what_the_kernel_forwarded_the_socket_does_not();
    what_the_socket_forwarded_the_kernel_does_not();
    a_leg_the_kernel_does_not_have_is_judged_by_the_sockets_window();
  });
}
