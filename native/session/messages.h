// SPDX-License-Identifier: Apache-2.0
// WireGuard's four messages (whitepaper 5.4.2 – 5.4.6), as they lie on the wire.
//
//   initiation  type u32 = 1 | sender u32 | ephemeral 32 | static 48 | timestamp 28 | mac1 16 | mac2 16
//   response    type u32 = 2 | sender u32 | receiver u32 | ephemeral 32 | empty 16 | mac1 16 | mac2 16
//   cookie      type u32 = 3 | receiver u32 | nonce 24 | cookie 32
//   transport   type u32 = 4 | receiver u32 | counter u64 | sealed packet, padded to 16, + tag 16
#pragma once

#include <omerta/wire.h>

#include "common/bytes.h"

namespace omerta::session {

struct Initiation {
  uint32_t type;
  uint32_t sender;
  Key32 ephemeral;
  std::array<uint8_t, 48> sealed_static;
  std::array<uint8_t, 28> sealed_timestamp;
  Mac16 mac1;
  Mac16 mac2;
};

struct Response {
  uint32_t type;
  uint32_t sender;
  uint32_t receiver;
  Key32 ephemeral;
  std::array<uint8_t, 16> sealed_empty;
  Mac16 mac1;
  Mac16 mac2;
};

struct CookieReply {
  uint32_t type;
  uint32_t receiver;
  std::array<uint8_t, 24> nonce;
  std::array<uint8_t, 32> sealed_cookie;
};

static_assert(sizeof(Initiation) == OMERTA_WIREGUARD_INITIATION_SIZE);
static_assert(sizeof(Response) == OMERTA_WIREGUARD_RESPONSE_SIZE);
static_assert(sizeof(CookieReply) == OMERTA_WIREGUARD_COOKIE_SIZE);

inline constexpr uint32_t kInitiationType = 1;
inline constexpr uint32_t kResponseType = 2;
inline constexpr uint32_t kCookieReplyType = 3;
inline constexpr uint32_t kTransportType = 4;
inline constexpr size_t kTransportHeaderSize = 16;
inline constexpr size_t kTransportOverhead = 32;

}  // namespace omerta::session
