// SPDX-License-Identifier: Apache-2.0
// ChaCha20-Poly1305 for transport packets (RFC 8439), in place and in batches. The nonce is four
// zero bytes and the 64-bit counter, little-endian; there is no associated data.
#pragma once

#include <span>

#include "common/bytes.h"

struct evp_cipher_ctx_st;

namespace omerta::crypto {

inline constexpr size_t kAeadTagSize = 16;

/// One packet to seal or open. `text` is changed in place; seal writes 16 bytes of tag after it,
/// open expects them there. `id` names the key (unique for the process), so that a cached key
/// schedule is found without comparing secrets.
struct AeadJob {
  const Key32* key;
  uint64_t id;
  uint64_t counter;
  uint8_t* text;
  size_t size;
  bool ok;
};

/// Holds contexts with expanded keys; one per thread.
class TransportAead {
 public:
  TransportAead();
  ~TransportAead();
  TransportAead(const TransportAead&) = delete;
  TransportAead& operator=(const TransportAead&) = delete;

  /// Sets ok on every job; sealing fails only when OpenSSL does.
  void seal(std::span<AeadJob> jobs);
  /// ok tells whether the packet verified; if not, its bytes are undefined.
  void open(std::span<AeadJob> jobs);

  static const char* name();

 private:
  struct Slot;
  evp_cipher_ctx_st* context(const AeadJob& job, bool sealing);
  static constexpr size_t kSlots = 64;
  Slot* slots_;
};

}  // namespace omerta::crypto
