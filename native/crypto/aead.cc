// SPDX-License-Identifier: Apache-2.0
#include "crypto/aead.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <stdexcept>

namespace omerta::crypto {

// A small direct-mapped cache of contexts keyed by key id: setting a key costs as much as sealing a
// short packet, and consecutive packets belong to few sessions.
struct TransportAead::Slot {
  EVP_CIPHER_CTX* context = nullptr;
  uint64_t id = 0;
  bool sealing = false;
};

TransportAead::TransportAead() : slots_(new Slot[kSlots]) {}

TransportAead::~TransportAead() {
  for (size_t i = 0; i < kSlots; i++) EVP_CIPHER_CTX_free(slots_[i].context);
  delete[] slots_;
}

EVP_CIPHER_CTX* TransportAead::context(const AeadJob& job, bool sealing) {
  static const EVP_CIPHER* cipher = EVP_CIPHER_fetch(nullptr, "ChaCha20-Poly1305", nullptr);
  Slot& slot = slots_[(job.id * 2 + (sealing ? 1 : 0)) % kSlots];
  if (slot.context == nullptr) {
    slot.context = EVP_CIPHER_CTX_new();
    if (slot.context == nullptr || cipher == nullptr)
      throw std::runtime_error("OpenSSL: ChaCha20-Poly1305 is missing");
  }
  if (slot.id != job.id || slot.sealing != sealing) {
    if (EVP_CipherInit_ex(slot.context, cipher, nullptr, job.key->data(), nullptr, sealing ? 1 : 0) != 1)
      throw std::runtime_error("OpenSSL: setting a ChaCha20-Poly1305 key failed");
    slot.id = job.id;
    slot.sealing = sealing;
  }
  return slot.context;
}

namespace {
std::array<uint8_t, 12> nonce_of(uint64_t counter) {
  std::array<uint8_t, 12> nonce{};
  store(nonce.data() + 4, counter);
  return nonce;
}
}  // namespace

void TransportAead::seal(std::span<AeadJob> jobs) {
  for (AeadJob& job : jobs) {
    EVP_CIPHER_CTX* c = context(job, true);
    const auto nonce = nonce_of(job.counter);
    int written = 0;
    job.ok = EVP_EncryptInit_ex(c, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
             (job.size == 0 ||
              EVP_EncryptUpdate(c, job.text, &written, job.text, static_cast<int>(job.size)) == 1) &&
             EVP_EncryptFinal_ex(c, job.text + written, &written) == 1 &&
             EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, kAeadTagSize, job.text + job.size) == 1;
  }
}

void TransportAead::open(std::span<AeadJob> jobs) {
  for (AeadJob& job : jobs) {
    EVP_CIPHER_CTX* c = context(job, false);
    const auto nonce = nonce_of(job.counter);
    int written = 0;
    job.ok = EVP_DecryptInit_ex(c, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
             EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, kAeadTagSize, job.text + job.size) == 1 &&
             (job.size == 0 ||
              EVP_DecryptUpdate(c, job.text, &written, job.text, static_cast<int>(job.size)) == 1) &&
             EVP_DecryptFinal_ex(c, job.text + written, &written) == 1;
  }
}

const char* TransportAead::name() { return "ChaCha20-Poly1305 (OpenSSL)"; }

}  // namespace omerta::crypto
