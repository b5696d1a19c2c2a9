// SPDX-License-Identifier: Apache-2.0
// Super-packets as a TUN gives them, and the segments of one.
#pragma once

#include <sodium.h>

#include <vector>

#include "inner/ip.h"
#include "inner/segmentation.h"

namespace omerta::test {

using namespace omerta::inner;

/// An IP + TCP or UDP super-packet with random payload and a partial checksum, as a TUN gives it.
struct SuperPacket {
  std::vector<uint8_t> bytes;
  VirtioNetHeader header{};
  size_t transport = 0;
  size_t headers = 0;
};

inline SuperPacket make(uint8_t family, uint8_t protocol, size_t payload, uint16_t segment,
                        size_t tcp_options = 12) {
  SuperPacket p;
  p.transport = family == 4 ? 20 : 40;
  p.headers = p.transport + (protocol == kTcp ? 20 + tcp_options : 8);
  p.bytes.resize(p.headers + payload);
  randombytes_buf(p.bytes.data() + p.headers, payload);
  uint8_t* b = p.bytes.data();
  const auto total = static_cast<uint16_t>(p.bytes.size());
  if (family == 4) {
    b[0] = 0x45;
    store(b + 2, htons(total));
    store(b + 4, htons(uint16_t{65530}));  // wraps while counting up
    b[6] = 0x40;
    b[8] = 64;
    b[9] = protocol;
    b[12] = 10, b[15] = 1, b[16] = 10, b[19] = 2;
    store(b + 10, checksum_finish(checksum_add(b, 20)));
  } else {
    b[0] = 0x60;
    store(b + 4, htons(static_cast<uint16_t>(total - 40)));
    b[6] = protocol;
    b[7] = 64;
    b[8] = b[24] = 0xfd;
    b[23] = 1, b[39] = 2;
  }
  uint8_t* t = b + p.transport;
  store(t, htons(uint16_t{1000}));
  store(t + 2, htons(uint16_t{2000}));
  if (protocol == kTcp) {
    store(t + 4, htonl(0xfffffff0u));  // wraps as well
    store(t + 8, htonl(77u));
    t[12] = static_cast<uint8_t>((20 + tcp_options) / 4 << 4);
    t[13] = 0x18;  // ACK, PSH
    store(t + 14, htons(uint16_t{500}));
    p.header.gso_type = family == 4 ? kGsoTcp4 : kGsoTcp6;
    p.header.checksum_offset = 16;
  } else {
    store(t + 4, htons(static_cast<uint16_t>(8 + payload)));
    p.header.gso_type = kGsoUdp;
    p.header.checksum_offset = 6;
  }
  p.header.flags = kNeedsChecksum;
  p.header.gso_size = segment;
  p.header.header_length = static_cast<uint16_t>(p.headers);
  p.header.checksum_start = static_cast<uint16_t>(p.transport);
  return p;
}

inline bool checksums_verify(std::vector<uint8_t>& packet, uint8_t protocol) {
  const IpView ip = parse_ip(packet.data(), packet.size());
  if (ip.family == 0 || ip.length != packet.size()) return false;
  const size_t transport = ip.family == 4 ? 20 : 40;
  if (ip.family == 4 && checksum_finish(checksum_add(packet.data(), 20)) != 0) return false;
  const size_t size = packet.size() - transport;
  return checksum_finish(
             checksum_add(packet.data() + transport, size, pseudo_header_sum(ip, protocol, size))) == 0;
}

using Packets = std::vector<std::vector<uint8_t>>;

inline Packets segments_of(SuperPacket& p) {
  const Segmentation segments(p.header, p.bytes.data(), p.bytes.size());
  Packets packets;
  for (size_t i = 0; i < segments.count(); i++) {
    packets.emplace_back(segments.size(i));
    segments.write(i, packets.back().data());
  }
  return packets;
}

}  // namespace omerta::test
