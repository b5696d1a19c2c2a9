/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Limits of a relay: what a frame that omerta_leg_judge() accepted may still be refused for, and what
 * it is charged to. Shared by C++ and BPF like omerta/wire.h, and as free of state.
 *
 * Terms
 *   rate      bytes/s and datagrams/s at once, by one bucket (GCRA, see struct omerta_rate)
 *   limits    what one leg may: a class that many legs name, so that changing it changes all of them
 *   account   an identity, a network or the host; what is charged to it, and its rate
 *   prefix    bucket of a source address's leading bits, in a table of fixed size
 *   policy    what holds for the whole relay
 *   demand    host time that frames asked for which no limit but the host's stood against
 *
 * Every leg is held to its limits. Only what is relayed for others (OMERTA_LEG_FORWARD) is charged to
 * accounts and prefixes: a node's own sessions and its control plane do not compete with it.
 *
 * A frame refused by one limit is charged to none.
 */
#ifndef OMERTA_LIMITS_H
#define OMERTA_LIMITS_H

#include <omerta/wire.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A rate limit: token bucket in its virtual-scheduling form (GCRA, ITU-T I.371) over one theoretical
 * arrival time. A datagram of n bytes is charged max(n * byte_interval / 65536, packet_interval) ns,
 * whichever is dearer, so that neither bytes/s nor datagrams/s exceeds its rate. It conforms if the
 * theoretical arrival time would then be at most `burst` ns ahead of now. Both intervals 0: no limit.
 */
struct omerta_rate {
  __u32 byte_interval;   /* ns per 65,536 bytes; 0 = bytes cost nothing */
  __u32 packet_interval; /* ns per datagram; 0 = datagrams cost nothing */
  __u32 burst;           /* ns */
};

/* A class of limits, named by omerta_leg.limits; 24 bytes. Class 0 is no limit until it is given one. */
struct omerta_limits {
  struct omerta_rate rate; /* of each leg by itself */
  __u32 reserved;
  __u64 byte_cap; /* what a leg may carry in all; 0 = no cap */
};

/*
 * What an identity, a network or the host has been charged; 64 bytes, a cache line. Rate: control
 * plane. packets and bytes: control plane, the counts of legs that are gone; those of live legs are in
 * the legs. The rest: engine.
 */
struct omerta_account {
  struct omerta_rate rate; /* unused in the host's: struct omerta_policy has it */
  __u32 reserved;
  __u64 theoretical_arrival;
  __u64 fair_arrival; /* identities: theoretical arrival time under the fair share */
  __u64 demand;       /* identities: ns of host time */
  __u64 refused;      /* datagrams its limit refused */
  __u64 packets;
  __u64 bytes;
};

/* What holds for the whole relay, written by the control plane; 64 bytes. */
struct omerta_policy {
  struct omerta_rate host;
  /*
   * Fair sharing of the host's rate between identities: an identity is charged fair_factor / 65536 of
   * what the host is charged, by the host's rate and with a burst of its own. So a share of one nth of
   * the host is n * 65536. 0 = no identity is held back.
   */
  __u32 fair_factor;
  struct omerta_rate prefix; /* of each source prefix */
  __u32 fair_burst;          /* ns */
  __u64 prefix_mask6;        /* leading bits of an IPv6 address, as loaded from it */
  __u32 prefix_mask4;        /* leading bits of an IPv4 address, as loaded from it */
  __u32 reserved;
  __u64 prefix_key; /* secret and odd: nobody can choose whose bucket to share */
  __u64 reserved2;
};

#define OMERTA_PREFIX_BUCKET_BITS 16
#define OMERTA_PREFIX_BUCKETS (1u << OMERTA_PREFIX_BUCKET_BITS)

/* Where a leg's frames are charged. */
struct omerta_books {
  const struct omerta_policy* policy;
  const struct omerta_limits* limits;
  struct omerta_account* identity;
  struct omerta_account* network;
  struct omerta_account* host;
  __u64* prefix; /* theoretical arrival time of the source's prefix */
};

/* Plain loads and stores of what others may change at the same time: whole, and in no order. */
#ifdef __bpf__
#define OMERTA_READ(p) (*(const volatile __typeof__(*(p))*)(p))
#define OMERTA_WRITE(p, v) (*(volatile __typeof__(*(p))*)(p) = (v))
#else
#define OMERTA_READ(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define OMERTA_WRITE(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#endif

/*
 * Whether a charge is due, without the BPF verifier taking note: it would follow each of the seven
 * charges of a frame both ways to the end, 128 ways in all.
 */
#ifdef __bpf__
#define OMERTA_DUE(charge)               \
  ({                                     \
    __u32 due = (charge)->due;           \
    asm volatile("%0 |= 0" : "+r"(due)); \
    due;                                 \
  })
#else
#define OMERTA_DUE(charge) ((charge)->due)
#endif

/* Compare-and-swaps before a contended bucket refuses: BPF wants a bound. */
#ifdef __bpf__
#define OMERTA_TAKE_ATTEMPTS 8
#else
#define OMERTA_TAKE_ATTEMPTS 0x7fffffff
#endif

/* What one datagram is charged under one rate. */
struct omerta_charge {
  __u64 cost; /* ns */
  __u32 burst;
  __u32 due; /* 0: there is no limit */
};

static inline __attribute__((always_inline)) struct omerta_charge omerta_charge_of(
    const struct omerta_rate* rate, __u32 size) {
  const __u32 byte_interval = OMERTA_READ(&rate->byte_interval);
  const __u32 packet_interval = OMERTA_READ(&rate->packet_interval);
  struct omerta_charge charge;

  charge.cost = ((__u64)size * byte_interval) >> 16;
  if (charge.cost < packet_interval) charge.cost = packet_interval;
  charge.burst = OMERTA_READ(&rate->burst);
  charge.due = byte_interval | packet_interval;
  return charge;
}

/* An identity's charge under the fair share, given the host's. */
static inline __attribute__((always_inline)) struct omerta_charge omerta_fair_charge(
    const struct omerta_policy* policy, const struct omerta_charge* host) {
  struct omerta_charge charge;

  charge.due = OMERTA_READ(&policy->fair_factor);
  charge.cost = (host->cost * charge.due) >> 16; /* below 2^48: both are below 2^32 */
  charge.burst = OMERTA_READ(&policy->fair_burst);
  return charge;
}

/* Whether the charge can be taken at `now`. */
static inline __attribute__((always_inline)) int omerta_conforms(const struct omerta_charge* charge,
                                                                 const __u64* theoretical_arrival,
                                                                 __u64 now) {
  __u64 arrival;

  if (!OMERTA_DUE(charge)) return 1;
  arrival = OMERTA_READ(theoretical_arrival);
  return (arrival < now ? now : arrival) + charge->cost - now <= charge->burst;
}

/* Takes the charge; 0 when another worker took it first. `shared`: there are other workers. */
static inline __attribute__((always_inline)) int omerta_take(const struct omerta_charge* charge,
                                                             __u64* theoretical_arrival, __u64 now,
                                                             int shared) {
  int i;

  if (!OMERTA_DUE(charge)) return 1;
  for (i = 0; i < OMERTA_TAKE_ATTEMPTS; i++) {
    const __u64 before = OMERTA_READ(theoretical_arrival);
    const __u64 arrival = (before < now ? now : before) + charge->cost;

    if (!shared) {
      OMERTA_WRITE(theoretical_arrival, arrival);
      return 1;
    }
    if (arrival - now > charge->burst) return 0;
    if (__sync_val_compare_and_swap(theoretical_arrival, before, arrival) == before) return 1;
  }
  return 0;
}

/* Undoes omerta_take(). */
static inline __attribute__((always_inline)) void omerta_give_back(const struct omerta_charge* charge,
                                                                   __u64* theoretical_arrival) {
  if (OMERTA_DUE(charge)) __sync_fetch_and_add(theoretical_arrival, -charge->cost);
}

/* Counts `n` more; returns what was counted before. */
static inline __attribute__((always_inline)) __u64 omerta_count(__u64* counter, __u64 n, int shared) {
  __u64 before;

  if (shared) return __sync_fetch_and_add(counter, n);
  before = OMERTA_READ(counter);
  OMERTA_WRITE(counter, before + n);
  return before;
}

/*
 * The bucket of an address's prefix: multiply-shift hashing (Dietzfelbinger, Hagerup, Katajainen,
 * Penttonen 1997) under a secret multiplier. Two prefixes share a bucket with a chance of at most 2 in
 * OMERTA_PREFIX_BUCKETS, and share its rate then.
 */
static inline __attribute__((always_inline)) __u32 omerta_prefix_bucket(const struct omerta_policy* policy,
                                                                        const struct omerta_address* source) {
  const __u64 high = omerta_load64(source->ip);
  const int v4 = !high && omerta_load32(source->ip + 8) == 0xffff0000;
  const __u64 prefix = v4 ? omerta_load32(source->ip + 12) & OMERTA_READ(&policy->prefix_mask4)
                          : high & OMERTA_READ(&policy->prefix_mask6);

  return (__u32)((prefix * OMERTA_READ(&policy->prefix_key)) >> (64 - OMERTA_PREFIX_BUCKET_BITS));
}

/*
 * Charges a frame that omerta_leg_judge() accepted and counts it on its leg, or returns the limit that
 * refuses it. Order: byte cap, then the rates of leg, identity, network, prefix, the fair share, the
 * host. `leg` is where the engine's own fields are counted; `action` is the leg's.
 */
static inline __attribute__((always_inline)) __u8 omerta_admit(struct omerta_leg* leg, __u8 action,
                                                               const struct omerta_books* books, __u32 size,
                                                               __u64 now, int shared) {
  const struct omerta_policy* policy = books->policy;
  const __u64 byte_cap = OMERTA_READ(&books->limits->byte_cap);
  const struct omerta_charge own = omerta_charge_of(&books->limits->rate, size);
  struct omerta_charge identity = {0, 0, 0}, network = identity, prefix = identity, fair = identity,
                       host = identity;
  __u8 reason;

  if (byte_cap && OMERTA_READ(&leg->bytes) + size > byte_cap) return OMERTA_DROP_BYTE_CAP;
  if (!omerta_conforms(&own, &leg->theoretical_arrival, now)) return OMERTA_DROP_RATE_LIMITED;
  if (action == OMERTA_LEG_FORWARD) {
    identity = omerta_charge_of(&books->identity->rate, size);
    network = omerta_charge_of(&books->network->rate, size);
    prefix = omerta_charge_of(&policy->prefix, size);
    host = omerta_charge_of(&policy->host, size);
    fair = omerta_fair_charge(policy, &host);
    if (!omerta_conforms(&identity, &books->identity->theoretical_arrival, now)) {
      omerta_count(&books->identity->refused, 1, shared);
      return OMERTA_DROP_IDENTITY_RATE;
    }
    if (!omerta_conforms(&network, &books->network->theoretical_arrival, now)) {
      omerta_count(&books->network->refused, 1, shared);
      return OMERTA_DROP_NETWORK_RATE;
    }
    if (!omerta_conforms(&prefix, books->prefix, now)) return OMERTA_DROP_PREFIX_RATE;
    if (OMERTA_DUE(&host)) omerta_count(&books->identity->demand, host.cost, shared);
    if (!omerta_conforms(&fair, &books->identity->fair_arrival, now)) {
      omerta_count(&books->identity->refused, 1, shared);
      return OMERTA_DROP_FAIR_SHARE;
    }
    if (!omerta_conforms(&host, &books->host->theoretical_arrival, now)) {
      omerta_count(&books->host->refused, 1, shared);
      return OMERTA_DROP_HOST_RATE;
    }

    /* Taken in the opposite order: what all workers share is lost to another one first. */
    if (!omerta_take(&host, &books->host->theoretical_arrival, now, shared)) return OMERTA_DROP_HOST_RATE;
    reason = OMERTA_DROP_FAIR_SHARE;
    if (!omerta_take(&fair, &books->identity->fair_arrival, now, shared)) goto give_back_host;
    reason = OMERTA_DROP_PREFIX_RATE;
    if (!omerta_take(&prefix, books->prefix, now, shared)) goto give_back_fair;
    reason = OMERTA_DROP_NETWORK_RATE;
    if (!omerta_take(&network, &books->network->theoretical_arrival, now, shared)) goto give_back_prefix;
    reason = OMERTA_DROP_IDENTITY_RATE;
    if (!omerta_take(&identity, &books->identity->theoretical_arrival, now, shared)) goto give_back_network;
  }
  reason = OMERTA_DROP_RATE_LIMITED;
  if (!omerta_take(&own, &leg->theoretical_arrival, now, shared)) goto give_back_identity;
  reason = OMERTA_DROP_BYTE_CAP;
  if (omerta_count(&leg->bytes, size, shared) + size > byte_cap && byte_cap && shared) goto give_back_own;
  omerta_count(&leg->packets, 1, shared);
  OMERTA_WRITE(&leg->last_used, now);
  return OMERTA_DROP_NONE;

give_back_own:
  __sync_fetch_and_add(&leg->bytes, -(__u64)size);
  omerta_give_back(&own, &leg->theoretical_arrival);
give_back_identity:
  if (action != OMERTA_LEG_FORWARD) return reason;
  omerta_give_back(&identity, &books->identity->theoretical_arrival);
give_back_network:
  omerta_give_back(&network, &books->network->theoretical_arrival);
give_back_prefix:
  omerta_give_back(&prefix, books->prefix);
give_back_fair:
  omerta_give_back(&fair, &books->identity->fair_arrival);
give_back_host:
  omerta_give_back(&host, &books->host->theoretical_arrival);
  return reason;
}

#ifdef __cplusplus
}
#define OMERTA_SIZE_IS(type, size) static_assert(sizeof(type) == (size), #type)
#else
#define OMERTA_SIZE_IS(type, size) _Static_assert(sizeof(type) == (size), #type)
#endif
OMERTA_SIZE_IS(struct omerta_limits, 24);
OMERTA_SIZE_IS(struct omerta_account, 64);
OMERTA_SIZE_IS(struct omerta_policy, 64);
#undef OMERTA_SIZE_IS
#endif
