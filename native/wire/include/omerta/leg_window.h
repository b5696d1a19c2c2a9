/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a leg has let through, so that what somebody overheard and sends again is not forwarded, counted and
 * charged to the leg's owner once more. Shared by C++ and BPF like omerta/wire.h.
 *
 * Whoever overhears a frame can send it again with its tag. The 16 bytes of the payload that the tag covers
 * tell one WireGuard message from another:
 *
 *   type 4      receiver index u32, counter u64: a counter occurs once in a session
 *   types 1-3   sender or receiver index, and 4 or 8 bytes of a fresh key or nonce: the tag itself is as
 *               good as unique, and a message sent again by WireGuard is a new one
 *
 * Terms
 *   session   a receiver index that transport messages on the leg name; the leg knows the last three, the
 *             latest first: a rekeying has two at a time, and one more while its keys are upgraded
 *   seen      bit i: the counter `greatest` - i came by; the 32 last counters are told apart exactly
 *   missed    counters older than those that never came by: what is still on its way, or was lost
 *
 * A counter older than `seen` reaches is taken while `missed` lasts, at most OMERTA_WINDOW_REACH behind. So
 * any reordering passes, however late, and whatever is repeated, a leg never takes more messages of a session
 * than its sender numbered. Counters are taken modulo 2^32: a session lives 180 s.
 *
 * 64 bytes, a cache line, apart from the leg's 128: those are shared with the control plane and pinned.
 */
#ifndef OMERTA_LEG_WINDOW_H
#define OMERTA_LEG_WINDOW_H

#include <omerta/limits.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OMERTA_WINDOW_SESSIONS 3
#define OMERTA_WINDOW_HANDSHAKES 3
#define OMERTA_WINDOW_SEEN 32u
#define OMERTA_WINDOW_REACH 65536u

struct omerta_window_session {
  __u32 index;
  __u32 greatest;
  __u32 seen; /* 0: no session; else bit 0 is set */
  __u32 missed;
};

struct omerta_leg_window {
  __u32 lock;                                 /* 1: somebody is at it */
  __u32 handshakes[OMERTA_WINDOW_HANDSHAKES]; /* of the last ones, 32 bits of the tag; the latest first */
  struct omerta_window_session sessions[OMERTA_WINDOW_SESSIONS];
};

/* Somebody holds it for a few instructions; BPF wants a bound. */
#ifdef __bpf__
#define OMERTA_WINDOW_ATTEMPTS 64
#else
#define OMERTA_WINDOW_ATTEMPTS 0x7fffffff
#endif

static inline __attribute__((always_inline)) int omerta_window_lock(struct omerta_leg_window* window) {
  __u32 i;

  for (i = 0; i < OMERTA_WINDOW_ATTEMPTS; i++)
    if (!OMERTA_READ(&window->lock) && !__sync_val_compare_and_swap(&window->lock, 0, 1)) return 1;
  return 0;
}

static inline __attribute__((always_inline)) void omerta_window_unlock(struct omerta_leg_window* window) {
  __sync_val_compare_and_swap(&window->lock, 1, 0);
}

static inline __attribute__((always_inline)) __u32 omerta_ones(__u32 x) {
  x -= (x >> 1) & 0x55555555;
  x = (x & 0x33333333) + ((x >> 2) & 0x33333333);
  x = (x + (x >> 4)) & 0x0f0f0f0f;
  return (x * 0x01010101) >> 24;
}

/* Whether this counter is new to the session it names; it is not from then on. */
static inline __attribute__((always_inline)) int omerta_session_takes(struct omerta_window_session* session,
                                                                      __u32 counter) {
  const __u32 greatest = OMERTA_READ(&session->greatest);
  const __u32 seen = OMERTA_READ(&session->seen);
  const __u32 missed = OMERTA_READ(&session->missed);
  const __u32 ahead = counter - greatest;
  const __u32 behind = greatest - counter;

  if ((__s32)ahead > 0) {
    /* What leaves `seen` without having come by, and what it passes over. */
    const __u32 left = ahead < OMERTA_WINDOW_SEEN
                           ? omerta_ones(~seen >> (OMERTA_WINDOW_SEEN - ahead))
                           : OMERTA_WINDOW_SEEN - omerta_ones(seen) + (ahead - OMERTA_WINDOW_SEEN);
    const __u32 total = missed + left;

    OMERTA_WRITE(&session->greatest, counter);
    OMERTA_WRITE(&session->seen, (ahead < OMERTA_WINDOW_SEEN ? seen << ahead : 0) | 1);
    OMERTA_WRITE(&session->missed,
                 total < missed || total > OMERTA_WINDOW_REACH ? OMERTA_WINDOW_REACH : total);
    return 1;
  }
  if (behind < OMERTA_WINDOW_SEEN) {
    if (seen >> behind & 1) return 0;
    OMERTA_WRITE(&session->seen, seen | (__u32)1 << behind);
    return 1;
  }
  if (behind >= OMERTA_WINDOW_REACH || !missed) return 0;
  OMERTA_WRITE(&session->missed, missed - 1);
  return 1;
}

/* A session the leg does not know (any more): the oldest one is forgotten for it. */
static inline __attribute__((always_inline)) void omerta_window_begin(struct omerta_leg_window* window,
                                                                      __u32 index, __u32 counter) {
  struct omerta_window_session* session = window->sessions;
  int i;

  for (i = OMERTA_WINDOW_SESSIONS - 1; i > 0; i--) {
    OMERTA_WRITE(&session[i].index, OMERTA_READ(&session[i - 1].index));
    OMERTA_WRITE(&session[i].greatest, OMERTA_READ(&session[i - 1].greatest));
    OMERTA_WRITE(&session[i].seen, OMERTA_READ(&session[i - 1].seen));
    OMERTA_WRITE(&session[i].missed, OMERTA_READ(&session[i - 1].missed));
  }
  OMERTA_WRITE(&session->index, index);
  OMERTA_WRITE(&session->greatest, counter);
  /* There are no counters below 0 to be missed. */
  OMERTA_WRITE(&session->seen, counter < OMERTA_WINDOW_SEEN - 1 ? ~(__u32)0 << (counter + 1) | 1 : 1);
  OMERTA_WRITE(&session->missed, 0);
}

static inline __attribute__((always_inline)) int omerta_window_judge(struct omerta_leg_window* window,
                                                                     __u64 first, __u64 second, __u64 tag) {
  const __u32 index = (__u32)(first >> 32);
  int i;

  if ((__u32)first == 4) {
    const __u32 counter = (__u32)second;

    for (i = 0; i < OMERTA_WINDOW_SESSIONS; i++) {
      struct omerta_window_session* session = &window->sessions[i];

      if (OMERTA_READ(&session->index) == index && OMERTA_READ(&session->seen))
        return omerta_session_takes(session, counter);
    }
    omerta_window_begin(window, index, counter);
    return 1;
  }
  for (i = 0; i < OMERTA_WINDOW_HANDSHAKES; i++)
    if (OMERTA_READ(&window->handshakes[i]) == (__u32)tag && (__u32)tag) return 0;
  for (i = OMERTA_WINDOW_HANDSHAKES - 1; i > 0; i--)
    OMERTA_WRITE(&window->handshakes[i], OMERTA_READ(&window->handshakes[i - 1]));
  OMERTA_WRITE(&window->handshakes[0], (__u32)tag);
  return 1;
}

/*
 * Whether an authentic frame's message, whose first 16 bytes are `first` and `second`, is new to the leg that
 * `window` belongs to; a second one is not. What is no WireGuard message always is. `shared`: several threads
 * judge. Whoever cannot get at the window in OMERTA_WINDOW_ATTEMPTS attempts takes the message unseen.
 */
static inline __attribute__((always_inline)) int omerta_window_takes(struct omerta_leg_window* window,
                                                                     __u64 first, __u64 second, __u64 tag,
                                                                     int shared) {
  int taken;

  if ((__u32)first - 1 > 3) return 1;
  if (!shared) return omerta_window_judge(window, first, second, tag);
  if (!omerta_window_lock(window)) return 1;
  taken = omerta_window_judge(window, first, second, tag);
  omerta_window_unlock(window);
  return taken;
}

/* For another leg from now on. */
static inline void omerta_window_clear(struct omerta_leg_window* window) {
  __u32 i;

  for (i = 1; i < sizeof(*window) / sizeof(__u32); i++) OMERTA_WRITE((__u32*)window + i, 0);
}

#ifdef __cplusplus
}
static_assert(sizeof(struct omerta_leg_window) == 64, "a cache line");
#else
_Static_assert(sizeof(struct omerta_leg_window) == 64, "a cache line");
#endif
#endif
