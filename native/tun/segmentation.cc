// SPDX-License-Identifier: Apache-2.0
#include "tun/segmentation.h"

#include <algorithm>

namespace omerta::tun {

Segmentation::Segmentation(const VirtioNetHeader& header, uint8_t* packet, size_t size)
    : packet_(packet), ip_(parse_ip(packet, size)), size_(size) {
  const uint8_t type = header.gso_type & static_cast<uint8_t>(~kGsoEcn);
  if (type == kGsoNone) {
    if (ip_.family == 0) return;
    if ((header.flags & kNeedsChecksum) != 0) {
      // The field holds the pseudo header's sum already (virtio 1.2, 5.1.6.2).
      const size_t start = header.checksum_start;
      const size_t field = start + header.checksum_offset;
      if (field + 2 > size || start > size) return;
      uint16_t sum = checksum_finish(checksum_add(packet + start, size - start));
      if (header.checksum_offset == 6 && sum == 0) sum = 0xffff;  // UDP: zero means "none" (RFC 768)
      store(packet + field, sum);
    }
    header_size_ = size;
    count_ = 1;
    return;
  }
  if (ip_.family == 0 || header.gso_size == 0) return;
  transport_offset_ = header.checksum_start;
  if (type == kGsoTcp4 || type == kGsoTcp6) {
    protocol_ = kTcp;
    if (transport_offset_ + 20 > size) return;
    const size_t tcp_header = static_cast<size_t>(packet[transport_offset_ + 12] >> 4) * 4;
    if (tcp_header < 20) return;
    header_size_ = transport_offset_ + tcp_header;
  } else if (type == kGsoUdp) {
    protocol_ = kUdp;
    header_size_ = transport_offset_ + 8;
  } else {
    return;
  }
  const bool family_matches = type == kGsoUdp || (type == kGsoTcp4) == (ip_.family == 4);
  const size_t ip_header = ip_.family == 4 ? static_cast<size_t>(packet[0] & 15) * 4 : 40;
  if (!family_matches || transport_offset_ < ip_header || header_size_ >= size) return;
  payload_per_segment_ = header.gso_size;
  count_ = (size - header_size_ + payload_per_segment_ - 1) / payload_per_segment_;
}

size_t Segmentation::size(size_t index) const {
  if (payload_per_segment_ == 0) return size_;
  const size_t payload = size_ - header_size_;
  return header_size_ + std::min(payload_per_segment_, payload - index * payload_per_segment_);
}

void Segmentation::write(size_t index, uint8_t* out) const {
  if (payload_per_segment_ == 0) {
    std::memcpy(out, packet_, size_);
    return;
  }
  const size_t segment_size = size(index);
  const size_t offset = index * payload_per_segment_;
  std::memcpy(out, packet_, header_size_);
  std::memcpy(out + header_size_, packet_ + header_size_ + offset, segment_size - header_size_);

  if (ip_.family == 4) {
    store(out + 2, htons(static_cast<uint16_t>(segment_size)));
    const uint16_t identification = ntohs(load<uint16_t>(packet_ + 4));
    store(out + 4, htons(static_cast<uint16_t>(identification + index)));
    store<uint16_t>(out + 10, 0);
    store(out + 10, checksum_finish(checksum_add(out, static_cast<size_t>(out[0] & 15) * 4)));
  } else {
    store(out + 4, htons(static_cast<uint16_t>(segment_size - 40)));
  }
  uint8_t* transport = out + transport_offset_;
  const size_t transport_size = segment_size - transport_offset_;
  const size_t checksum_at = protocol_ == kTcp ? 16 : 6;
  if (protocol_ == kTcp) {
    const uint32_t sequence = ntohl(load<uint32_t>(packet_ + transport_offset_ + 4));
    store(transport + 4, htonl(sequence + static_cast<uint32_t>(offset)));
    constexpr uint8_t kFin = 0x01, kPsh = 0x08, kCwr = 0x80;
    if (index + 1 != count_) transport[13] = static_cast<uint8_t>(transport[13] & ~(kFin | kPsh));
    if (index != 0)
      transport[13] = static_cast<uint8_t>(transport[13] & ~kCwr);  // RFC 3168 6.1.2: on the first only
  } else {
    store(transport + 4, htons(static_cast<uint16_t>(transport_size)));
  }
  store<uint16_t>(transport + checksum_at, 0);
  uint16_t sum = checksum_finish(
      checksum_add(transport, transport_size, pseudo_header_sum(ip_, protocol_, transport_size)));
  if (protocol_ == kUdp && sum == 0) sum = 0xffff;
  store(transport + checksum_at, sum);
}

}  // namespace omerta::tun
