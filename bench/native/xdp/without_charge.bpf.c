// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// The relay but for limits, accounts and the leg's counters, to see what those cost. For test runs only.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <omerta/wire.h>

#include "limits.h"
#define charge(leg, accounts, source, size, now) ((void)(accounts), OMERTA_DROP_NONE)

#include "relay.bpf.c"
