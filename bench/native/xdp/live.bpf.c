// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Load and sink of the end-to-end benchmark. `generate` is run by BPF_PROG_TEST_RUN with live frames: a
// frame it sends leaves by the client's interface, one that is not due yet goes back to be used again.
// `sink` counts what arrives at the server's, checks its tag, its number and how long it took.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "frames.h"
#include "live.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile bool turn = false;
const volatile __u64 interval = 0; /* ns from one frame to the next; 0: as fast as it goes */
/* Garbage at every so many calls that no frame is due at; 0: none. */
const volatile __u32 flood = 0;

__u64 start = 0, sent = 0, garbage = 0, allowed = 0, calls = 0;
__u64 now = 0; /* as the clock was read last; 0 without an interval */
__u64 random_state = 0x9E3779B97F4A7C15ULL;

/* What arrived: intact, once more, not as it was sent, and of another run. */
__u64 intact = 0, repeated = 0, corrupt = 0, stale = 0;
__u32 run = 0;

/* Numbers that have arrived, a bit each. A run has no more, or those beyond it go unnoticed when they repeat.
 */
__u64 seen[SEEN_WORDS];
/* Frames by the whole µs they took; the last has the rest. */
__u64 latencies[LATENCIES];

/* Frames that come together, as a network card's interrupt moderation has them come. */
#define BURST 32
#define CLOCK_READ_EVERY 8 /* calls: reading the clock costs as much as writing a frame */

SEC("xdp")
int generate(struct xdp_md* ctx) {
  const bool due = !interval || sent < allowed;
  bool written;
  __u32 i;

  if (calls++ % CLOCK_READ_EVERY == 0 && interval) {
    now = bpf_ktime_get_ns();
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
  written = turn ? write_packet_turn(ctx, i, sent, now) : write_packet4(ctx, i, sent, now);
  if (!written) return XDP_ABORTED;
  sent++;
  return XDP_TX;
}

/* Whether it is the first with this number. */
static __always_inline bool is_new(__u64 number) {
  const __u64 bit = 1ULL << (number % 64);

  return number / 64 >= SEEN_WORDS || !(__sync_fetch_and_or(&seen[number / 64], bit) & bit);
}

static __always_inline void count_latency(__u64 time) {
  __u64 us = (bpf_ktime_get_ns() - time) / 1000;

  asm volatile(
      ""
      : "+r"(us)); /* else the compiler compares before it divides, which the verifier cannot follow */
  if (time) __sync_fetch_and_add(&latencies[us < LATENCIES ? us : LATENCIES - 1], 1);
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
  if (omerta_frame_tag(key, frame, FRAME_SIZE) != omerta_load64(frame + 8)) {
    __sync_fetch_and_add(&corrupt, 1);
  } else if (!is_new(omerta_load64(frame + BENCH_SEQUENCE_AT))) {
    __sync_fetch_and_add(&repeated, 1);
  } else {
    __sync_fetch_and_add(&intact, 1);
    count_latency(omerta_load64(frame + BENCH_TIME_AT));
  }
  return XDP_DROP;
}
