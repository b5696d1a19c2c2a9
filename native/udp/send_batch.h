// SPDX-License-Identifier: Apache-2.0
// Datagrams on their way to the socket: gathered to messages, each one or several of one size to one
// destination (udp/udp_socket.h, Terms), and the headers sendmmsg(2) wants of them. A batch owns its memory,
// all of it touched once at start.
#pragma once

#include <netinet/in.h>
#include <omerta/wire.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <memory>

#include "common/local_address.h"

namespace omerta::udp {

/// Datagrams to be sent with one system call. Those for one destination become segments of one
/// message (UDP GSO) wherever they lie: the kernel gathers them. Their order within a destination is
/// kept. Memory they point to must live until flush.
class SendBatch {
 public:
  static constexpr size_t kMessages = 64;
  /// UDP_MAX_SEGMENTS of recent kernels, and of those before.
  static constexpr size_t kMaxSegments = 128;
  static constexpr size_t kFormerMaxSegments = 64;
  static constexpr size_t kMaxMessageBytes = 65000;

  /// coalesce: whether datagrams may become segments of one message (UdpSocket::gso).
  explicit SendBatch(bool coalesce);
  ~SendBatch();
  SendBatch(const SendBatch&) = delete;
  SendBatch& operator=(const SendBatch&) = delete;

  bool empty() const { return count_ == 0; }
  bool coalesces() const { return coalesce_; }
  /// How many datagrams shared a message with an earlier one, ever.
  uint64_t joined() const { return joined_; }
  /// Whether a datagram would share a message with one that waits.
  bool would_join(const omerta_address& to, const LocalAddress& local, size_t size,
                  uint8_t traffic_class) const;
  size_t size() const { return count_; }  ///< in messages
  /// Whether something is to be sent from another port than the engine's own.
  bool has_extra_ports() const { return extra_ports_; }
  /// Adds datagrams that lie back to back: `segment` bytes each, the last may be shorter. Returns how many
  /// bytes were added, whole datagrams: fewer than `size` when there is no more room. Flush then, and add
  /// the rest. traffic_class: DSCP and ECN of their IP header; datagrams of different ones share no message.
  size_t append(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size,
                size_t segment, uint8_t traffic_class);
  /// The same, but each datagram is a message of its own, which none joins.
  size_t append_alone(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size,
                      size_t segment, uint8_t traffic_class);
  /// Adds one datagram without DSCP and ECN; false when there is no room.
  bool append(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size) {
    return append(to, local, data, size, size, 0) == size;
  }

 private:
  friend class UdpSocket;
  struct Entry {
    omerta_address to;
    LocalAddress local;
    uint8_t traffic_class;
    bool alone;
    size_t size;
    size_t segment;
    size_t segments;
    size_t pieces;
    iovec piece[kMaxSegments];
  };
  /// Room for the control messages of one: where to send from, traffic class, segment size.
  struct Control {
    alignas(cmsghdr) uint8_t
        bytes[CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t)) + CMSG_SPACE(sizeof(int))];
  };
  static constexpr size_t kRecent = 128;

  Entry* recent(const omerta_address& to, const LocalAddress& local, uint8_t traffic_class) const;
  Entry& begin(const omerta_address& to, const LocalAddress& local, uint8_t traffic_class, bool alone);
  size_t extend(Entry& entry, uint8_t* data, size_t size, size_t segment);

  size_t count_ = 0;
  bool coalesce_;
  bool extra_ports_ = false;
  uint64_t joined_ = 0;
  size_t max_segments_ = kMaxSegments;
  /// Message last begun for a destination, by a hash of it; one that lost its place gets a new message.
  std::array<uint8_t, kRecent> recent_;
  std::unique_ptr<Entry[]> entries_;
  std::unique_ptr<mmsghdr[]> headers_;
  std::unique_ptr<sockaddr_storage[]> addresses_;
  std::unique_ptr<Control[]> controls_;
};

}  // namespace omerta::udp
