// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// The relay but for the tag of the next leg, to see what that costs. For test runs only.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <omerta/tag_pair.h>

static __always_inline struct omerta_tag_pair tags_but_some(const struct omerta_leg* leg, const __u8* frame,
                                                            __u32 size) {
  struct omerta_tag_pair tags;

  tags.in = omerta_frame_tag(leg->key, frame, size);
  tags.out = 0;
  return tags;
}
#define omerta_tag_pair_of tags_but_some

#include "relay.bpf.c"
