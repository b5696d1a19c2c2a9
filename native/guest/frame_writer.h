// SPDX-License-Identifier: Apache-2.0
// A frame of the gateway's to its guest, written one field after the other; lengths and checksums last.
#pragma once

#include <arpa/inet.h>

#include "guest/ethernet.h"
#include "inner/ip.h"

namespace omerta::guest {

class FrameWriter {
 public:
  /// Begins the frame anew. It is sent to this station.
  FrameWriter(std::vector<uint8_t>& frame, const Mac& to, uint16_t type) : frame_(frame) {
    frame_.clear();
    bytes(to).bytes(kGatewayMac).u16(type);
  }

  FrameWriter& u8(uint8_t value) {
    frame_.push_back(value);
    return *this;
  }
  FrameWriter& u16(uint16_t value) {
    return u8(static_cast<uint8_t>(value >> 8)).u8(static_cast<uint8_t>(value));
  }
  FrameWriter& u32(uint32_t value) {
    return u16(static_cast<uint16_t>(value >> 16)).u16(static_cast<uint16_t>(value));
  }
  FrameWriter& bytes(Bytes some) {
    frame_.insert(frame_.end(), some.begin(), some.end());
    return *this;
  }
  FrameWriter& zeros(size_t count) {
    frame_.insert(frame_.end(), count, 0);
    return *this;
  }

  FrameWriter& ipv4(const Ipv4& from, Bytes to, uint8_t protocol) {
    return u16(0x4500).u16(0).u32(0).u8(64).u8(protocol).u16(0).bytes(from).bytes(to);
  }
  FrameWriter& ipv6(const Ipv6& from, Bytes to, uint8_t protocol) {
    return u32(0x60000000).u16(0).u8(protocol).u8(255).bytes(from).bytes(to);
  }
  /// finish() fills in its length.
  FrameWriter& udp(uint16_t from, uint16_t to) { return u16(from).u16(to).u32(0); }

  /// Lengths of the IP header and of UDP, and the checksum of UDP or ICMPv6.
  void finish() {
    uint8_t* const ip = frame_.data() + kEthernetHeader;
    const size_t size = frame_.size() - kEthernetHeader;
    const bool v4 = ip[0] >> 4 == 4;
    const size_t header = v4 ? 20 : 40;
    const auto length = static_cast<uint16_t>(size - header);
    if (v4) {
      store(ip + 2, htons(static_cast<uint16_t>(size)));
      store(ip + 10, inner::checksum_finish(inner::checksum_add(ip, header)));
    } else {
      store(ip + 4, htons(length));
    }
    const uint8_t protocol = ip[v4 ? 9 : 6];
    uint8_t* const transport = ip + header;
    if (protocol == inner::kUdp) store(transport + 4, htons(length));
    const uint64_t sum = inner::pseudo_header_sum(inner::parse_ip(ip, size), protocol, length);
    const uint16_t made = inner::checksum_finish(inner::checksum_add(transport, length, sum));
    store(transport + (protocol == inner::kUdp ? 6 : 2), made == 0 ? uint16_t{0xffff} : made);
  }

 private:
  std::vector<uint8_t>& frame_;
};

}  // namespace omerta::guest
