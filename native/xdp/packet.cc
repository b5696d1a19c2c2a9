// SPDX-License-Identifier: Apache-2.0
#include "xdp/packet.h"

#include <cstring>

namespace omerta::xdp {
namespace {

void put16(Packet& bytes, size_t at, size_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

uint32_t sum_of(const uint8_t* data, size_t size, uint32_t sum = 0) {
  for (size_t i = 0; i < size; i++) sum += i % 2 ? data[i] : static_cast<uint32_t>(data[i]) << 8;
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

}  // namespace

bool is_v4(const uint8_t ip[16]) {
  static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(ip, prefix, sizeof prefix) == 0;
}

Packet packet_of(const Headers& headers, const std::vector<uint8_t>& datagram) {
  const bool v4 = is_v4(headers.from.ip);
  const size_t ip = kEthernetSize, udp = udp_offset(headers.from), udp_size = kUdpSize + datagram.size();
  Packet packet(udp + kUdpSize);
  std::memcpy(&packet[0], headers.destination_mac.data(), 6);
  std::memcpy(&packet[6], headers.source_mac.data(), 6);
  put16(packet, 12, v4 ? 0x0800 : 0x86DD);
  if (v4) {
    packet[ip] = 0x45;
    packet[ip + 1] = headers.service;
    put16(packet, ip + 2, kIpv4Size + udp_size);
    put16(packet, ip + 4, headers.id);
    put16(packet, ip + 6, headers.dont_fragment ? 0x4000 : 0);
    packet[ip + 8] = headers.ttl;
    packet[ip + 9] = 17;
    std::memcpy(&packet[ip + 12], headers.from.ip + 12, 4);
    std::memcpy(&packet[ip + 16], headers.to.ip + 12, 4);
    put16(packet, ip + 10, ~sum_of(&packet[ip], kIpv4Size) & 0xffff);
  } else {
    packet[ip] = static_cast<uint8_t>(0x60 | headers.service >> 4);
    packet[ip + 1] = static_cast<uint8_t>(headers.service << 4);
    put16(packet, ip + 4, udp_size);
    packet[ip + 6] = 17;
    packet[ip + 7] = headers.ttl;
    std::memcpy(&packet[ip + 8], headers.from.ip, 16);
    std::memcpy(&packet[ip + 24], headers.to.ip, 16);
  }
  std::memcpy(&packet[udp], &headers.from.port, 2);
  std::memcpy(&packet[udp + 2], &headers.to.port, 2);
  put16(packet, udp + 4, udp_size);
  packet.insert(packet.end(), datagram.begin(), datagram.end());
  if (headers.checksum == UdpChecksum::computed || !v4) {
    const size_t addresses = v4 ? ip + 12 : ip + 8;
    uint32_t sum = sum_of(&packet[addresses], udp - addresses);
    sum = sum_of(&packet[udp], udp_size, sum + 17 + static_cast<uint32_t>(udp_size));
    const uint32_t check = ~sum & 0xffff;
    put16(packet, udp + 6, check != 0 ? check : 0xffff);
  }
  return packet;
}

}  // namespace omerta::xdp
