// SPDX-License-Identifier: Apache-2.0
#include "session/cookie.h"

#include <sodium.h>

#include "crypto/blake2s.h"
#include "session/constants.h"

namespace omerta::session {
namespace {

Cookie cookie_under(const Key32& secret, const omerta_address& source) {
  return crypto::blake2s_mac(
      secret,
      {Bytes(source.ip, 16), Bytes(reinterpret_cast<const uint8_t*>(&source.port), sizeof source.port)});
}

bool matches(const Cookie& cookie, Bytes covered, const Mac16& mac2) {
  const Mac16 expected = crypto::blake2s_mac(cookie, {covered});
  return sodium_memcmp(expected.data(), mac2.data(), expected.size()) == 0;
}

}  // namespace

void CookieJar::rotate(Nanoseconds now, const RandomBytes& random) {
  if (born_ != 0 && now - born_ < kCookieLifetime) return;
  has_previous_ = born_ != 0 && now - born_ < 2 * kCookieLifetime;
  previous_ = secret_;
  random(secret_);
  born_ = now;
}

Cookie CookieJar::cookie_for(const omerta_address& source, Nanoseconds now, const RandomBytes& random) {
  rotate(now, random);
  return cookie_under(secret_, source);
}

bool CookieJar::verify(Bytes covered, const Mac16& mac2, const omerta_address& source, Nanoseconds now,
                       const RandomBytes& random) {
  rotate(now, random);
  const bool current = matches(cookie_under(secret_, source), covered, mac2);
  const bool before = has_previous_ && matches(cookie_under(previous_, source), covered, mac2);
  return current || before;
}

CookieReply make_cookie_reply(const Key32& cookie_key, uint32_t receiver, const Mac16& mac1,
                              const Cookie& cookie, const RandomBytes& random) {
  CookieReply reply{};
  reply.type = kCookieReplyType;
  reply.receiver = receiver;
  random(reply.nonce);
  crypto_aead_xchacha20poly1305_ietf_encrypt(reply.sealed_cookie.data(), nullptr, cookie.data(),
                                             cookie.size(), mac1.data(), mac1.size(), nullptr,
                                             reply.nonce.data(), cookie_key.data());
  return reply;
}

bool open_cookie_reply(const Key32& cookie_key, const CookieReply& reply, const Mac16& last_mac1_sent,
                       Cookie& out) {
  return crypto_aead_xchacha20poly1305_ietf_decrypt(
             out.data(), nullptr, nullptr, reply.sealed_cookie.data(), reply.sealed_cookie.size(),
             last_mac1_sent.data(), last_mac1_sent.size(), reply.nonce.data(), cookie_key.data()) == 0;
}

}  // namespace omerta::session
