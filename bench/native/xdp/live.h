/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What live.bpf.c and the process that loads it share. */
#ifndef OMERTA_BENCH_LIVE_H
#define OMERTA_BENCH_LIVE_H

#define SEEN_WORDS (1 << 17) /* 8 million numbers */
#define LATENCIES 8192

#endif
