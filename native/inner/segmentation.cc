// SPDX-License-Identifier: Apache-2.0
#include "inner/segmentation.h"

#include <algorithm>

namespace omerta::inner {
namespace {
constexpr uint8_t kFin = 0x01, kPsh = 0x08, kCwr = 0x80;
constexpr size_t kTcpChecksum = 16, kUdpChecksum = 6;
}  // namespace

Segmentation::Segmentation(const VirtioNetHeader& header, uint8_t* packet, size_t size)
    : packet_(packet), ip_(parse_ip(packet, size)), size_(size) {
  const uint8_t type = header.gso_type & static_cast<uint8_t>(~kGsoEcn);
  if (type == kGsoNone) {
    if (ip_.family == 0) return;
    if ((header.flags & kNeedsChecksum) != 0) {
      transport_offset_ = header.checksum_start;
      checksum_at_ = transport_offset_ + header.checksum_offset;
      if (checksum_at_ + 2 > size || transport_offset_ > size) return;
      if (header.checksum_offset == kUdpChecksum) protocol_ = kUdp;
    }
    header_size_ = size;
    count_ = 1;
    return;
  }
  if (ip_.family == 0 || header.gso_size == 0) return;
  transport_offset_ = header.checksum_start;
  if (type == kGsoTcp4 || type == kGsoTcp6) {
    protocol_ = kTcp;
    checksum_at_ = transport_offset_ + kTcpChecksum;
    if (transport_offset_ + 20 > size) return;
    const size_t tcp_header = static_cast<size_t>(packet[transport_offset_ + 12] >> 4) * 4;
    if (tcp_header < 20) return;
    header_size_ = transport_offset_ + tcp_header;
  } else if (type == kGsoUdp) {
    protocol_ = kUdp;
    checksum_at_ = transport_offset_ + kUdpChecksum;
    header_size_ = transport_offset_ + 8;
  } else {
    return;
  }
  const bool family_matches = type == kGsoUdp || (type == kGsoTcp4) == (ip_.family == 4);
  const size_t ip_header = ip_.family == 4 ? static_cast<size_t>(packet[0] & 15) * 4 : 40;
  if (!family_matches || transport_offset_ < ip_header || header_size_ >= size || header_size_ > kMaxHeaders)
    return;
  payload_per_segment_ = header.gso_size;
  count_ = (size - header_size_ + payload_per_segment_ - 1) / payload_per_segment_;
  sum_headers(ip_header);
}

uint8_t Segmentation::super_packet_protocol(const VirtioNetHeader& header) {
  const uint8_t type = header.gso_type & static_cast<uint8_t>(~kGsoEcn);
  if (type == kGsoTcp4 || type == kGsoTcp6) return kTcp;
  return type == kGsoUdp ? kUdp : 0;
}

/// What the headers of all segments have in common is summed once: all but the fields that write() sets.
void Segmentation::sum_headers(size_t ip_header) {
  if (ip_.family == 4) {
    ip_sum_ = checksum_add(packet_, 2);               // version, header length, class
    ip_sum_ = checksum_add(packet_ + 6, 4, ip_sum_);  // flags, lifetime, protocol
    ip_sum_ = checksum_add(packet_ + 12, ip_header - 12, ip_sum_);
  }
  const uint8_t* transport = packet_ + transport_offset_;
  transport_sum_ = pseudo_header_sum(ip_, protocol_, 0);
  transport_sum_ = checksum_add(transport, 4, transport_sum_);  // ports
  if (protocol_ == kTcp) {
    transport_sum_ = checksum_add(transport + 8, 4, transport_sum_);   // acknowledgement
    transport_sum_ = checksum_add(transport + 14, 2, transport_sum_);  // window
    transport_sum_ = checksum_add(transport + 18, header_size_ - transport_offset_ - 18, transport_sum_);
  }
}

bool Segmentation::limit(size_t largest) {
  if (!valid() || size(0) <= largest) return valid();
  if (payload_per_segment_ == 0 || protocol_ != kTcp || largest <= header_size_) return false;
  payload_per_segment_ = largest - header_size_;
  count_ = (size_ - header_size_ + payload_per_segment_ - 1) / payload_per_segment_;
  return true;
}

size_t Segmentation::size(size_t index) const {
  if (payload_per_segment_ == 0) return size_;
  const size_t payload = size_ - header_size_;
  return header_size_ + std::min(payload_per_segment_, payload - index * payload_per_segment_);
}

void Segmentation::write_whole(uint8_t* out) const {
  if (checksum_at_ == 0) {
    std::memcpy(out, packet_, size_);
    return;
  }
  // The field holds the pseudo header's sum already (virtio 1.2, 5.1.6.2).
  std::memcpy(out, packet_, transport_offset_);
  uint16_t sum = checksum_finish(
      checksum_copy(out + transport_offset_, packet_ + transport_offset_, size_ - transport_offset_));
  if (protocol_ == kUdp && sum == 0) sum = 0xffff;  // zero means "none" (RFC 768)
  store(out + checksum_at_, sum);
}

void Segmentation::write(size_t index, uint8_t* out) const {
  if (payload_per_segment_ == 0) return write_whole(out);
  const size_t segment_size = size(index);
  const size_t offset = index * payload_per_segment_;
  std::memcpy(out, packet_, header_size_);
  uint64_t sum = checksum_copy(out + header_size_, packet_ + header_size_ + offset,
                               segment_size - header_size_, transport_sum_);
  if (ip_.family == 4) {
    const uint16_t length = htons(static_cast<uint16_t>(segment_size));
    const uint16_t identification = htons(static_cast<uint16_t>(ntohs(load<uint16_t>(packet_ + 4)) + index));
    store(out + 2, length);
    store(out + 4, identification);
    store(out + 10, checksum_finish(ip_sum_ + length + identification));
  } else {
    store(out + 4, htons(static_cast<uint16_t>(segment_size - 40)));
  }
  uint8_t* transport = out + transport_offset_;
  const uint16_t transport_size = htons(static_cast<uint16_t>(segment_size - transport_offset_));
  sum += transport_size;
  if (protocol_ == kTcp) {
    const uint32_t sequence =
        htonl(ntohl(load<uint32_t>(packet_ + transport_offset_ + 4)) + static_cast<uint32_t>(offset));
    store(transport + 4, sequence);
    uint8_t flags = transport[13];
    if (index + 1 != count_) flags &= static_cast<uint8_t>(~(kFin | kPsh));
    if (index != 0) flags &= static_cast<uint8_t>(~kCwr);  // RFC 3168 6.1.2: on the first only
    transport[13] = flags;
    sum += sequence;
    sum += load<uint16_t>(transport + 12);
  } else {
    store(transport + 4, transport_size);
    sum += transport_size;
  }
  uint16_t checksum = checksum_finish(sum);
  if (protocol_ == kUdp && checksum == 0) checksum = 0xffff;
  store(out + checksum_at_, checksum);
}

}  // namespace omerta::inner
