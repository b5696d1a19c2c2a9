// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// BPF_PROG_TEST_RUN repeats one packet. This gives every repeat a packet of its own, on a random leg,
// and tail-calls the program under test, which is the very one that is attached to interfaces. What
// the rest costs is measured with `nothing` in its place, and subtracted.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "frames.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool over_v6 = false;
const volatile __u32 garbage_kind = KINDS; /* KINDS: all in turn */

__u64 random_state = 0x9E3779B97F4A7C15ULL;
__u64 sequence = 0;

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} under_test SEC(".maps");

/* A constant: the branch that is never taken is not there. */
#define PACKET_SIZE                                                                    \
  (sizeof(struct ethhdr) + (over_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) + \
   sizeof(struct udphdr) + FRAME_SIZE)

SEC("xdp")
int next_packet(struct xdp_md* ctx) {
  const __u32 i = random_below(&random_state, traffic.legs);
  /* The last one may have left for the other family, with a header of another length. */
  const int grown = (int)(ctx->data_end - ctx->data) - (int)PACKET_SIZE;

  if (grown && bpf_xdp_adjust_head(ctx, grown)) return XDP_ABORTED;
  if (!(over_v6 ? write_packet6(ctx, i, sequence) : write_packet4(ctx, i, sequence, 0))) return XDP_ABORTED;
  sequence++;
  bpf_tail_call_static(ctx, &under_test, 0);
  return XDP_ABORTED;
}

/* As next_packet, with garbage. */
SEC("xdp")
int next_garbage(struct xdp_md* ctx) {
  const int longer = (int)(ctx->data_end - ctx->data) - (int)PACKET_SIZE;

  if (longer && bpf_xdp_adjust_tail(ctx, -longer)) return XDP_ABORTED;
  if (!write_garbage(ctx, garbage_kind < KINDS ? garbage_kind : sequence, &random_state)) return XDP_ABORTED;
  sequence++;
  bpf_tail_call_static(ctx, &under_test, 0);
  return XDP_ABORTED;
}

SEC("xdp")
int nothing(struct xdp_md* ctx) { return XDP_TX; }

/* As `nothing`, and moves the head as a forwarder to the other family has to: for the driver to undo. */
SEC("xdp")
int nothing_moved(struct xdp_md* ctx) {
  const int grows = sizeof(struct ipv6hdr) - sizeof(struct iphdr);

  return bpf_xdp_adjust_head(ctx, over_v6 ? grows : -grows) ? XDP_ABORTED : XDP_TX;
}
