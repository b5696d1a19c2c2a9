// SPDX-License-Identifier: Apache-2.0
// UDP (RFC 768) as it is read and written: one datagram, or a super-packet of several of one flow.
#pragma once

#include <algorithm>
#include <vector>

#include "stack/packet_view.h"

namespace omerta::stack {

struct Datagrams {
  Flow flow;  ///< remote is who sent them
  Scattered payload;
  size_t each = 0;  ///< bytes of each but the last, which may have fewer; all of them where there is one
};

/// false: the header does not fit.
inline bool parse_datagrams(const PacketView& packet, Datagrams& out) {
  const size_t together = std::min(packet.together - packet.transport, packet.body.size());
  if (together < 8) return false;
  const uint8_t* udp = packet.data + packet.transport;
  const size_t length = ntohs(load<uint16_t>(udp + 4));
  if (length < 8 || length > packet.body.size()) return false;
  out.flow.local = address_of(packet.ip.destination, packet.ip.address_size);
  out.flow.remote = address_of(packet.ip.source, packet.ip.address_size);
  out.flow.remote_port = ntohs(load<uint16_t>(udp));
  out.flow.local_port = ntohs(load<uint16_t>(udp + 2));
  out.payload = packet.body;
  out.payload.keep(length);
  out.payload.drop_front(8);
  out.each = packet.segment_size != 0 ? packet.segment_size : out.payload.size();
  return out.flow.local_port != 0 && out.flow.remote_port != 0;
}

/// A whole packet with its checksums, from flow.local to flow.remote. At most 65,507 bytes of payload.
inline std::vector<uint8_t> write_datagram(const Flow& flow, Bytes payload) {
  const size_t size = 8 + payload.size();
  std::vector<uint8_t> packet(flow.ip_header() + size);
  uint8_t* udp = packet.data() + write_ip(packet.data(), flow, inner::kUdp, size, 0);
  if (flow.ipv4()) {  // it may be fragmented, as what it came from was perhaps
    store(packet.data() + 6, uint16_t{0});
    store(packet.data() + 10, uint16_t{0});
    store(packet.data() + 10, inner::checksum_finish(inner::checksum_add(packet.data(), 20)));
  }
  store(udp, htons(flow.local_port));
  store(udp + 2, htons(flow.remote_port));
  store(udp + 4, htons(static_cast<uint16_t>(size)));
  std::copy(payload.begin(), payload.end(), udp + 8);  // none may be nowhere
  const uint16_t sum =
      inner::checksum_finish(inner::checksum_payload(udp, size, pseudo_sum(flow, inner::kUdp, size)));
  store(udp + 6, sum == 0 ? uint16_t{0xffff} : sum);
  return packet;
}

}  // namespace omerta::stack
