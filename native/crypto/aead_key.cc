// SPDX-License-Identifier: Apache-2.0
#include "crypto/aead_key.h"

#include <sodium.h>

namespace omerta::crypto {

AeadKey::AeadKey(Suite suite_, const Key32& bytes_, uint64_t id_)
    : suite(suite_),
      id(id_),
      bytes(bytes_),
      gcm_schedule(suite_ == Suite::aes_256_gcm ? expand_gcm_key(bytes_) : nullptr) {}

AeadKey::~AeadKey() { sodium_memzero(const_cast<Key32*>(&bytes), sizeof bytes); }

}  // namespace omerta::crypto
