// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Faults for tests, attached with tc(8): what a network device or driver does that handles coalesced
// packets (GSO, GRO) wrongly. Others pass.
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SEC(name) __attribute__((section(name), used))

static long (*const store_bytes)(struct __sk_buff* skb, __u32 offset, const void* from, __u32 length,
                                 __u64 flags) = (void*)BPF_FUNC_skb_store_bytes;

char terms[] SEC("license") = "Dual BSD/GPL";

// Loses them.
SEC("lose")
int lose_segmented(struct __sk_buff* skb) { return skb->gso_segs > 1 ? TC_ACT_SHOT : TC_ACT_OK; }

// Changes one byte of each segment: Ethernet, IPv4 and UDP headers are 42 bytes, the AEAD covers the rest.
SEC("spoil")
int spoil_segmented(struct __sk_buff* skb) {
  if (skb->gso_segs < 2) return TC_ACT_OK;
  const __u8 wrong = 0x5a;
  __u32 at = 42 + 40;
  for (int i = 0; i < 64; i++) {
    if (at >= skb->len) break;
    store_bytes(skb, at, &wrong, 1, 0);
    at += skb->gso_size;
  }
  return TC_ACT_OK;
}
