// SPDX-License-Identifier: Apache-2.0
// ChaCha20-Poly1305 for transport packets (RFC 8439), in place and in batches. The nonce is four
// zero bytes and the 64-bit counter, little-endian; there is no associated data.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "common/bytes.h"

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

/// An implementation with whatever it keeps between calls; one per thread.
class TransportAead {
 public:
  virtual ~TransportAead() = default;
  /// Sets ok on every job; sealing fails only when the library does.
  virtual void seal(std::span<AeadJob> jobs) = 0;
  /// ok tells whether the packet verified; if not, its bytes are undefined.
  virtual void open(std::span<AeadJob> jobs) = 0;
};

/// Runs everywhere.
std::unique_ptr<TransportAead> make_openssl_aead();
/// Intel's multi-buffer library, loaded when it is there. nullptr, and `reason` says why, when the
/// library or the CPU's AVX2 is missing.
std::unique_ptr<TransportAead> make_ipsec_mb_aead(std::string& reason);

/// Seals and opens packets of many sizes and compares with libsodium, bit flips included.
bool passes_self_test(TransportAead& aead);

/// Which implementation this process uses, and why.
struct AeadChoice {
  bool ipsec_mb = false;
  std::string name;    ///< for people: "ChaCha20-Poly1305 (intel-ipsec-mb, AVX-512)"
  std::string reason;  ///< why ipsec-mb is in use, or why it is not
};

/// The fastest implementation that passes its self-test here. `allow_ipsec_mb` is the switch.
AeadChoice choose_aead(bool allow_ipsec_mb);
std::unique_ptr<TransportAead> make_aead(const AeadChoice& choice);

}  // namespace omerta::crypto
