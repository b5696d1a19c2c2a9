// SPDX-License-Identifier: Apache-2.0
// Splits what a port for inner packets hands over: a packet larger than the MTU with a
// VirtioNetHeader in front (TCP segmentation offload, UDP segmentation offload), or a packet whose
// transport checksum was left to "hardware". Segments are written straight to where they are sealed.
#pragma once

#include "inner/ip.h"
#include "inner/virtio_net_header.h"

namespace omerta::inner {

class Segmentation {
 public:
  /// Headers of a super-packet at most: whoever writes its segments makes room for so many in front of each.
  static constexpr size_t kMaxHeaders = 512;

  /// Examines a packet; valid() tells whether header and packet agree. The packet has to outlive it.
  Segmentation(const VirtioNetHeader& header, uint8_t* packet, size_t size);

  bool valid() const { return count_ != 0; }
  /// What the header says: protocol of a super-packet, 0 for any other.
  static uint8_t super_packet_protocol(const VirtioNetHeader& header);
  size_t count() const { return count_; }
  /// Makes segments of a TCP super-packet so small that none is longer than `largest`. Nothing else can be
  /// split anew: datagrams and single packets are as long as somebody made them. Whether all fit now.
  bool limit(size_t largest);
  /// Length of segment `index`; all but the last are equal.
  size_t size(size_t index) const;
  /// Writes segment `index` with correct lengths, sequence number, flags and checksums.
  void write(size_t index, uint8_t* out) const;
  const IpView& ip() const { return ip_; }
  const uint8_t* packet() const { return packet_; }

 private:
  void sum_headers(size_t ip_header);
  void write_whole(uint8_t* out) const;

  uint8_t* packet_;
  IpView ip_;
  size_t size_;
  size_t header_size_ = 0;  ///< IP and transport headers, copied in front of every segment
  size_t transport_offset_ = 0;
  size_t checksum_at_ = 0;  ///< offset of the transport checksum; 0 = nothing to fill in
  size_t payload_per_segment_ = 0;
  uint64_t ip_sum_ = 0;
  uint64_t transport_sum_ = 0;
  uint8_t protocol_ = 0;
  size_t count_ = 0;
};

}  // namespace omerta::inner
