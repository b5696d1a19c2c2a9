// SPDX-License-Identifier: Apache-2.0
// Frames as a virtual machine sends them, for tests of its gateway: made by hand, with a checksum summed word
// by word, so that a mistake of the gateway's is not made here as well.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

#include "guest/ethernet.h"

namespace omerta::test {

using Frame = std::vector<uint8_t>;

inline constexpr guest::Mac kGuestMac{0x52, 0x54, 0, 0x12, 0x34, 0x56};
inline constexpr guest::Ipv4 kGuest4{100, 64, 1, 2}, kMember4{100, 70, 0, 9};
inline constexpr guest::Ipv6 kGuest6{0xfd, 0x6f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
inline constexpr guest::Ipv6 kMember6{0xfd, 0x6f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9};
inline constexpr guest::Ipv6 kLinkLocal6{0xfe, 0x80, 0, 0,    0,    0,    0,    0,
                                         0x50, 0x54, 0, 0xff, 0xfe, 0x12, 0x34, 0x56};
inline constexpr guest::Ipv6 kNobody6{};

inline guest::Link guest_link() {
  guest::Link link;
  link.guest = kGuestMac;
  link.ipv4 = {kGuest4};
  link.ipv6 = {kGuest6};
  link.mtu = 1400;
  return link;
}

inline uint16_t plain_sum(const uint8_t* bytes, size_t size, uint32_t sum = 0) {
  for (size_t i = 0; i < size; i++) sum += i % 2 == 0 ? uint32_t{bytes[i]} << 8 : bytes[i];
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

inline void put_word(uint8_t* at, size_t value) {
  at[0] = static_cast<uint8_t>(value >> 8);
  at[1] = static_cast<uint8_t>(value);
}

inline Frame ethernet(const guest::Mac& to, uint16_t type, const Frame& payload,
                      const guest::Mac& from = kGuestMac) {
  Frame frame(to.begin(), to.end());
  frame.insert(frame.end(), from.begin(), from.end());
  frame.push_back(static_cast<uint8_t>(type >> 8));
  frame.push_back(static_cast<uint8_t>(type));
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

/// field: flags and offset of a fragment.
inline Frame ipv4_packet(const guest::Ipv4& from, const guest::Ipv4& to, uint8_t protocol, const Frame& body,
                         uint16_t field = 0x4000) {
  Frame packet{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0};
  packet.insert(packet.end(), from.begin(), from.end());
  packet.insert(packet.end(), to.begin(), to.end());
  packet.insert(packet.end(), body.begin(), body.end());
  put_word(&packet[2], packet.size());
  put_word(&packet[6], field);
  put_word(&packet[10], 0xffff - plain_sum(packet.data(), 20));
  return packet;
}

inline Frame ipv6_packet(const guest::Ipv6& from, const guest::Ipv6& to, uint8_t next, const Frame& body,
                         uint8_t hops = 255) {
  Frame packet{0x60, 0, 0, 0, 0, 0, next, hops};
  packet.insert(packet.end(), from.begin(), from.end());
  packet.insert(packet.end(), to.begin(), to.end());
  packet.insert(packet.end(), body.begin(), body.end());
  put_word(&packet[4], body.size());
  return packet;
}

/// The same with the checksum of ICMPv6.
inline Frame icmpv6_packet(const guest::Ipv6& from, const guest::Ipv6& to, Frame message,
                           uint8_t hops = 255) {
  put_word(&message[2], 0);
  Frame pseudo(from.begin(), from.end());
  pseudo.insert(pseudo.end(), to.begin(), to.end());
  const uint16_t addresses = plain_sum(pseudo.data(), pseudo.size());
  const uint32_t sum = uint32_t{addresses} + 58 + static_cast<uint32_t>(message.size());
  put_word(&message[2], 0xffff - plain_sum(message.data(), message.size(), sum));
  return ipv6_packet(from, to, 58, message, hops);
}

/// Whether UDP or ICMPv6 of a packet sums up (RFC 8200 8.1).
inline bool sums_up(const Frame& frame) {
  const uint8_t* ip = frame.data() + guest::kEthernetHeader;
  const bool v4 = ip[0] >> 4 == 4;
  const size_t header = v4 ? 20 : 40, size = frame.size() - guest::kEthernetHeader - header;
  const uint32_t addresses = plain_sum(ip + (v4 ? 12 : 8), v4 ? 8 : 32);
  const bool whole = !v4 || plain_sum(ip, header) == 0xffff;
  const uint32_t pseudo = addresses + ip[v4 ? 9 : 6] + static_cast<uint32_t>(size);
  return whole && plain_sum(ip + header, size, pseudo) == 0xffff;
}

inline Frame udp(uint16_t from, uint16_t to, const Frame& payload) {
  Frame body(8);
  put_word(&body[0], from);
  put_word(&body[2], to);
  put_word(&body[4], 8 + payload.size());
  body.insert(body.end(), payload.begin(), payload.end());
  return body;
}

inline Frame arp(uint16_t operation, const guest::Ipv4& sender, const guest::Ipv4& target,
                 const guest::Mac& from = kGuestMac) {
  Frame out{0, 1, 8, 0, 6, 4, 0, static_cast<uint8_t>(operation)};
  out.insert(out.end(), from.begin(), from.end());
  out.insert(out.end(), sender.begin(), sender.end());
  out.insert(out.end(), 6, 0);
  out.insert(out.end(), target.begin(), target.end());
  return out;
}

/// options: those after the magic cookie.
inline Frame dhcp(const Frame& options, const guest::Ipv4& client = {}, const guest::Mac& mac = kGuestMac) {
  Frame message(236);
  message[0] = message[1] = 1;
  message[2] = 6;
  message[4] = 0xab;
  std::copy(client.begin(), client.end(), message.begin() + 12);
  std::copy(mac.begin(), mac.end(), message.begin() + 28);
  message.insert(message.end(), {0x63, 0x82, 0x53, 0x63});
  message.insert(message.end(), options.begin(), options.end());
  message.push_back(255);
  return message;
}

}  // namespace omerta::test
