// SPDX-License-Identifier: Apache-2.0
// What tells connections, and exchanges of datagrams, apart: two addresses and two ports.
#pragma once

#include <omerta/wire.h>

#include <array>
#include <compare>

#include "common/bytes.h"

namespace omerta::stack {

/// IPv4 as ::ffff:a.b.c.d.
using Address = std::array<uint8_t, 16>;

inline constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

inline bool is_ipv4(const Address& address) {
  return std::memcmp(address.data(), kMappedPrefix, sizeof kMappedPrefix) == 0;
}

/// From the 4 or 16 bytes of a packet.
inline Address address_of(const uint8_t* bytes, size_t size) {
  Address address{};
  if (size == 4) std::memcpy(address.data(), kMappedPrefix, sizeof kMappedPrefix);
  std::memcpy(address.data() + 16 - size, bytes, size);
  return address;
}

/// Of addresses that the operator gave out: whoever sends by another has none of these tables.
struct AddressHash {
  size_t operator()(const Address& a) const {
    return load<uint64_t>(a.data()) * 31 + load<uint64_t>(a.data() + 8);
  }
};

struct Flow {
  Address local{};
  Address remote{};
  uint16_t local_port = 0;
  uint16_t remote_port = 0;

  bool ipv4() const { return is_ipv4(local); }
  size_t ip_header() const { return ipv4() ? 20 : 40; }
  bool operator==(const Flow&) const = default;
};

/// A keyed hash (SipHash-2-4): who chooses ports cannot make flows collide.
class FlowHash {
 public:
  explicit FlowHash(const std::array<uint64_t, 2>& key) : key_{key[0], key[1]} {}
  size_t operator()(const Flow& flow) const {
    const uint64_t addresses =
        omerta_tag(key_, load<uint64_t>(flow.remote.data()), load<uint64_t>(flow.remote.data() + 8),
                   load<uint64_t>(flow.local.data()), load<uint64_t>(flow.local.data() + 8));
    return omerta_tag(key_, addresses, uint64_t{flow.local_port} << 16 | flow.remote_port, 0, 0);
  }

 private:
  __u64 key_[2];
};

}  // namespace omerta::stack
