// SPDX-License-Identifier: Apache-2.0
// WireGuard's numbers (whitepaper section 6; Linux drivers/net/wireguard/messages.h).
#pragma once

#include "common/clock.h"

namespace omerta::session {

/// The time at which something is due that is not to happen.
inline constexpr Nanoseconds kNever = UINT64_MAX;

inline constexpr Nanoseconds kRekeyTimeout = 5 * kSecond;
inline constexpr Nanoseconds kRekeyTimeoutJitter = 333 * kMillisecond;
inline constexpr Nanoseconds kRekeyAttemptTime = 90 * kSecond;
inline constexpr Nanoseconds kRekeyAfterTime = 120 * kSecond;
inline constexpr Nanoseconds kRejectAfterTime = 180 * kSecond;
inline constexpr Nanoseconds kKeepaliveTimeout = 10 * kSecond;
/// The initiator renews on receive once a key is this old: reject − keepalive − rekey timeout.
inline constexpr Nanoseconds kRekeyAfterTimeReceiving = kRejectAfterTime - kKeepaliveTimeout - kRekeyTimeout;
inline constexpr Nanoseconds kNewHandshakeTimeout = kKeepaliveTimeout + kRekeyTimeout;
inline constexpr Nanoseconds kZeroKeysTime = 3 * kRejectAfterTime;
inline constexpr uint64_t kRekeyAfterMessages = uint64_t{1} << 60;
inline constexpr uint64_t kRejectAfterMessages = UINT64_MAX - (uint64_t{1} << 13);
/// AES-256-GCM: an attacker's advantage stays below 2^-57 up to 2^35 blocks under one key (RFC 9001,
/// appendix B.1). Renewal is asked for at half of that; at the limit the session goes on in its first keys.
inline constexpr uint64_t kRekeyAfterGcmBytes = uint64_t{1} << 38;
inline constexpr uint64_t kRejectAfterGcmBytes = uint64_t{1} << 39;
inline constexpr Nanoseconds kCookieLifetime = 120 * kSecond;
/// The sender stops using a cookie a little before the receiver's secret can have rotated twice.
inline constexpr Nanoseconds kCookieUseTime = kCookieLifetime - 5 * kSecond;
/// At most 50 initiations a second of one peer are answered.
inline constexpr Nanoseconds kInitiationInterval = kSecond / 50;
/// An explicit request may repeat an initiation sooner than REKEY_TIMEOUT, but not in a tight loop.
inline constexpr Nanoseconds kForcedHandshakeInterval = 200 * kMillisecond;
/// When two initiations cross, both sides would become responders and wait for each other until the
/// retry. One of them goes on as initiator instead: the one with the lower key, if its own message
/// is young enough to be still on its way.
inline constexpr Nanoseconds kCrossingTime = 500 * kMillisecond;
/// Handshakes answered per second without asking for a cookie. One costs about 0.3 ms of CPU.
inline constexpr uint64_t kHandshakesPerSecond = 1000;
inline constexpr uint64_t kHandshakeBurst = 200;
/// For so long after there were more, every sender has to prove its address by a cookie.
inline constexpr Nanoseconds kUnderLoadTime = kSecond;
/// Meanwhile, handshakes of one prefix whose address is proven (Linux drivers/net/wireguard/ratelimiter.c).
inline constexpr uint64_t kSourceHandshakesPerSecond = 20;
inline constexpr uint64_t kSourceHandshakeBurst = 5;
inline constexpr size_t kMaxStagedPackets = 128;
/// Traffic class of initiations and responses (Linux drivers/net/wireguard/messages.h, HANDSHAKE_DSCP):
/// AF41, not ECN-capable.
inline constexpr uint8_t kHandshakeTrafficClass = 0x88;
/// Suites (docs/protocol.md): an offer goes out behind a packet that followed another at most this closely,
/// in a session that sent at least so many, and is repeated so often.
inline constexpr Nanoseconds kOfferBurst = kMillisecond;
inline constexpr uint64_t kOfferAfterMessages = 16;
inline constexpr int kOffersPerSession = 3;
inline constexpr Nanoseconds kOfferInterval = kSecond;
/// Once the peer has shown that it knows them: unanswered frames are repeated so often.
inline constexpr int kSuiteRepeats = 8;
inline constexpr Nanoseconds kSuiteRepeatInterval = 500 * kMillisecond;
/// What one session may make its peer's slow path do.
inline constexpr uint32_t kSuiteFramesPerSession = 64;
/// Control frames of one peer that reach the control plane; twice as many at once (docs/protocol.md).
inline constexpr uint64_t kControlFramesPerSecond = 200;
/// Own control plane: shortest time between two "path needed" notices for one peer, and between two that it
/// has moved, of which the last says where it is.
inline constexpr Nanoseconds kPathNeededInterval = kSecond;
inline constexpr Nanoseconds kEndpointInterval = 250 * kMillisecond;
/// What is told of the paths of one peer: probes and data that come by unknown ways, each so often; the
/// peer's report on a path.
inline constexpr uint64_t kPathEventsPerSecond = 10;
inline constexpr Nanoseconds kPathReportInterval = kSecond;

}  // namespace omerta::session
