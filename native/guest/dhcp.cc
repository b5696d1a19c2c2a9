// SPDX-License-Identifier: Apache-2.0
#include "guest/dhcp.h"

#include <algorithm>
#include <optional>

#include "guest/frame_writer.h"

namespace omerta::guest {
namespace {

/// Seconds. A guest asks anew after half of it, and so learns which resolver is asked for names by then;
/// while there is none it asks earlier.
constexpr uint32_t kLease = 120, kLeaseWithoutNames = 20;

constexpr uint32_t kCookie = 0x63825363;  // RFC 2131 3
constexpr size_t kOptionsAt = 240;
enum Message : uint8_t { kDiscover = 1, kOffer, kRequest, kDecline, kAck, kNak, kRelease, kInform };
enum Option : uint8_t {
  kMask = 1,
  kRouter = 3,
  kNames = 6,
  kMtu = 26,
  kRequested = 50,
  kLeaseTime = 51,
  kMessageType = 53,
  kServer = 54,
  kClasslessRoutes = 121,  // RFC 3442
  kEnd = 255,
};

uint32_t lease_of(const Link& link) {
  return link.names4.empty() && link.names6.empty() ? kLeaseWithoutNames : kLease;
}

/// What of a message an answer depends on.
struct Asked {
  uint8_t type = 0;
  std::optional<Ipv4> requested, server;
};

/// false: an option does not fit.
bool read_options(Bytes options, Asked& out) {
  while (!options.empty() && options[0] != kEnd) {
    if (options[0] == 0) {  // pad
      options = options.subspan(1);
      continue;
    }
    if (options.size() < 2 || options.size() < size_t{2} + options[1]) return false;
    const Bytes value = options.subspan(2, options[1]);
    if (options[0] == kMessageType && value.size() == 1) out.type = value[0];
    if (value.size() == 4) {
      Ipv4 address;
      std::copy(value.begin(), value.end(), address.begin());
      if (options[0] == kRequested) out.requested = address;
      if (options[0] == kServer) out.server = address;
    }
    options = options.subspan(2 + value.size());
  }
  return true;
}

/// The gateway is on no network of the guest's address, which is alone in its own: how it is reached is said.
void write_routes(FrameWriter& out) {
  static constexpr Ipv4 kNowhere{};
  out.u8(kRouter).u8(4).bytes(kGatewayIpv4);
  out.u8(kClasslessRoutes).u8(14);
  out.u8(32).bytes(kGatewayIpv4).bytes(kNowhere);
  out.u8(0).bytes(kGatewayIpv4);
}

}  // namespace

DhcpAnswer answer_dhcp(const Link& link, Bytes message, const uint8_t* from, std::vector<uint8_t>& frame) {
  static constexpr Ipv4 kNone{}, kAlone{255, 255, 255, 255};
  if (message.size() < kOptionsAt || message[0] != 1 || message[1] != 1 || message[2] != 6)
    return DhcpAnswer::refused;
  if (!equals(&message[28], link.guest) || double_word(&message[236]) != kCookie) return DhcpAnswer::refused;
  Asked asked;
  if (!read_options(message.subspan(kOptionsAt), asked) || link.ipv4.empty()) return DhcpAnswer::refused;
  if (asked.server.has_value() && *asked.server != kGatewayIpv4) return DhcpAnswer::refused;
  if (asked.type == kRelease || asked.type == kDecline) return DhcpAnswer::silence;
  if (asked.type != kDiscover && asked.type != kRequest && asked.type != kInform) return DhcpAnswer::refused;
  const Ipv4& address = link.ipv4.front();
  const bool renews = !equals(&message[12], kNone);
  const bool other =
      renews ? !equals(&message[12], address) : asked.requested.has_value() && *asked.requested != address;
  const bool refuses = asked.type == kRequest && other;
  const bool has_address = renews && equals(from, address) && !refuses;

  FrameWriter out(frame, link.guest, kTypeIpv4);
  out.ipv4(kGatewayIpv4, has_address ? address : kAlone, inner::kUdp).udp(kDhcpServer, kDhcpClient);
  out.u8(2).u8(1).u8(6).u8(0).bytes(message.subspan(4, 4)).u16(0).bytes(message.subspan(10, 2));
  out.bytes(refuses ? Bytes(kNone) : message.subspan(12, 4));
  out.bytes(refuses || asked.type == kInform ? kNone : address).bytes(kGatewayIpv4).zeros(4);
  out.bytes(message.subspan(28, 16)).zeros(64 + 128).u32(kCookie);
  out.u8(kMessageType).u8(1).u8(refuses ? kNak : asked.type == kDiscover ? kOffer : kAck);
  out.u8(kServer).u8(4).bytes(kGatewayIpv4);
  if (!refuses) {
    if (asked.type != kInform) out.u8(kLeaseTime).u8(4).u32(lease_of(link));
    out.u8(kMask).u8(4).bytes(kAlone);
    write_routes(out);
    out.u8(kMtu).u8(2).u16(static_cast<uint16_t>(link.mtu));
    if (!link.names4.empty()) out.u8(kNames).u8(static_cast<uint8_t>(4 * link.names4.size()));
    for (const Ipv4& name : link.names4) out.bytes(name);
  }
  out.u8(kEnd);
  if (frame.size() < kEthernetHeader + 28 + 300)
    out.zeros(kEthernetHeader + 28 + 300 - frame.size());  // RFC 1542 2.1
  out.finish();
  return DhcpAnswer::written;
}

namespace {

enum Message6 : uint8_t {
  kSolicit6 = 1,
  kAdvertise6,
  kRequest6,
  kConfirm6,
  kRenew6,
  kRebind6,
  kReply6,
  kRelease6,
  kDecline6,
  kReconfigure6,
  kInformation6,
};
enum Option6 : uint16_t {
  kClientId6 = 1,
  kServerId6 = 2,
  kAddresses6 = 3,  // IA_NA
  kAddress6 = 5,
  kStatus6 = 13,
  kRapid6 = 14,
  kNames6 = 23,  // RFC 3646
};
/// A DUID of the link-layer kind (RFC 8415 11.4).
constexpr std::array<uint8_t, 10> kServerDuid{0,
                                              3,
                                              0,
                                              1,
                                              kGatewayMac[0],
                                              kGatewayMac[1],
                                              kGatewayMac[2],
                                              kGatewayMac[3],
                                              kGatewayMac[4],
                                              kGatewayMac[5]};
constexpr size_t kMaxDuid = 130;  // RFC 8415 11.1

struct Asked6 {
  std::optional<Bytes> client, server, association;
  bool rapid = false;
};

bool read_options6(Bytes options, Asked6& out) {
  while (!options.empty()) {
    if (options.size() < 4 || options.size() < size_t{4} + word(&options[2])) return false;
    const Bytes value = options.subspan(4, word(&options[2]));
    const uint16_t code = word(&options[0]);
    if (code == kClientId6) out.client = value;
    if (code == kServerId6) out.server = value;
    if (code == kAddresses6 && !out.association.has_value()) out.association = value;
    if (code == kRapid6) out.rapid = true;
    options = options.subspan(4 + value.size());
  }
  return (!out.client.has_value() || out.client->size() <= kMaxDuid) &&
         (!out.association.has_value() || out.association->size() >= 12);
}

}  // namespace

DhcpAnswer answer_dhcpv6(const Link& link, Bytes message, const uint8_t* from, std::vector<uint8_t>& frame) {
  Asked6 asked;
  if (message.size() < 4 || !read_options6(message.subspan(4), asked) || link.ipv6.empty())
    return DhcpAnswer::refused;
  if (asked.server.has_value() && !std::ranges::equal(*asked.server, kServerDuid)) return DhcpAnswer::refused;
  const uint8_t type = message[0];
  const bool gives = type == kSolicit6 || type == kRequest6 || type == kRenew6 || type == kRebind6;
  const bool confirms = type == kConfirm6 || type == kRelease6 || type == kDecline6;
  if (!gives && !confirms && type != kInformation6) return DhcpAnswer::refused;
  if ((!asked.client.has_value() && type != kInformation6) || (gives && !asked.association.has_value()))
    return DhcpAnswer::refused;

  FrameWriter out(frame, link.guest, kTypeIpv6);
  out.ipv6(kGatewayIpv6, Bytes(from, 16), inner::kUdp).udp(kDhcpv6Server, kDhcpv6Client);
  out.u8(type == kSolicit6 && !asked.rapid ? kAdvertise6 : kReply6).bytes(message.subspan(1, 3));
  if (asked.client.has_value())
    out.u16(kClientId6).u16(static_cast<uint16_t>(asked.client->size())).bytes(*asked.client);
  out.u16(kServerId6).u16(kServerDuid.size()).bytes(kServerDuid);
  if (type == kSolicit6 && asked.rapid) out.u16(kRapid6).u16(0);
  if (gives) {
    const uint32_t lease = lease_of(link);
    out.u16(kAddresses6).u16(12 + 28).bytes(asked.association->first(4)).u32(lease / 2).u32(lease * 4 / 5);
    out.u16(kAddress6).u16(24).bytes(link.ipv6.front()).u32(lease).u32(lease);
  }
  if (confirms) out.u16(kStatus6).u16(2).u16(0);
  if (!link.names6.empty()) out.u16(kNames6).u16(static_cast<uint16_t>(16 * link.names6.size()));
  for (const Ipv6& name : link.names6) out.bytes(name);
  out.finish();
  return DhcpAnswer::written;
}

}  // namespace omerta::guest
