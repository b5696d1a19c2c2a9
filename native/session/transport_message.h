// SPDX-License-Identifier: Apache-2.0
// Writes a transport message (session/messages.h) around a packet, as far as sealing goes: header, counter,
// padding. All that sends one does it by this, whether it seals many at a time in the packet path or one on
// the slow path.
#pragma once

#include <algorithm>

#include "crypto/aead.h"
#include "session/keypair.h"
#include "session/messages.h"

namespace omerta::session {

/// Bytes of plaintext for a packet of `size`: padded to 16 (whitepaper 5.4.6), but not past the MTU of the
/// inner interface, so that padding never makes a datagram too large for its way.
inline size_t padded_size(size_t size, size_t inner_mtu) {
  return std::max(size, std::min((size + 15) & ~size_t{15}, inner_mtu));
}

/// Writes all of a message but what sealing makes of it.
/// @param message has room for kTransportOverhead + padded_size(size, inner_mtu) bytes
/// @param counter from keypair.take_counters, used for nothing else
/// @param write_packet is called with the place of the packet, and writes its `size` bytes there
/// @return the job that seals the message in place (crypto::Aead::seal)
template <class WritePacket>
crypto::AeadJob write_transport(uint8_t* message, const Keypair& keypair, uint64_t counter, size_t size,
                                size_t inner_mtu, const WritePacket& write_packet) {
  uint8_t* text = message + kTransportHeaderSize;
  store(message, kTransportType);
  store(message + 4, keypair.remote_index);
  store(message + 8, counter);
  write_packet(text);
  // Padding is at most 15 bytes. What these 16 cover beyond it is the tag's place.
  store(text + size, std::array<uint8_t, crypto::kAeadTagSize>{});
  return {&keypair.send_key, counter, text, padded_size(size, inner_mtu), false};
}

}  // namespace omerta::session
