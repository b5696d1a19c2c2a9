// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Load and sink of the end-to-end benchmark. `generate` is run by BPF_PROG_TEST_RUN with live frames: a
// frame it sends leaves by the client's interface, one that is not due yet goes back to be used again.
// `sink` counts what arrives at the server's, and checks its tag.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "frames.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool turn = false;
const volatile __u64 interval = 0; /* ns from one frame to the next; 0: as fast as it goes */
/* Garbage at every so many calls that no frame is due at; 0: none. */
const volatile __u32 flood = 0;

__u64 start = 0, sent = 0, garbage = 0, allowed = 0, calls = 0;
__u64 random_state = 0x9E3779B97F4A7C15ULL;

/* What arrived: intact, not as it was sent, and of another run. */
__u64 intact = 0, corrupt = 0, stale = 0;
__u32 run = 0;

/* Frames that come together, as a network card's interrupt moderation has them come. */
#define BURST 32
#define CLOCK_READ_EVERY 8 /* calls: reading the clock costs as much as writing a frame */

SEC("xdp")
int generate(struct xdp_md* ctx) {
  const bool due = !interval || sent < allowed;
  bool written;
  __u32 i;

  if (calls++ % CLOCK_READ_EVERY == 0 && interval) {
    const __u64 now = bpf_ktime_get_ns();

    if (!start) start = now;
    allowed = (now - start) / interval / BURST * BURST;
    /* What was missed while another thread had the core is not made up for: it would come all at once. */
    if (allowed > sent + BURST) {
      start += (allowed - sent - BURST) * interval;
      allowed = sent + BURST;
    }
  }
  if (!due) {
    if (!flood || calls % flood != 0) return XDP_DROP;
    return write_garbage(ctx, garbage++, &random_state) ? XDP_TX : XDP_ABORTED;
  }
  i = random_below(&random_state, traffic.legs);
  written = turn ? write_packet_turn(ctx, i, sent) : write_packet4(ctx, i, sent);
  if (!written) return XDP_ABORTED;
  sent++;
  return XDP_TX;
}

SEC("xdp")
int sink(struct xdp_md* ctx) {
  struct ethhdr* ethernet = (void*)(long)ctx->data;
  struct iphdr* ip = (void*)(ethernet + 1);
  struct udphdr* udp = (void*)(ip + 1);
  __u8* frame = (void*)(udp + 1);
  __u64 key[2];

  if ((void*)(frame + FRAME_SIZE) > (void*)(long)ctx->data_end) return XDP_PASS;
  if (ethernet->h_proto != bpf_htons(IPV4) || ip->protocol != IPPROTO_UDP || frame[0] != OMERTA_FRAME_MAGIC)
    return XDP_PASS;
  if (omerta_load32(frame + BENCH_RUN_AT) != run) {
    __sync_fetch_and_add(&stale, 1);
    return XDP_DROP;
  }
  bench_leg_key(omerta_load32(frame + 4), key);
  if (omerta_frame_tag(key, frame, FRAME_SIZE) == omerta_load64(frame + 8))
    __sync_fetch_and_add(&intact, 1);
  else
    __sync_fetch_and_add(&corrupt, 1);
  return XDP_DROP;
}
