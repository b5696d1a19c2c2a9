// SPDX-License-Identifier: Apache-2.0
#include "guest/gateway.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "guest/dhcp.h"
#include "guest/frame_writer.h"

namespace omerta::guest {
namespace {

constexpr uint8_t kIcmp = 1, kIcmpv6 = 58;
constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kOptions = 60;
constexpr int kMaxHeaders = 8;
constexpr Ipv6 kUnspecified{}, kLoopback6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr Ipv6 kAllNodes{0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

bool is_link_local6(const uint8_t* address) { return address[0] == 0xfe && (address[1] & 0xc0) == 0x80; }

/// Groups every system speaks to by itself: routers, IGMP, mDNS, LLMNR, SSDP.
bool is_noise4(const uint8_t* to) {
  static constexpr Ipv4 kGroups[] = {{224, 0, 0, 1},   {224, 0, 0, 2},   {224, 0, 0, 22},
                                     {224, 0, 0, 251}, {224, 0, 0, 252}, {239, 255, 255, 250}};
  return std::ranges::any_of(kGroups, [to](const Ipv4& group) { return equals(to, group); });
}

/// The same, of link and site: ff02::1, 2, 16, fb, 1:3 and c.
bool is_noise6(const uint8_t* to) {
  static constexpr uint8_t kZero[11] = {};
  if (to[1] != 2 && to[1] != 5) return false;
  if (std::memcmp(to + 2, kZero, 11) != 0) return false;
  const uint32_t last = double_word(to + 12);
  return last == 1 || last == 2 || last == 0x16 || last == 0xfb || last == 0x10003 || last == 0xc;
}

/// The upper protocol of an IPv6 packet, behind extension headers.
struct Upper {
  uint8_t protocol;
  size_t at;
  bool fragment = false;  ///< any: nothing behind it is looked at
};

/// nullopt: headers do not fit, or are no end of them. `bad`: it is a fragment that no system makes.
std::optional<Upper> upper_of(Bytes packet, bool& bad) {
  Upper upper{packet[6], 40};
  for (int i = 0; i < kMaxHeaders; i++) {
    const uint8_t kind = upper.protocol;
    if (kind != kHopByHop && kind != kRouting && kind != kOptions && kind != kFragment) return upper;
    if (packet.size() < upper.at + 8) return std::nullopt;
    const uint8_t* header = &packet[upper.at];
    upper.protocol = header[0];
    upper.at += kind == kFragment ? 8 : size_t{8} + size_t{8} * header[1];
    if (upper.at > packet.size()) return std::nullopt;
    if (kind != kFragment) continue;
    const size_t offset = word(header + 2) & 0xfff8u, length = packet.size() - upper.at;
    const bool more = (header[3] & 1) != 0;
    bad = (more && (length == 0 || length % 8 != 0)) || offset + length > 65535;
    upper.fragment = true;
    return upper;
  }
  return std::nullopt;
}

/// Whether an IPv4 fragment, or what says it is none, cannot be (RFC 791 3.2, RFC 1858).
bool is_bad_fragment4(Bytes packet, size_t header) {
  const uint16_t field = word(&packet[6]);
  const size_t offset = (field & 0x1fffu) * size_t{8}, length = packet.size() - header;
  const bool more = (field & 0x2000) != 0;
  if (offset == 0 && !more) return false;
  const bool splits_header = (packet[9] == inner::kTcp && (offset == 8 || (offset == 0 && length < 20))) ||
                             (packet[9] == inner::kUdp && offset == 0 && length < 8);
  return (field & 0x8000) != 0 || (more && (length == 0 || length % 8 != 0)) || offset + length > 65535 ||
         splits_header;
}

/// Whether the checksum of an ICMPv6 message is right.
bool is_sound6(Bytes packet, size_t at) {
  const size_t length = packet.size() - at;
  const uint64_t pseudo =
      inner::checksum_add(&packet[8], 32) + htons(kIcmpv6) + htons(static_cast<uint16_t>(length));
  return inner::checksum_finish(inner::checksum_add(&packet[at], length, pseudo)) == 0;
}

}  // namespace

void Gateway::set_names(std::vector<Ipv4> names4, std::vector<Ipv6> names6) {
  names4.resize(std::min(names4.size(), kMaxNames));
  names6.resize(std::min(names6.size(), kMaxNames));
  former_names6_ = std::exchange(link_.names6, std::move(names6));
  std::erase_if(former_names6_, [this](const Ipv6& name) { return is_one_of(name.data(), link_.names6); });
  link_.names4 = std::move(names4);
}

Decision Gateway::judge(std::span<uint8_t> frame) {
  if (frame.size() < kEthernetHeader) return {Verdict::malformed};
  if (!equals(&frame[6], link_.guest)) return {Verdict::spoofed_mac};
  const bool to_gateway = equals(frame.data(), kGatewayMac);
  if (!to_gateway && (frame[0] & 1) == 0) return {Verdict::other_station};
  const std::span<uint8_t> payload = frame.subspan(kEthernetHeader);
  switch (word(&frame[12])) {
    case kTypeIpv4:
      return judge_ipv4(payload, to_gateway);
    case kTypeIpv6:
      return judge_ipv6(payload, to_gateway);
    case kTypeArp:
      return judge_arp(payload);
    default:
      return {Verdict::other_type};
  }
}

/// RFC 826: hardware and protocol, their lengths, operation, sender, target.
Decision Gateway::judge_arp(Bytes arp) {
  static constexpr uint8_t kEthernetIpv4[6] = {0, 1, 8, 0, 6, 4};
  static constexpr Ipv4 kNone{};
  if (arp.size() < 28 || std::memcmp(arp.data(), kEthernetIpv4, sizeof kEthernetIpv4) != 0)
    return {Verdict::malformed};
  const uint16_t operation = word(&arp[6]);
  const uint8_t *sender = &arp[14], *target = &arp[24];
  if (operation != 1 && operation != 2) return {Verdict::malformed};
  if (!equals(&arp[8], link_.guest)) return {Verdict::spoofed_mac};
  if (!is_own4(sender) && !equals(sender, kNone)) return {Verdict::spoofed_ip};
  if (operation == 2 || is_own4(target)) return {Verdict::noise};  // it says, or makes sure, which it has
  if (!equals(target, kGatewayIpv4)) return {Verdict::arp_scan};
  FrameWriter out(answer_, link_.guest, kTypeArp);
  out.bytes(kEthernetIpv4)
      .u16(2)
      .bytes(kGatewayMac)
      .bytes(kGatewayIpv4)
      .bytes(link_.guest)
      .bytes({sender, 4});
  return answered();
}

Decision Gateway::judge_ipv4(std::span<uint8_t> payload, bool to_gateway) {
  static constexpr Ipv4 kNone{}, kAll{255, 255, 255, 255};
  const inner::IpView ip = inner::parse_ip(payload.data(), payload.size());
  if (ip.family != 4) return {Verdict::malformed};
  const std::span<uint8_t> packet = payload.first(ip.length);
  const size_t header = size_t{4} * (packet[0] & 15);
  if (inner::checksum_finish(inner::checksum_add(packet.data(), header)) != 0) return {Verdict::malformed};
  if (packet.size() > link_.mtu) return {Verdict::oversized};
  if (is_bad_fragment4(packet, header)) return {Verdict::fragment};
  const uint8_t *from = ip.source, *to = ip.destination;
  const bool own = is_own4(from), whole = (word(&packet[6]) & 0x3fff) == 0;
  const bool for_gateway = equals(to, kGatewayIpv4);
  if (packet[9] == inner::kUdp && whole && (for_gateway || equals(to, kAll)) && packet.size() >= header + 8 &&
      word(&packet[header + 2]) == kDhcpServer)
    return own || equals(from, kNone) ? answer_dhcp4(packet, header) : Decision{Verdict::spoofed_ip};
  if ((own || equals(from, kNone)) && is_noise4(to)) return {Verdict::noise};
  if (!own) return {Verdict::spoofed_ip};
  if (to[0] >= 224) return {Verdict::multicast};
  if (to[0] == 0 || to[0] == 127) return {Verdict::malformed};  // RFC 1122 3.2.1.3: never outside of a host
  if (!to_gateway) return {Verdict::other_station};
  if (!for_gateway) return {Verdict::passed, packet};
  if (packet[9] == kIcmp && whole && packet.size() >= header + 8 && word(&packet[header]) == 0x0800)
    return answer_echo(packet, header);
  return {Verdict::gateway};
}

Decision Gateway::judge_ipv6(std::span<uint8_t> payload, bool to_gateway) {
  const inner::IpView ip = inner::parse_ip(payload.data(), payload.size());
  if (ip.family != 6) return {Verdict::malformed};
  const std::span<uint8_t> packet = payload.first(ip.length);
  if (packet.size() > link_.mtu) return {Verdict::oversized};
  bool bad_fragment = false;
  const std::optional<Upper> upper = upper_of(packet, bad_fragment);
  if (!upper.has_value()) return {Verdict::malformed};
  if (bad_fragment) return {Verdict::fragment};
  const uint8_t *from = ip.source, *to = ip.destination;
  const Bytes message = Bytes(packet).subspan(upper->at);
  const bool whole = !upper->fragment;
  const bool icmp = whole && upper->protocol == kIcmpv6 && message.size() >= 4;
  const bool own = is_own6(from), local = is_link_local6(from);
  if (icmp && message[0] >= 133 && message[0] <= 137) {
    if (packet[7] != 255 || message[1] != 0 || !is_sound6(packet, upper->at)) return {Verdict::malformed};
    return judge_discovery(packet, message);
  }
  const bool speaks = own || local || equals(from, kUnspecified);
  if (icmp && speaks && ((message[0] >= 130 && message[0] <= 132) || message[0] == 143))
    return {Verdict::noise};
  if (whole && local && upper->protocol == inner::kUdp && message.size() >= 8 &&
      word(&message[2]) == kDhcpv6Server)
    return answer_dhcp6(packet, upper->at);
  if (speaks && to[0] == 0xff && is_noise6(to)) return {Verdict::noise};
  const bool for_gateway = equals(to, kGatewayIpv6);
  if (!own && (!local || equals(from, kGatewayIpv6))) return {Verdict::spoofed_ip};
  // Without another address yet a system sends from this one, which means nothing beyond its link (RFC 4007
  // 9).
  if (!own && !for_gateway && to[0] != 0xff && !is_link_local6(to)) return {Verdict::noise};
  if (to[0] == 0xff) return {Verdict::multicast};
  if (equals(to, kUnspecified) || equals(to, kLoopback6)) return {Verdict::malformed};
  if (!to_gateway) return {Verdict::other_station};
  if (is_link_local6(to) && !for_gateway) return {Verdict::neighbour_scan};
  if (!for_gateway) return {Verdict::passed, packet};
  if (icmp && message.size() >= 8 && word(message.data()) == 0x8000) return answer_echo(packet, upper->at);
  return {Verdict::gateway};
}

/// RFC 4861 6.1, 7.1. Sound already, and with the hop limit of a neighbour.
Decision Gateway::judge_discovery(Bytes packet, Bytes message) {
  const uint8_t* from = &packet[8];
  const bool unspecified = equals(from, kUnspecified);
  if (!is_own6(from) && !is_link_local6(from) && !unspecified) return {Verdict::spoofed_ip};
  switch (message[0]) {
    case 133:  // router solicitation
      if (message.size() < 8) return {Verdict::malformed};
      write_advertisement(unspecified ? kAllNodes.data() : from, link_.guest);
      return answered();
    case 135:
      return judge_solicitation(from, message);
    case 136:  // neighbour advertisement
      return {message.size() < 24 ? Verdict::malformed : Verdict::noise};
    default:
      return {Verdict::router};
  }
}

Decision Gateway::judge_solicitation(const uint8_t* source, Bytes message) {
  if (message.size() < 24) return {Verdict::malformed};
  const uint8_t* target = &message[8];
  const bool probes = equals(source, kUnspecified);  // whether somebody has its address
  if (equals(target, kGatewayIpv6)) {
    FrameWriter out(answer_, link_.guest, kTypeIpv6);
    out.ipv6(kGatewayIpv6, probes ? Bytes(kAllNodes) : Bytes(source, 16), kIcmpv6);
    out.u8(136).u8(0).u16(0).u32(probes ? 0xa0000000 : 0xe0000000);  // router, solicited, override
    out.bytes(kGatewayIpv6).u8(2).u8(1).bytes(kGatewayMac).finish();
    return answered();
  }
  if (is_own6(target) || (probes && is_link_local6(target))) return {Verdict::noise};
  return {Verdict::neighbour_scan};
}

/// RFC 4861 4.2 with the MTU, and RFC 8106: a router, addresses by DHCPv6, no prefix on-link.
void Gateway::write_advertisement(const uint8_t* to, const Mac& station) {
  static constexpr uint16_t kLifetime = 1800;
  static constexpr uint8_t kManaged = 0x80, kOther = 0x40;
  FrameWriter out(answer_, station, kTypeIpv6);
  out.ipv6(kGatewayIpv6, {to, 16}, kIcmpv6).u8(134).u8(0).u16(0);
  out.u8(64).u8(kManaged | kOther).u16(kLifetime).u32(0).u32(0);
  out.u8(1).u8(1).bytes(kGatewayMac);
  out.u8(5).u8(1).u16(0).u32(static_cast<uint32_t>(link_.mtu));
  const auto names = [&out](const std::vector<Ipv6>& all, uint32_t lifetime) {
    if (all.empty()) return;
    out.u8(25).u8(static_cast<uint8_t>(1 + 2 * all.size())).u16(0).u32(lifetime);
    for (const Ipv6& name : all) out.bytes(name);
  };
  names(link_.names6, kLifetime);
  names(former_names6_, 0);
  out.finish();
}

Bytes Gateway::advertisement() {
  write_advertisement(kAllNodes.data(), {0x33, 0x33, 0, 0, 0, 1});
  return answer_;
}

/// What was asked comes back, with its addresses the other way round and another type; its checksum, right or
/// wrong, changes by as much.
Decision Gateway::answer_echo(std::span<uint8_t> packet, size_t header) {
  const bool v4 = packet[0] >> 4 == 4;
  answer_.assign(link_.guest.begin(), link_.guest.end());
  answer_.insert(answer_.end(), kGatewayMac.begin(), kGatewayMac.end());
  answer_.push_back(v4 ? 0x08 : 0x86);
  answer_.push_back(v4 ? 0x00 : 0xdd);
  answer_.insert(answer_.end(), packet.begin(), packet.end());
  uint8_t* ip = answer_.data() + kEthernetHeader;
  const size_t size = v4 ? 4 : 16;
  std::swap_ranges(ip + (v4 ? 12 : 8), ip + (v4 ? 12 : 8) + size, ip + (v4 ? 16 : 24));
  uint8_t* icmp = ip + header;
  const auto before = load<uint16_t>(icmp);
  icmp[0] = v4 ? 0 : 129;
  const uint64_t sum = static_cast<uint64_t>(static_cast<uint16_t>(~load<uint16_t>(icmp + 2))) +
                       static_cast<uint16_t>(~before) + load<uint16_t>(icmp);
  store(icmp + 2, inner::checksum_finish(sum));  // RFC 1624
  return answered();
}

Decision Gateway::answer_dhcp4(Bytes packet, size_t header) {
  const size_t length = word(&packet[header + 4]);
  if (length < 8 || length > packet.size() - header) return {Verdict::malformed};
  switch (answer_dhcp(link_, packet.subspan(header + 8, length - 8), &packet[12], answer_)) {
    case DhcpAnswer::written:
      return answered();
    case DhcpAnswer::silence:
      return {Verdict::noise};
    case DhcpAnswer::refused:
      break;
  }
  return {Verdict::dhcp};
}

Decision Gateway::answer_dhcp6(Bytes packet, size_t at) {
  const size_t length = word(&packet[at + 4]);
  if (length < 8 || length > packet.size() - at) return {Verdict::malformed};
  if (answer_dhcpv6(link_, packet.subspan(at + 8, length - 8), &packet[8], answer_) != DhcpAnswer::written)
    return {Verdict::dhcp};
  return answered();
}

}  // namespace omerta::guest
