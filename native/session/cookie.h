// SPDX-License-Identifier: Apache-2.0
// Cookies (whitepaper 5.4.7): how a node under load makes an initiator prove its address.
#pragma once

#include <functional>

#include "common/clock.h"
#include "session/messages.h"

namespace omerta::session {

using RandomBytes = std::function<void(std::span<uint8_t>)>;
using Cookie = Mac16;

/// Receiver's side: one secret, replaced every 120 s; the previous one stays valid as long.
class CookieJar {
 public:
  /// The cookie for a source: keyed BLAKE2s over address *and port*.
  Cookie cookie_for(const omerta_address& source, Nanoseconds now, const RandomBytes& random);
  /// Whether mac2 was made with a cookie this node gave to this source. Constant time.
  bool verify(Bytes covered, const Mac16& mac2, const omerta_address& source, Nanoseconds now,
              const RandomBytes& random);

 private:
  void rotate(Nanoseconds now, const RandomBytes& random);
  Key32 secret_{};
  Key32 previous_{};
  Nanoseconds born_ = 0;
  bool has_previous_ = false;
};

/// Sealed with XChaCha20-Poly1305 under our cookie key; the mac1 it answers is the associated data.
CookieReply make_cookie_reply(const Key32& cookie_key, uint32_t receiver, const Mac16& mac1,
                              const Cookie& cookie, const RandomBytes& random);
bool open_cookie_reply(const Key32& cookie_key, const CookieReply& reply, const Mac16& last_mac1_sent,
                       Cookie& out);

}  // namespace omerta::session
