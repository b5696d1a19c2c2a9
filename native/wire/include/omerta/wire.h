/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The Omerta wire layout: the one description that C++ and BPF share.
 *
 * Frame (docs/protocol.md, "Omerta frame"); integers are little-endian, as in WireGuard:
 *
 *      0        1        2        3        4                                8
 *     +--------+--------+--------+--------+--------------------------------+
 *     | 6F 'o' |  kind  |hop lim.|epo|flag|             leg id             |
 *     +--------+--------+--------+--------+--------------------------------+
 *     |                              leg tag                               |
 *     +--------------------------------------------------------------------+ 16
 *     |                payload (at least 16 bytes, never moved)             |
 *
 * Terms
 *   leg       one hop of a circuit, named by an id its receiver chose
 *   tag       SipHash-2-4 under the leg's key; proves the sender was given the leg
 *   verdict   what becomes of a datagram; decided before its first byte is changed
 *
 * This header is freestanding C: BPF includes vmlinux.h first, user space <linux/types.h>.
 * It holds no state and calls nothing, so every function is a fixed sequence of loads, adds and
 * shifts that the BPF verifier can follow.
 */
#ifndef OMERTA_WIRE_H
#define OMERTA_WIRE_H

#ifndef __bpf__
#include <linux/types.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define OMERTA_FRAME_MAGIC 0x6F
#define OMERTA_FRAME_HEADER_SIZE 16u
/* The tag covers 16 payload bytes; a payload is never shorter, so no padding rule is needed. */
#define OMERTA_FRAME_MIN_PAYLOAD 16u
#define OMERTA_FRAME_MIN_SIZE (OMERTA_FRAME_HEADER_SIZE + OMERTA_FRAME_MIN_PAYLOAD)
#define OMERTA_FRAME_MAX_SIZE 65507u /* largest UDP payload over IPv4 */

#define OMERTA_FRAME_EPOCH_MASK 0x0F /* low nibble of byte 3: epoch of the key the tag was made with */
#define OMERTA_FRAME_FLAGS_MASK 0xF0 /* high nibble: reserved, zero */

/* Hop limit a first sender writes. A relay forwards only what still has at least 2 and writes one less. */
#define OMERTA_HOP_LIMIT_DEFAULT 8

/* Leg id 0 is the contact leg: the key is derived from the receiver's session public key. */
#define OMERTA_CONTACT_LEG 0u

enum omerta_frame_kind {
  OMERTA_KIND_FORWARD = 0x01,
  OMERTA_KIND_PROBE = 0x02,
  OMERTA_KIND_PROBE_REPLY = 0x03,
  OMERTA_KIND_ADMISSION_REQUEST = 0x10,
  OMERTA_KIND_ADMISSION_CHALLENGE = 0x11,
  OMERTA_KIND_ADMISSION_ANSWER = 0x12,
  OMERTA_KIND_ADMISSION_GRANT = 0x13,
  OMERTA_KIND_CONTACT = 0x20,
  OMERTA_KIND_NOTICE = 0x30,
};

#define OMERTA_WIREGUARD_INITIATION_SIZE 148u
#define OMERTA_WIREGUARD_RESPONSE_SIZE 92u
#define OMERTA_WIREGUARD_COOKIE_SIZE 64u
#define OMERTA_WIREGUARD_TRANSPORT_MIN_SIZE 32u
#define OMERTA_STUN_HEADER_SIZE 20u

/* What becomes of a datagram. */
enum omerta_verdict {
  OMERTA_DROP = 0,
  OMERTA_WIREGUARD = 1, /* a WireGuard message for this node's session engine */
  OMERTA_STUN = 2,      /* a STUN binding request */
  OMERTA_CONTROL = 3,   /* an authentic frame for the control plane */
  OMERTA_DELIVER = 4,   /* a frame that ends here: its payload is a WireGuard message */
  OMERTA_FORWARD = 5,   /* rewritten in place; to be sent to the leg's next address */
};

/* Every reason a datagram is dropped for; counters are registered from this list. */
#define OMERTA_DROP_REASONS(X)                \
  X(NONE, none)                               \
  X(EMPTY, empty)                             \
  X(UNKNOWN_PROTOCOL, unknown_protocol)       \
  X(MALFORMED_WIREGUARD, malformed_wireguard) \
  X(MALFORMED_STUN, malformed_stun)           \
  X(FRAME_TOO_SHORT, frame_too_short)         \
  X(FRAME_TOO_LONG, frame_too_long)           \
  X(UNKNOWN_KIND, unknown_kind)               \
  X(RESERVED_FLAGS, reserved_flags)           \
  X(UNKNOWN_LEG, unknown_leg)                 \
  X(WRONG_KIND, wrong_kind)                   \
  X(WRONG_KEY_EPOCH, wrong_key_epoch)         \
  X(WRONG_SOURCE, wrong_source)               \
  X(BAD_TAG, bad_tag)                         \
  X(EXPIRED, expired)                         \
  X(HOP_LIMIT, hop_limit)                     \
  X(RATE_LIMITED, rate_limited)               \
  X(BYTE_CAP, byte_cap)                       \
  X(IDENTITY_RATE, identity_rate)             \
  X(NETWORK_RATE, network_rate)               \
  X(PREFIX_RATE, prefix_rate)                 \
  X(FAIR_SHARE, fair_share)                   \
  X(HOST_RATE, host_rate)                     \
  X(REPEATED, repeated)

enum omerta_drop_reason {
#define OMERTA_X(upper, lower) OMERTA_DROP_##upper,
  OMERTA_DROP_REASONS(OMERTA_X)
#undef OMERTA_X
      OMERTA_DROP_REASON_COUNT
};

enum omerta_leg_action {
  OMERTA_LEG_FORWARD = 1, /* re-tag and send on */
  OMERTA_LEG_DELIVER = 2, /* the payload is for this node's session engine */
  OMERTA_LEG_CONTROL = 3, /* the frame is for this node's control plane */
};

#define OMERTA_LEG_ANY_SOURCE 0x01 /* flags: do not compare the source address */

/* An address in canonical form: IPv4 is written v4-mapped (::ffff:a.b.c.d); the port is big-endian. */
struct omerta_address {
  __u8 ip[16];
  __u16 port;
};

/*
 * One entry of the forwarding table, 128 bytes. Everything up to `limits` is written by the control
 * plane; the rest belongs to the engine. What it may carry is in omerta/limits.h.
 */
struct omerta_leg {
  __u32 leg_id;
  __u8 action;
  __u8 flags;
  __u8 key_epoch;
  __u8 next_key_epoch;
  __u8 source_ip[16];
  __u8 next_ip[16];
  __u16 source_port;
  __u16 next_port;
  __u32 next_leg_id;
  __u64 key[2];
  __u64 next_key[2];
  __u64 expires_at; /* ns of CLOCK_BOOTTIME; 0 = never */
  __u32 identity;   /* account of the identity that pays; 0 = nobody's in particular */
  __u16 network;    /* account of the network it is for; 0 = none in particular */
  __u16 limits;     /* class of limits */

  __u64 theoretical_arrival;
  __u64 packets;
  __u64 bytes;
  __u64 last_used; /* ns of CLOCK_BOOTTIME */
};

/* Classifies a datagram by its first bytes (PROTOCOL "One UDP port"). Fixed sizes are enforced here. */
struct omerta_classification {
  __u8 verdict; /* WIREGUARD, STUN, or FORWARD for "an Omerta frame, to be judged"; else DROP */
  __u8 reason;
};

static inline __attribute__((always_inline)) __u64 omerta_rotl64(__u64 x, int b) {
  return (x << b) | (x >> (64 - b));
}

#define OMERTA_SIPROUND(v0, v1, v2, v3) \
  do {                                  \
    v0 += v1;                           \
    v1 = omerta_rotl64(v1, 13);         \
    v1 ^= v0;                           \
    v0 = omerta_rotl64(v0, 32);         \
    v2 += v3;                           \
    v3 = omerta_rotl64(v3, 16);         \
    v3 ^= v2;                           \
    v0 += v3;                           \
    v3 = omerta_rotl64(v3, 21);         \
    v3 ^= v0;                           \
    v2 += v1;                           \
    v1 = omerta_rotl64(v1, 17);         \
    v1 ^= v2;                           \
    v2 = omerta_rotl64(v2, 32);         \
  } while (0)

/*
 * The leg tag: SipHash-2-4 (Aumasson & Bernstein 2012) of the 32-byte string
 * header[0..8) ‖ u64 payload length ‖ payload[0..16), read as four little-endian words.
 */
static inline __attribute__((always_inline)) __u64 omerta_tag(const __u64 key[2], __u64 header,
                                                              __u64 payload_length, __u64 payload0,
                                                              __u64 payload1) {
  __u64 v0 = 0x736f6d6570736575ULL ^ key[0];
  __u64 v1 = 0x646f72616e646f6dULL ^ key[1];
  __u64 v2 = 0x6c7967656e657261ULL ^ key[0];
  __u64 v3 = 0x7465646279746573ULL ^ key[1];
  const __u64 last = 32ULL << 56;

#define OMERTA_SIPWORD(m)            \
  do {                               \
    v3 ^= (m);                       \
    OMERTA_SIPROUND(v0, v1, v2, v3); \
    OMERTA_SIPROUND(v0, v1, v2, v3); \
    v0 ^= (m);                       \
  } while (0)
  OMERTA_SIPWORD(header);
  OMERTA_SIPWORD(payload_length);
  OMERTA_SIPWORD(payload0);
  OMERTA_SIPWORD(payload1);
  OMERTA_SIPWORD(last);
#undef OMERTA_SIPWORD
  v2 ^= 0xff;
  OMERTA_SIPROUND(v0, v1, v2, v3);
  OMERTA_SIPROUND(v0, v1, v2, v3);
  OMERTA_SIPROUND(v0, v1, v2, v3);
  OMERTA_SIPROUND(v0, v1, v2, v3);
  return v0 ^ v1 ^ v2 ^ v3;
}

/*
 * Loads and stores at any alignment. BPF has no unaligned type: clang would take a copy apart into
 * bytes, and the verifier of every machine we run on allows the plain access.
 */
static inline __attribute__((always_inline)) __u64 omerta_load64(const void* p) {
#ifdef __bpf__
  return *(const __u64*)p;
#else
  __u64 v;
  __builtin_memcpy(&v, p, 8);
  return v;
#endif
}

static inline __attribute__((always_inline)) __u32 omerta_load32(const void* p) {
#ifdef __bpf__
  return *(const __u32*)p;
#else
  __u32 v;
  __builtin_memcpy(&v, p, 4);
  return v;
#endif
}

static inline __attribute__((always_inline)) void omerta_store64(void* p, __u64 v) {
#ifdef __bpf__
  *(__u64*)p = v;
#else
  __builtin_memcpy(p, &v, 8);
#endif
}

static inline __attribute__((always_inline)) void omerta_store32(void* p, __u32 v) {
#ifdef __bpf__
  *(__u32*)p = v;
#else
  __builtin_memcpy(p, &v, 4);
#endif
}

/* The tag of a frame of `size` bytes; at least OMERTA_FRAME_MIN_SIZE of them must be readable. */
static inline __attribute__((always_inline)) __u64 omerta_frame_tag(const __u64 key[2], const __u8* frame,
                                                                    __u32 size) {
  return omerta_tag(key, omerta_load64(frame), size - OMERTA_FRAME_HEADER_SIZE, omerta_load64(frame + 16),
                    omerta_load64(frame + 24));
}

static inline __attribute__((always_inline)) int omerta_kind_known(__u8 kind) {
  return (kind >= OMERTA_KIND_FORWARD && kind <= OMERTA_KIND_PROBE_REPLY) ||
         (kind >= OMERTA_KIND_ADMISSION_REQUEST && kind <= OMERTA_KIND_ADMISSION_GRANT) ||
         kind == OMERTA_KIND_CONTACT || kind == OMERTA_KIND_NOTICE;
}

/*
 * Classifies a datagram of `size` bytes of which the first min(size, 8) are readable at `data`.
 * verdict OMERTA_FORWARD means: a frame whose size, kind and flags are in order; look its leg up.
 */
static inline __attribute__((always_inline)) struct omerta_classification omerta_classify(const __u8* data,
                                                                                          __u32 size) {
  struct omerta_classification c = {OMERTA_DROP, OMERTA_DROP_UNKNOWN_PROTOCOL};

  if (size == 0) {
    c.reason = OMERTA_DROP_EMPTY;
    return c;
  }
  if (data[0] == OMERTA_FRAME_MAGIC) {
    if (size < OMERTA_FRAME_MIN_SIZE) {
      c.reason = OMERTA_DROP_FRAME_TOO_SHORT;
      return c;
    }
    if (size > OMERTA_FRAME_MAX_SIZE) {
      c.reason = OMERTA_DROP_FRAME_TOO_LONG;
      return c;
    }
    if (!omerta_kind_known(data[1])) {
      c.reason = OMERTA_DROP_UNKNOWN_KIND;
      return c;
    }
    if (data[3] & OMERTA_FRAME_FLAGS_MASK) {
      c.reason = OMERTA_DROP_RESERVED_FLAGS;
      return c;
    }
    c.verdict = OMERTA_FORWARD;
    c.reason = OMERTA_DROP_NONE;
    return c;
  }
  if (data[0] >= 1 && data[0] <= 4) {
    if (size < 8 || data[1] || data[2] || data[3] ||
        (data[0] == 1 && size != OMERTA_WIREGUARD_INITIATION_SIZE) ||
        (data[0] == 2 && size != OMERTA_WIREGUARD_RESPONSE_SIZE) ||
        (data[0] == 3 && size != OMERTA_WIREGUARD_COOKIE_SIZE) ||
        (data[0] == 4 && size < OMERTA_WIREGUARD_TRANSPORT_MIN_SIZE)) {
      c.reason = OMERTA_DROP_MALFORMED_WIREGUARD;
      return c;
    }
    c.verdict = OMERTA_WIREGUARD;
    c.reason = OMERTA_DROP_NONE;
    return c;
  }
  if (data[0] == 0) {
    /* RFC 8489 section 5: type 0x0001, magic cookie at offset 4. */
    if (size < OMERTA_STUN_HEADER_SIZE || data[1] != 0x01 || data[4] != 0x21 || data[5] != 0x12 ||
        data[6] != 0xA4 || data[7] != 0x42) {
      c.reason = OMERTA_DROP_MALFORMED_STUN;
      return c;
    }
    c.verdict = OMERTA_STUN;
    c.reason = OMERTA_DROP_NONE;
    return c;
  }
  return c;
}

/* What a leg accepts, in the order a stranger's datagram is turned away. */
static inline __attribute__((always_inline)) int omerta_leg_accepts_kind(__u8 action, __u8 kind) {
  if (action == OMERTA_LEG_CONTROL) return kind != OMERTA_KIND_FORWARD;
  return kind == OMERTA_KIND_FORWARD;
}

/*
 * A table may keep a sequence counter in the bits of the first eight bytes that no leg uses
 * (omerta/leg_slots.h): what is judged by is read without them.
 */
#define OMERTA_LEG_ACTION_MASK 0x03

static inline __attribute__((always_inline)) __u8 omerta_leg_action(const struct omerta_leg* leg) {
  return leg->action & OMERTA_LEG_ACTION_MASK;
}

/* The part of omerta_leg_judge() before the tag: kind, epoch, source. */
static inline __attribute__((always_inline)) __u8 omerta_leg_judge_sender(
    const struct omerta_leg* leg, const __u8* frame, const struct omerta_address* source) {
  if (!omerta_leg_accepts_kind(omerta_leg_action(leg), frame[1])) return OMERTA_DROP_WRONG_KIND;
  if ((frame[3] ^ leg->key_epoch) & OMERTA_FRAME_EPOCH_MASK) return OMERTA_DROP_WRONG_KEY_EPOCH;
  if (!(leg->flags & OMERTA_LEG_ANY_SOURCE) &&
      ((omerta_load64(leg->source_ip) ^ omerta_load64(source->ip)) |
       (omerta_load64(leg->source_ip + 8) ^ omerta_load64(source->ip + 8)) |
       (__u64)(leg->source_port ^ source->port)))
    return OMERTA_DROP_WRONG_SOURCE;
  return OMERTA_DROP_NONE;
}

/* The rest: the tag, which ought to be `tag`, expiry, hop limit. */
static inline __attribute__((always_inline)) __u8 omerta_leg_judge_tag(const struct omerta_leg* leg,
                                                                       const __u8* frame, __u64 tag,
                                                                       __u64 now) {
  /* One 64-bit comparison: constant time. */
  if (tag ^ omerta_load64(frame + 8)) return OMERTA_DROP_BAD_TAG;
  if (leg->expires_at && now >= leg->expires_at) return OMERTA_DROP_EXPIRED;
  if (omerta_leg_action(leg) == OMERTA_LEG_FORWARD && frame[2] < 2) return OMERTA_DROP_HOP_LIMIT;
  return OMERTA_DROP_NONE;
}

/*
 * Judges a classified frame against the leg it names. Nothing is written: neither frame nor leg.
 * Returns OMERTA_DROP_NONE or the reason. Order: kind, epoch, source, tag, expiry, hop limit; a
 * frame that fails the tag has no say in anything that is counted against the leg.
 */
static inline __attribute__((always_inline)) __u8 omerta_leg_judge(const struct omerta_leg* leg,
                                                                   const __u8* frame, __u32 size,
                                                                   const struct omerta_address* source,
                                                                   __u64 now) {
  const __u8 reason = omerta_leg_judge_sender(leg, frame, source);

  if (reason != OMERTA_DROP_NONE) return reason;
  return omerta_leg_judge_tag(leg, frame, omerta_frame_tag(leg->key, frame, size), now);
}

/* Rewrites an accepted frame in place for the leg's next hop: hop limit, epoch, leg id, tag. */
static inline __attribute__((always_inline)) void omerta_leg_rewrite(const struct omerta_leg* leg,
                                                                     __u8* frame, __u32 size) {
  frame[2] -= 1;
  frame[3] = leg->next_key_epoch & OMERTA_FRAME_EPOCH_MASK;
  omerta_store32(frame + 4, leg->next_leg_id);
  omerta_store64(frame + 8, omerta_frame_tag(leg->next_key, frame, size));
}

#ifdef __cplusplus
}
static_assert(sizeof(struct omerta_leg) == 128, "a leg is 128 bytes (docs/architecture.md)");
#else
_Static_assert(sizeof(struct omerta_leg) == 128, "a leg is 128 bytes (docs/architecture.md)");
#endif
#endif
