// SPDX-License-Identifier: Apache-2.0
// Handshake messages of stock WireGuard peers, as far as a relay looks at them.
#pragma once

#include <sodium.h>

#include <cstring>
#include <span>

#include "common/bytes.h"
#include "crypto/blake2s.h"
#include "session/cookie.h"
#include "session/noise.h"

namespace omerta::stock {

inline void random_bytes(std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); }

template <class Message>
Bytes bytes_of(const Message& message) {
  return Bytes(reinterpret_cast<const uint8_t*>(&message), sizeof message);
}

/// Public key of the server whose private key is all `seed`.
inline Key32 server_key(uint8_t seed) {
  Key32 key;
  key.fill(seed);
  return session::public_key_of(key);
}

/// A client's initiation for that server.
inline session::Initiation initiation(uint32_t index, uint8_t seed = 1) {
  session::Initiation message{};
  message.type = session::kInitiationType;
  message.sender = index;
  random_bytes(message.ephemeral);
  const uint8_t label[8] = {'m', 'a', 'c', '1', '-', '-', '-', '-'};
  const Key32 key = crypto::blake2s({label, server_key(seed)});
  message.mac1 = crypto::blake2s_mac(key, {session::before_mac1(message)});
  return message;
}

/// The cookie in a reply to a client's initiation, which it opens by what it knows of its server alone.
inline session::Cookie cookie_in(const session::CookieReply& reply, const session::Initiation& answered,
                                 uint8_t seed = 1) {
  const uint8_t label[8] = {'c', 'o', 'o', 'k', 'i', 'e', '-', '-'};
  session::Cookie cookie{};
  if (!session::open_cookie_reply(crypto::blake2s({label, server_key(seed)}), reply, answered.mac1, cookie))
    std::abort();
  return cookie;
}

/// A client's initiation that answers a cookie.
inline session::Initiation initiation_with(const session::Cookie& cookie, uint32_t index, uint8_t seed = 1) {
  session::Initiation message = initiation(index, seed);
  message.mac2 = crypto::blake2s_mac(cookie, {session::before_mac2(message)});
  return message;
}

inline session::Response response(uint32_t server_index, uint32_t client_index) {
  session::Response message{};
  message.type = session::kResponseType;
  message.sender = server_index;
  message.receiver = client_index;
  return message;
}

}  // namespace omerta::stock
