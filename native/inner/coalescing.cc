// SPDX-License-Identifier: Apache-2.0
#include "inner/coalescing.h"

namespace omerta::inner {
namespace {

constexpr uint8_t kAck = 0x10, kPsh = 0x08;
/// Payloads follow the VirtioNetHeader and the packet's headers.
constexpr size_t kPayloads = 2;

/// Spreads flows over the places of Coalescing::recent_; a collision costs a write, no more.
size_t place_of(const IpView& ip, const uint8_t* ports) {
  uint64_t mixed = load<uint32_t>(ports);
  for (size_t at = 0; at < size_t{2} * ip.address_size; at += 8) mixed ^= load<uint64_t>(ip.source + at);
  return mixed * 0x9E3779B97F4A7C15u >> 57;  // 7 bits: Coalescing::kRecent
}

/// Whether segmentation would write the checksums that are there. Of the two forms of zero it writes one
/// (RFC 1624 section 3): 0x0000 for IPv4 and TCP, 0xffff for UDP, where 0x0000 means that there is none
/// (RFC 768).
bool checksums_are_right(const uint8_t* packet, const IpView& ip, size_t transport, uint8_t protocol) {
  if (ip.family == 4 &&  // without options
      (load<uint16_t>(packet + 10) == 0xffff || checksum_finish(checksum_add(packet, 20)) != 0))
    return false;
  const auto present = load<uint16_t>(packet + transport + (protocol == kTcp ? 16 : 6));
  if (present == (protocol == kTcp ? 0xffff : 0)) return false;
  const size_t size = ip.length - transport;
  return checksum_finish(checksum_payload(packet + transport, size, pseudo_header_sum(ip, protocol, size))) ==
         0;
}

}  // namespace

Coalescing::Coalescing(Port& port, bool tcp, bool udp)
    : port_(port), tcp_{tcp}, udp_{udp}, items_(kMaxItems) {
  clear();
}

/// IPv4 without options or fragments, IPv6 without extension headers.
Coalescing::Candidate Coalescing::examine(const uint8_t* packet, const IpView& ip) const {
  Candidate c;
  if (ip.family == 4) {
    if (packet[0] != 0x45 || (ntohs(load<uint16_t>(packet + 6)) & 0x3fff) != 0) return c;
    c.protocol = packet[9];
    c.transport_offset = 20;
  } else {
    c.protocol = packet[6];
    c.transport_offset = 40;
  }
  const uint8_t* transport = packet + c.transport_offset;
  if (c.protocol == kTcp && tcp_.on && ip.length >= c.transport_offset + 20) {
    const size_t header_size = c.transport_offset + static_cast<size_t>(transport[12] >> 4) * 4;
    if (header_size < c.transport_offset + 20 || header_size > ip.length) return c;
    c.header_size = header_size;
    c.sequence = ntohl(load<uint32_t>(transport + 4));
    c.push = (transport[13] & kPsh) != 0;
    c.joinable = ip.length > header_size && (transport[13] & ~kPsh) == kAck;
  } else if (c.protocol == kUdp && udp_.on && ip.length >= c.transport_offset + 8) {
    c.header_size = c.transport_offset + 8;
    c.joinable =
        ip.length > c.header_size && ntohs(load<uint16_t>(transport + 4)) == ip.length - c.transport_offset;
  }
  if (c.header_size != 0) c.payload = ip.length - c.header_size;
  return c;
}

bool Coalescing::same_flow(const Item& item, const Candidate& candidate, const uint8_t* packet,
                           const IpView& ip) {
  return item.protocol == candidate.protocol && item.ip.family == ip.family &&
         std::memcmp(item.ip.source, ip.source, size_t{2} * ip.address_size) == 0 &&
         load<uint32_t>(item.packet + item.transport_offset) ==
             load<uint32_t>(packet + candidate.transport_offset);
}

/// Whether segmentation would make the packet's headers of the item's, to the bit. Flags but PSH, lengths
/// and checksums are looked at elsewhere.
bool Coalescing::same_headers(const Item& item, const Candidate& candidate, const uint8_t* packet) {
  if (item.ip.family == 4) {
    if (item.packet[1] != packet[1] || item.packet[8] != packet[8] || item.packet[6] != packet[6])
      return false;
    // Segmentation counts the identification up, whether it means something (RFC 6864) or not.
    const auto expected = static_cast<uint16_t>(ntohs(load<uint16_t>(item.packet + 4)) + item.segments);
    if (ntohs(load<uint16_t>(packet + 4)) != expected) return false;
  } else if (load<uint32_t>(item.packet) != load<uint32_t>(packet) || item.packet[7] != packet[7]) {
    return false;
  }
  if (candidate.protocol == kUdp) return true;
  if (item.header_size != candidate.header_size || item.next_sequence != candidate.sequence) return false;
  // Acknowledgement number, reserved bits with AccECN's (RFC 9768), window, urgent pointer, options.
  const size_t t = item.transport_offset;
  return std::memcmp(item.packet + t + 8, packet + t + 8, 5) == 0 &&
         std::memcmp(item.packet + t + 14, packet + t + 14, 2) == 0 &&
         std::memcmp(item.packet + t + 18, packet + t + 18, candidate.header_size - t - 18) == 0;
}

bool Coalescing::join(Item& item, const Candidate& candidate, uint8_t* packet, const IpView& ip) {
  if (!item.open || !candidate.joinable || candidate.payload > item.segment_payload ||
      item.segments == kMaxSegments || item.total + candidate.payload > kMaxBytes ||
      !same_headers(item, candidate, packet))
    return false;
  if (!item.verified) {
    item.verified = checksums_are_right(item.packet, item.ip, item.transport_offset, item.protocol);
    if (!item.verified) return false;
  }
  if (!checksums_are_right(packet, ip, candidate.transport_offset, candidate.protocol)) return false;
  item.parts[kPayloads + item.segments++] = {packet + candidate.header_size, candidate.payload};
  item.total += candidate.payload;
  item.next_sequence += static_cast<uint32_t>(candidate.payload);
  item.push = candidate.push;
  item.open = !candidate.push && candidate.payload == item.segment_payload;
  return true;
}

void Coalescing::add(uint8_t* packet, const IpView& ip, CounterRow& counters) {
  counters.add(Counter::tun_tx_packets);
  counters.add(Counter::tun_tx_bytes, ip.length);
  const Candidate candidate = examine(packet, ip);
  uint8_t* recent = nullptr;
  if (candidate.header_size != 0) {
    recent = &recent_[place_of(ip, packet + candidate.transport_offset)];
    if (*recent < count_ && same_flow(items_[*recent], candidate, packet, ip) &&
        join(items_[*recent], candidate, packet, ip))
      return;
  }
  if (count_ == kMaxItems) flush(counters);
  // What follows in this flow joins this one: it must not overtake.
  if (recent != nullptr) *recent = static_cast<uint8_t>(count_);
  Item& item = items_[count_++];
  item.packet = packet;
  item.ip = ip;
  item.header_size = candidate.header_size;
  item.transport_offset = candidate.transport_offset;
  item.segment_payload = candidate.payload;
  item.total = ip.length;
  item.next_sequence = candidate.sequence + static_cast<uint32_t>(candidate.payload);
  item.protocol = candidate.protocol;
  item.open = candidate.joinable && !candidate.push;
  item.verified = false;
  item.push = candidate.push;
  item.segments = 1;
  item.parts[kPayloads] = {packet + candidate.header_size, candidate.payload};
}

/// The headers are changed in a copy, so that the packets stay what they were.
void Coalescing::head_joined(Item& item) {
  uint8_t* headers = item.headers;
  const size_t t = item.transport_offset;
  const size_t transport_size = item.total - t;
  std::memcpy(headers, item.packet, item.header_size);
  if (item.ip.family == 4) {
    store(headers + 2, htons(static_cast<uint16_t>(item.total)));
    store<uint16_t>(headers + 10, 0);
    store(headers + 10, checksum_finish(checksum_add(headers, 20)));
  } else {
    store(headers + 4, htons(static_cast<uint16_t>(item.total - 40)));
  }
  VirtioNetHeader& header = item.header;
  header = {};
  header.flags = kNeedsChecksum;
  header.header_length = static_cast<uint16_t>(item.header_size);
  header.gso_size = static_cast<uint16_t>(item.segment_payload);
  header.checksum_start = static_cast<uint16_t>(t);
  if (item.protocol == kTcp) {
    header.gso_type = item.ip.family == 4 ? kGsoTcp4 : kGsoTcp6;
    header.checksum_offset = 16;
    if (item.push) headers[t + 13] |= kPsh;
  } else {
    header.gso_type = kGsoUdp;
    header.checksum_offset = 6;
    store(headers + t + 4, htons(static_cast<uint16_t>(transport_size)));
  }
  store(headers + t + header.checksum_offset,
        checksum_fold(pseudo_header_sum(item.ip, item.protocol, transport_size)));
}

Gathered Coalescing::gather(Item& item) {
  item.parts[0] = {&item.header, sizeof item.header};
  if (item.segments == 1) {
    // As it is. Nothing is claimed of its checksum: who receives it looks.
    item.header = {};
    item.parts[1] = {item.packet, item.ip.length};
    return {item.parts, 2};
  }
  head_joined(item);
  item.parts[1] = {item.headers, item.header_size};
  return {item.parts, kPayloads + item.segments};
}

void Coalescing::send_apart(const Item& item, CounterRow& counters) {
  for (size_t i = 0; i < item.segments; i++) {
    const iovec& payload = item.parts[kPayloads + i];
    counters.add(Counter::tun_tx_writes);
    if (!port_.send_one(static_cast<uint8_t*>(payload.iov_base) - item.header_size,
                        item.header_size + payload.iov_len))
      counters.add(Counter::drop_tun_write);
  }
}

void Coalescing::not_taken(const Item& item, Port::Stop why, CounterRow& counters) {
  counters.add(Counter::tun_tx_writes);
  if (why != Port::Stop::refused || item.segments == 1)
    return counters.add(Counter::drop_tun_write, item.segments);
  Joining& joining = joining_of(item);
  if (++joining.refused == kMaxRefused) joining.on = false;
  send_apart(item, counters);
}

void Coalescing::flush(CounterRow& counters) {
  if (count_ == 0) return;
  for (size_t i = 0; i < count_; i++) gathered_[i] = gather(items_[i]);
  for (size_t done = 0; done < count_;) {
    const Port::Taken taken = port_.send(std::span(gathered_.data() + done, count_ - done));
    counters.add(Counter::tun_tx_writes, taken.count);
    if (tcp_.refused + udp_.refused != 0)
      for (size_t i = done; i < done + taken.count; i++)
        if (items_[i].segments > 1) joining_of(items_[i]).refused = 0;
    done += taken.count;
    if (taken.stop != Port::Stop::none) not_taken(items_[done++], taken.stop, counters);
  }
  clear();
}

}  // namespace omerta::inner
