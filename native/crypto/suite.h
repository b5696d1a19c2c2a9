// SPDX-License-Identifier: Apache-2.0
// The ciphers a transport packet may be under. Every session begins with the first (it is WireGuard's);
// two of our nodes may agree on the second inside the session (docs/protocol.md, "Suites").
#pragma once

#include <cstddef>
#include <cstdint>

namespace omerta::crypto {

enum class Suite : uint8_t {
  chacha20_poly1305 = 0,  ///< RFC 8439
  aes_256_gcm = 1,        ///< NIST SP 800-38D, 96-bit nonce
};

inline constexpr size_t kSuiteCount = 2;

inline const char* name_of(Suite suite) {
  return suite == Suite::aes_256_gcm ? "AES-256-GCM" : "ChaCha20-Poly1305";
}

}  // namespace omerta::crypto
