// SPDX-License-Identifier: Apache-2.0
// Who says that packets are spoiled, so that nobody counts twice. Whoever reaches this node directly is
// its address (IPv4) or /48 (IPv6), of which one site has no more than one: identities, and the /64s of a
// site, are free. Whoever comes by way of a leg is its identity: the address is the relay's, and only a
// configured peer has a session.
#pragma once

#include <cstdint>
#include <cstring>

#include "common/bytes.h"
#include "session/endpoint.h"

namespace omerta::session {

inline uint64_t witness_of(const omerta_address& address) {
  const uint64_t low = load<uint64_t>(address.ip + 8);
  const bool ipv4 = load<uint64_t>(address.ip) == 0 && load<uint32_t>(address.ip + 8) == 0xffff0000u;
  uint64_t site = 0;
  std::memcpy(&site, address.ip, 6);
  return ipv4 ? low : site;
}

inline uint64_t witness_of(const Endpoint& from, const Key32& peer) {
  return from.relayed() ? load<uint64_t>(peer.data()) : witness_of(from.remote);
}

}  // namespace omerta::session
