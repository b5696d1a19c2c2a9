// SPDX-License-Identifier: Apache-2.0
#include "crypto/blake2s.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sodium.h>

#include <memory>
#include <stdexcept>

namespace omerta::crypto {
namespace {

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(std::string("OpenSSL: ") + what + " failed");
}

struct FreeDigest {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct FreeMac {
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};

// A fetched algorithm and a context per thread: the look-up by name costs more than the hash.
EVP_MD_CTX* digest_context() {
  thread_local std::unique_ptr<EVP_MD_CTX, FreeDigest> context(EVP_MD_CTX_new());
  return context.get();
}

}  // namespace

Key32 blake2s(std::initializer_list<Bytes> parts) {
  EVP_MD_CTX* context = digest_context();
  if (EVP_DigestInit_ex(context, EVP_blake2s256(), nullptr) != 1) fail("BLAKE2s");
  for (Bytes part : parts)
    if (EVP_DigestUpdate(context, part.data(), part.size()) != 1) fail("BLAKE2s");
  Key32 out;
  if (EVP_DigestFinal_ex(context, out.data(), nullptr) != 1) fail("BLAKE2s");
  return out;
}

Mac16 blake2s_mac(Bytes key, std::initializer_list<Bytes> parts) {
  static EVP_MAC* algorithm = EVP_MAC_fetch(nullptr, "BLAKE2SMAC", nullptr);
  if (algorithm == nullptr) fail("BLAKE2SMAC");
  thread_local std::unique_ptr<EVP_MAC_CTX, FreeMac> context(EVP_MAC_CTX_new(algorithm));
  size_t size = 16;
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
                               OSSL_PARAM_construct_end()};
  if (EVP_MAC_init(context.get(), key.data(), key.size(), params) != 1) fail("BLAKE2SMAC");
  for (Bytes part : parts)
    if (EVP_MAC_update(context.get(), part.data(), part.size()) != 1) fail("BLAKE2SMAC");
  Mac16 out;
  size_t written = 0;
  if (EVP_MAC_final(context.get(), out.data(), &written, out.size()) != 1) fail("BLAKE2SMAC");
  return out;
}

Key32 hmac_blake2s(Bytes key, std::initializer_list<Bytes> parts) {
  std::array<uint8_t, 64> inner{};
  std::array<uint8_t, 64> outer{};
  std::memcpy(inner.data(), key.data(), key.size());
  outer = inner;
  for (auto& byte : inner) byte ^= 0x36;
  for (auto& byte : outer) byte ^= 0x5c;
  EVP_MD_CTX* context = digest_context();
  Key32 out;
  bool ok = EVP_DigestInit_ex(context, EVP_blake2s256(), nullptr) == 1 &&
            EVP_DigestUpdate(context, inner.data(), inner.size()) == 1;
  for (Bytes part : parts) ok = ok && EVP_DigestUpdate(context, part.data(), part.size()) == 1;
  ok = ok && EVP_DigestFinal_ex(context, out.data(), nullptr) == 1;
  sodium_memzero(inner.data(), inner.size());
  if (ok) out = blake2s({outer, out});
  sodium_memzero(outer.data(), outer.size());
  if (!ok) fail("HMAC-BLAKE2s");
  return out;
}

void kdf(const Key32& key, Bytes input, Key32* t1, Key32* t2, Key32* t3) {
  const uint8_t one = 1, two = 2, three = 3;
  Key32 secret = hmac_blake2s(key, {input});
  Key32 previous = hmac_blake2s(secret, {Bytes(&one, 1)});
  *t1 = previous;
  if (t2 != nullptr) {
    previous = hmac_blake2s(secret, {previous, Bytes(&two, 1)});
    *t2 = previous;
  }
  if (t3 != nullptr) *t3 = hmac_blake2s(secret, {previous, Bytes(&three, 1)});
  sodium_memzero(secret.data(), secret.size());
  sodium_memzero(previous.data(), previous.size());
}

}  // namespace omerta::crypto
