// SPDX-License-Identifier: Apache-2.0
#include "tun/coalescing.h"

namespace omerta::tun {
namespace {
constexpr uint8_t kAck = 0x10, kPsh = 0x08;
}

Coalescing::Coalescing(int queue, bool tcp) : queue_(queue), tcp_(tcp), items_(kMaxItems) {}

bool Coalescing::same_flow(const Item& item, const uint8_t* packet, const IpView& ip,
                           size_t transport_offset) {
  return item.header_size != 0 && item.ip.family == ip.family && item.transport_offset == transport_offset &&
         std::memcmp(item.ip.source, ip.source, size_t{2} * ip.address_size) == 0 &&
         std::memcmp(item.packet + transport_offset, packet + transport_offset, 4) == 0;
}

/// Whether the packet's headers say nothing that the item's do not (as GRO in the kernel asks).
bool Coalescing::joinable(const Item& item, const uint8_t* packet, size_t header_size) {
  if (item.header_size != header_size) return false;
  const size_t t = item.transport_offset;
  if (item.ip.family == 4) {
    if (item.packet[1] != packet[1] || item.packet[8] != packet[8] || item.packet[6] != packet[6])
      return false;
  } else if (std::memcmp(item.packet, packet, 4) != 0 || item.packet[7] != packet[7]) {
    return false;
  }
  // Acknowledgement number, window and urgent pointer, options.
  return std::memcmp(item.packet + t + 8, packet + t + 8, 4) == 0 &&
         std::memcmp(item.packet + t + 14, packet + t + 14, 2) == 0 &&
         std::memcmp(item.packet + t + 18, packet + t + 18, header_size - t - 18) == 0;
}

void Coalescing::add(uint8_t* packet, const IpView& ip, CounterRow& counters) {
  counters.add(Counter::tun_tx_packets);
  counters.add(Counter::tun_tx_bytes, ip.length);
  size_t header_size = 0;
  size_t transport = 0;
  uint32_t sequence = 0;
  bool candidate = false;
  if (tcp_) {
    // IPv4 without options or fragments, IPv6 without extension headers.
    if (ip.family == 4 && packet[0] == 0x45 && packet[9] == kTcp &&
        (ntohs(load<uint16_t>(packet + 6)) & 0x3fff) == 0)
      transport = 20;
    else if (ip.family == 6 && packet[6] == kTcp)
      transport = 40;
    if (transport != 0 && ip.length >= transport + 20) {
      header_size = transport + static_cast<size_t>(packet[transport + 12] >> 4) * 4;
      if (header_size < transport + 20 || header_size > ip.length) header_size = 0;
    }
    if (header_size != 0) {
      const uint8_t flags = packet[transport + 13];
      candidate = ip.length > header_size && (flags & ~kPsh) == kAck;
      sequence = ntohl(load<uint32_t>(packet + transport + 4));
    }
  }
  const size_t payload = ip.length - (header_size != 0 ? header_size : ip.length);
  if (header_size != 0) {
    for (size_t i = count_; i-- > 0;) {
      Item& item = items_[i];
      if (!item.open || !same_flow(item, packet, ip, transport)) continue;
      if (candidate && sequence == item.next_sequence && payload <= item.segment_payload &&
          item.segments < kMaxSegments && item.total + payload <= kMaxBytes &&
          joinable(item, packet, header_size)) {
        item.payload[item.segments++] = {packet + header_size, payload};
        item.total += payload;
        item.next_sequence += static_cast<uint32_t>(payload);
        if ((packet[transport + 13] & kPsh) != 0) {
          item.packet[transport + 13] |= kPsh;
          item.open = false;
        }
        if (payload < item.segment_payload) item.open = false;
        return;
      }
      item.open = false;  // what follows in this flow must not overtake
      break;
    }
  }
  if (count_ == kMaxItems) flush(counters);
  Item& item = items_[count_++];
  item.packet = packet;
  item.ip = ip;
  item.header_size = header_size;
  item.transport_offset = transport;
  item.segment_payload = payload;
  item.total = ip.length;
  item.next_sequence = sequence + static_cast<uint32_t>(payload);
  item.segments = 1;
  item.payload[0] = {packet + header_size, payload};
  item.open = candidate && (packet[transport + 13] & kPsh) == 0;
}

void Coalescing::write(Item& item, CounterRow& counters) {
  VirtioNetHeader header{};
  iovec vectors[kMaxSegments + 2];
  size_t used = 0;
  vectors[used++] = {&header, sizeof header};
  if (item.segments == 1) {
    // The tag proved that nothing changed on the way: the checksum is as good as its sender made it.
    header.flags = kDataValid;
    vectors[used++] = {item.packet, item.ip.length};
  } else {
    const size_t t = item.transport_offset;
    if (item.ip.family == 4) {
      store(item.packet + 2, htons(static_cast<uint16_t>(item.total)));
      store<uint16_t>(item.packet + 10, 0);
      store(item.packet + 10, checksum_finish(checksum_add(item.packet, 20)));
    } else {
      store(item.packet + 4, htons(static_cast<uint16_t>(item.total - 40)));
    }
    store(item.packet + t + 16, checksum_fold(pseudo_header_sum(item.ip, kTcp, item.total - t)));
    header.flags = kNeedsChecksum;
    header.gso_type = item.ip.family == 4 ? kGsoTcp4 : kGsoTcp6;
    header.header_length = static_cast<uint16_t>(item.header_size);
    header.gso_size = static_cast<uint16_t>(item.segment_payload);
    header.checksum_start = static_cast<uint16_t>(t);
    header.checksum_offset = 16;
    vectors[used++] = {item.packet, item.header_size};
    for (size_t i = 0; i < item.segments; i++) vectors[used++] = item.payload[i];
  }
  counters.add(Counter::tun_tx_writes);
  if (writev(queue_, vectors, static_cast<int>(used)) < 0)
    counters.add(Counter::drop_tun_write, item.segments);
}

void Coalescing::flush(CounterRow& counters) {
  for (size_t i = 0; i < count_; i++) write(items_[i], counters);
  count_ = 0;
}

}  // namespace omerta::tun
