// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>

#include <stdexcept>

#include "crypto/aead.h"

namespace omerta::crypto {
namespace {

std::array<uint8_t, 12> nonce_of(uint64_t counter) {
  std::array<uint8_t, 12> nonce{};
  store(nonce.data() + 4, counter);
  return nonce;
}

class OpensslAead final : public TransportAead {
 public:
  explicit OpensslAead(Suite suite)
      : name_(name_of(suite)),  // as OpenSSL spells them too
        cipher_(EVP_CIPHER_fetch(nullptr, name_, nullptr)) {
    if (cipher_ == nullptr) throw std::runtime_error(std::string("OpenSSL: ") + name_ + " is missing");
  }
  ~OpensslAead() override {
    for (Slot& slot : slots_) EVP_CIPHER_CTX_free(slot.context);
    EVP_CIPHER_free(cipher_);
  }
  OpensslAead(const OpensslAead&) = delete;
  OpensslAead& operator=(const OpensslAead&) = delete;

  void seal(std::span<AeadJob> jobs) override {
    for (AeadJob& job : jobs) {
      EVP_CIPHER_CTX* c = context(job, true);
      const auto nonce = nonce_of(job.counter);
      const int size = static_cast<int>(job.size);
      int written = 0;
      job.ok = EVP_EncryptInit_ex(c, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
               (size == 0 || EVP_EncryptUpdate(c, job.text, &written, job.text, size) == 1) &&
               EVP_EncryptFinal_ex(c, job.text + written, &written) == 1 &&
               EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, kAeadTagSize, job.text + job.size) == 1;
    }
  }

  void open(std::span<AeadJob> jobs) override {
    for (AeadJob& job : jobs) {
      EVP_CIPHER_CTX* c = context(job, false);
      const auto nonce = nonce_of(job.counter);
      const int size = static_cast<int>(job.size);
      int written = 0;
      job.ok = EVP_DecryptInit_ex(c, nullptr, nullptr, nullptr, nonce.data()) == 1 &&
               EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, kAeadTagSize, job.text + job.size) == 1 &&
               (size == 0 || EVP_DecryptUpdate(c, job.text, &written, job.text, size) == 1) &&
               EVP_DecryptFinal_ex(c, job.text + written, &written) == 1;
    }
  }

 private:
  // A small direct-mapped cache of contexts by key id: setting a key costs as much as sealing a short
  // packet, and consecutive packets belong to few sessions. A context cannot be shared between threads,
  // so it is here and not with the key; OpenSSL wipes it when another key takes its place.
  struct Slot {
    EVP_CIPHER_CTX* context = nullptr;
    uint64_t id = 0;
    bool sealing = false;
  };

  EVP_CIPHER_CTX* context(const AeadJob& job, bool sealing) {
    const uint64_t id = job.key->id;
    Slot& slot = slots_[(id * 2 + (sealing ? 1 : 0)) % slots_.size()];
    if (slot.context == nullptr) {
      slot.context = EVP_CIPHER_CTX_new();
      if (slot.context == nullptr) throw std::bad_alloc();
    }
    if (slot.id != id || slot.sealing != sealing) {
      if (EVP_CipherInit_ex(slot.context, cipher_, nullptr, job.key->bytes.data(), nullptr,
                            sealing ? 1 : 0) != 1)
        throw std::runtime_error(std::string("OpenSSL: setting a key failed for ") + name_);
      slot.id = id;
      slot.sealing = sealing;
    }
    return slot.context;
  }

  const char* name_;
  EVP_CIPHER* cipher_;
  std::array<Slot, 64> slots_;
};

}  // namespace

std::unique_ptr<TransportAead> make_openssl_aead(Suite suite) { return std::make_unique<OpensslAead>(suite); }

}  // namespace omerta::crypto
