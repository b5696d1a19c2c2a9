// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// The relay with a next hop that is taken for good: not compared, never asked for. For test runs only.
#include "vmlinux.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <omerta/wire.h>

#include <omerta/xdp_maps.h>
#include "datagram.h"
extern struct omerta_xdp_settings settings;
#include "next_hop.h"
#define is_way(hop, leg, ingress, now) (hop)->interface

#include "relay.bpf.c"
