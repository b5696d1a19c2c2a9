// SPDX-License-Identifier: Apache-2.0
// The answer to a STUN binding request (RFC 8489): where it came from, or which of its attributes the
// server does not know. Without authentication; ts/engine/wasm/stun.ts is the same in TypeScript.
#pragma once

#include <omerta/wire.h>

#include "common/bytes.h"

namespace omerta::udp {

/// The answer to a datagram that omerta_classify takes for a binding request; empty when it is not
/// well-formed (RFC 8489 section 6.3: silence).
class StunResponse {
 public:
  /// request: the whole datagram, at least the header of 20 bytes. from: its sender.
  StunResponse(Bytes request, const omerta_address& from);

  Bytes bytes() const { return Bytes(bytes_, size_); }

 private:
  void tell_address(const omerta_address& from);
  /// Error 420; the attributes are named in bytes_ already.
  void refuse(size_t unknown);

  /// At most 16 unknown attributes are named: 20 + 8 + 4 + 32.
  uint8_t bytes_[64] = {};
  size_t size_ = 0;
};

}  // namespace omerta::udp
