// SPDX-License-Identifier: Apache-2.0
// Who says that packets are spoiled, so that nobody counts twice. Whoever reaches this node directly is
// its address (IPv4) or /64 (IPv6): identities are free on an open relay. Whoever comes by way of a leg is
// its identity: the address is the relay's, and only a configured peer has a session.
#pragma once

#include <cstdint>

#include "common/bytes.h"
#include "session/endpoint.h"

namespace omerta::session {

inline uint64_t witness_of(const omerta_address& address) {
  const uint64_t high = load<uint64_t>(address.ip), low = load<uint64_t>(address.ip + 8);
  const bool ipv4 = high == 0 && load<uint32_t>(address.ip + 8) == 0xffff0000u;
  return ipv4 ? low : high;
}

inline uint64_t witness_of(const Endpoint& from, const Key32& peer) {
  return from.relayed() ? load<uint64_t>(peer.data()) : witness_of(from.remote);
}

}  // namespace omerta::session
