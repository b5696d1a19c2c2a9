// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// The relay with a clock that stands still, to see what reading it costs. For test runs only.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <omerta/wire.h>

#define bpf_ktime_get_boot_ns() test_clock

#include "relay.bpf.c"
