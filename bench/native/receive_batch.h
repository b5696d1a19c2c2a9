// SPDX-License-Identifier: Apache-2.0
// What the sinks of the benchmarks do alike: take datagrams by the batch, and tell which were seen before.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "sockets.h"

namespace omerta::bench {

/// What one recvmmsg takes; datagrams the kernel has joined (UDP_GRO) are taken apart.
class ReceiveBatch {
 public:
  ReceiveBatch() {
    for (size_t i = 0; i < kMessages; i++) vectors_[i] = {memory_.get() + i * kSlot, kSlot};
  }

  /// Calls `datagram(data, size)` for each that is there. @param overflow of the socket, where it tells
  /// (SO_RXQ_OVFL).
  /// @returns false when there was none.
  template <class Datagram>
  bool receive(int fd, uint32_t& overflow, const Datagram& datagram) {
    alignas(cmsghdr) uint8_t controls[kMessages][CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint32_t))];
    mmsghdr headers[kMessages]{};
    for (size_t i = 0; i < kMessages; i++) {
      headers[i].msg_hdr.msg_iov = &vectors_[i];
      headers[i].msg_hdr.msg_iovlen = 1;
      headers[i].msg_hdr.msg_control = controls[i];
      headers[i].msg_hdr.msg_controllen = sizeof controls[i];
    }
    const int count = recvmmsg(fd, headers, kMessages, MSG_DONTWAIT, nullptr);
    if (count <= 0) return false;
    last_ = now();
    if (first_ == 0) first_ = last_;
    for (size_t i = 0; i < static_cast<size_t>(count); i++) {
      msghdr& header = headers[i].msg_hdr;
      const size_t size = headers[i].msg_len;
      size_t segment = size;
      for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
          int value;
          std::memcpy(&value, CMSG_DATA(c), sizeof value);
          segment = static_cast<size_t>(value);
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
          std::memcpy(&overflow, CMSG_DATA(c), sizeof overflow);
        }
      }
      const auto* data = static_cast<const uint8_t*>(vectors_[i].iov_base);
      for (size_t at = 0; at < size; at += segment) datagram(data + at, std::min(segment, size - at));
    }
    return true;
  }

  /// When the last batch came.
  uint64_t last() const { return last_; }
  /// Nanoseconds from the first batch to the last.
  uint64_t duration() const { return last_ - first_; }

 private:
  static constexpr size_t kMessages = 16;
  static constexpr size_t kSlot = 65536;

  std::unique_ptr<uint8_t[]> memory_{new uint8_t[kMessages * kSlot]()};
  iovec vectors_[kMessages]{};
  uint64_t first_ = 0;
  uint64_t last_ = 0;
};

/// Which sequence numbers have come, of 0 to kCount - 1.
class SeenSequences {
 public:
  static constexpr size_t kCount = size_t{1} << 26;

  /// Counts it. @returns whether it came for the first time.
  bool add(uint64_t sequence) {
    uint64_t& word = words_[sequence / 64];
    const uint64_t bit = uint64_t{1} << (sequence % 64);
    const bool again = (word & bit) != 0;
    (again ? duplicates_ : received_)++;
    word |= bit;
    return !again;
  }
  uint64_t received() const { return received_; }
  uint64_t duplicates() const { return duplicates_; }

 private:
  std::vector<uint64_t> words_ = std::vector<uint64_t>(kCount / 64);
  uint64_t received_ = 0;
  uint64_t duplicates_ = 0;
};

}  // namespace omerta::bench
