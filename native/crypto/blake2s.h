// SPDX-License-Identifier: Apache-2.0
// BLAKE2s (RFC 7693) as WireGuard uses it: Hash, Mac, Hmac and Kdf of the whitepaper, section 5.4.
#pragma once

#include <initializer_list>

#include "common/bytes.h"

namespace omerta::crypto {

/// Hash: BLAKE2s-256 of the parts joined.
Key32 blake2s(std::initializer_list<Bytes> parts);
/// Mac: keyed BLAKE2s with a 16-byte output; key of 1–32 bytes.
Mac16 blake2s_mac(Bytes key, std::initializer_list<Bytes> parts);
/// Hmac: HMAC-BLAKE2s-256, key of at most 64 bytes.
Key32 hmac_blake2s(Bytes key, std::initializer_list<Bytes> parts);
/// Kdf_n (HKDF with HMAC-BLAKE2s): writes n = 1, 2 or 3 outputs.
void kdf(const Key32& key, Bytes input, Key32* t1, Key32* t2 = nullptr, Key32* t3 = nullptr);

}  // namespace omerta::crypto
