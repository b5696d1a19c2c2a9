// SPDX-License-Identifier: Apache-2.0
#include "stack/packet_view.h"

#include "common/ecn.h"

namespace omerta::stack {
namespace {

constexpr uint16_t kDontFragment = 0x4000, kFragmentMask = 0x3fff;
constexpr uint8_t kHopLimit = 64;

bool is_mapped(const uint8_t* address) {
  return std::memcmp(address, kMappedPrefix, sizeof kMappedPrefix) == 0;
}

bool has_checksum(uint8_t protocol) {
  return protocol == inner::kTcp || protocol == inner::kUdp || protocol == kIcmp || protocol == kIcmpv6;
}

bool checksum_is_right(const PacketView& packet) {
  if (packet.protocol == inner::kUdp && packet.ip.family == 4 && packet.body.size() >= 8 &&
      load<uint16_t>(packet.data + packet.transport + 6) == 0)
    return true;  // none (RFC 768)
  const uint64_t pseudo =
      packet.protocol == kIcmp ? 0 : inner::pseudo_header_sum(packet.ip, packet.protocol, packet.body.size());
  return inner::checksum_fold(packet.body.checksum(pseudo)) == 0xffff;
}

}  // namespace

PacketError parse_packet(inner::Gathered packet, PacketView& out) {
  if (packet.size() < 2 || packet[0].iov_len < sizeof(inner::VirtioNetHeader)) return PacketError::malformed;
  const auto header = load<inner::VirtioNetHeader>(packet[0].iov_base);
  const std::span<const iovec> parts = packet.subspan(1);
  size_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  out.data = static_cast<uint8_t*>(parts[0].iov_base);
  out.together = parts[0].iov_len;
  if (out.together < 20 || (out.data[0] >> 4 == 6 && out.together < 40)) return PacketError::malformed;
  out.ip = inner::parse_ip(out.data, total);
  if (out.ip.family == 0) return PacketError::malformed;
  const bool v4 = out.ip.family == 4;
  out.transport = v4 ? static_cast<size_t>(out.data[0] & 15) * 4 : 40;
  if (out.transport > out.together) return PacketError::malformed;
  if (v4 && (ntohs(load<uint16_t>(out.data + 6)) & kFragmentMask) != 0) return PacketError::fragment;
  if (v4 && inner::checksum_fold(inner::checksum_add(out.data, out.transport)) != 0xffff)
    return PacketError::checksum;
  // An IPv4 address in an IPv6 header would be taken for that of an IPv4 packet.
  if (!v4 && (is_mapped(out.ip.source) || is_mapped(out.ip.destination))) return PacketError::malformed;
  out.protocol = out.data[v4 ? 9 : 6];
  if (!v4 && !has_checksum(out.protocol)) return PacketError::fragment;
  out.ecn = ecn_of(out.data);
  out.body = Scattered(parts, out.transport, out.ip.length - out.transport);
  out.segment_size = header.gso_type == inner::kGsoNone ? 0 : header.gso_size;
  const bool known = (header.flags & (inner::kNeedsChecksum | inner::kDataValid)) != 0;
  if (!known && has_checksum(out.protocol) && !checksum_is_right(out)) return PacketError::checksum;
  return PacketError::none;
}

size_t write_ip(uint8_t* out, const Flow& flow, uint8_t protocol, size_t transport, uint8_t ecn) {
  if (flow.ipv4()) {
    std::memset(out, 0, 20);
    out[0] = 0x45;
    out[1] = ecn;
    store(out + 2, htons(static_cast<uint16_t>(20 + transport)));
    store(out + 6, htons(kDontFragment));
    out[8] = kHopLimit;
    out[9] = protocol;
    std::memcpy(out + 12, flow.local.data() + 12, 4);
    std::memcpy(out + 16, flow.remote.data() + 12, 4);
    store(out + 10, inner::checksum_finish(inner::checksum_add(out, 20)));
    return 20;
  }
  std::memset(out, 0, 8);
  out[0] = 0x60;
  out[1] = static_cast<uint8_t>(ecn << 4);
  store(out + 4, htons(static_cast<uint16_t>(transport)));
  out[6] = protocol;
  out[7] = kHopLimit;
  std::memcpy(out + 8, flow.local.data(), 16);
  std::memcpy(out + 24, flow.remote.data(), 16);
  return 40;
}

uint64_t pseudo_sum(const Flow& flow, uint8_t protocol, size_t transport) {
  const size_t size = flow.ipv4() ? 4 : 16;
  uint64_t sum = inner::checksum_add(flow.local.data() + 16 - size, size);
  sum = inner::checksum_add(flow.remote.data() + 16 - size, size, sum);
  return sum + htons(protocol) + htons(static_cast<uint16_t>(transport));
}

}  // namespace omerta::stack
