// SPDX-License-Identifier: Apache-2.0
// What a worker sends: datagrams that wait in a batch until the next flush, in an arena of this worker's or
// wherever else they lie. It is also what the session table sends by on this worker's thread.
#pragma once

#include <memory>
#include <optional>

#include "engine/output.h"
#include "udp/socket_io.h"

namespace omerta::engine {

class Sender final : public EventOutput {
 public:
  /// coalesce: whether datagrams may become segments of one message (UdpSocket::gso).
  Sender(Shared& shared, CounterRow& counters, bool coalesce)
      : EventOutput(shared, counters), batch_(coalesce), arena_(new uint8_t[kArenaBytes]()) {}

  /// What it sends by; has to outlive the next flush.
  void use(udp::SocketIo& io) { io_ = &io; }
  /// Forgets what waits.
  void clear(const udp::UdpSocket& socket) {
    socket.finish(batch_);
    arena_used_ = 0;
  }

  /// One WireGuard message, copied.
  void send(const session::Endpoint& to, Bytes message, uint8_t traffic_class) override;
  /// Adds datagrams that lie back to back (SendBatch::append). Their memory must live until flush. When there
  /// is no room the batch is sent, but the arena is not handed out anew: what waits in it may not have been
  /// added yet.
  void append(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size, size_t segment,
              uint8_t traffic_class) {
    const size_t added = batch_.append(to, local, data, size, segment, traffic_class);
    if (added < size) [[unlikely]]
      append_rest(to, local, data + added, size - added, segment, traffic_class);
  }
  /// The same, but each datagram is a message of its own.
  void append_alone(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size,
                    size_t segment, uint8_t traffic_class) {
    for (size_t added = 0;;) {
      added += batch_.append_alone(to, local, data + added, size - added, segment, traffic_class);
      if (added == size) return;
      io_->flush(batch_, counters_);
    }
  }
  /// Sends what waits, and hands the arena out anew.
  void flush() {
    if (!batch_.empty()) io_->flush(batch_, counters_);
    arena_used_ = 0;
  }

  /// Room for `size` bytes in the arena, at most kArenaBytes, after a flush if it takes one; what of it is
  /// used is told by arena_used_to. It lives until the next flush.
  uint8_t* arena(size_t size) {
    if (arena_used_ + size > kArenaBytes) flush();
    return arena_.get() + arena_used_;
  }
  void arena_used_to(const uint8_t* end) { arena_used_ = static_cast<size_t>(end - arena_.get()); }

  /// As SendBatch: what shares a message with an earlier datagram.
  uint64_t joined() const { return batch_.joined(); }
  bool would_join(const session::Endpoint& to, size_t size, uint8_t traffic_class) const {
    return batch_.would_join(to.remote, to.local, size, traffic_class);
  }
  /// What `send` gives every message instead of the traffic class asked for, so that it may ride with a
  /// burst.
  void override_traffic_class(std::optional<uint8_t> traffic_class) { traffic_class_ = traffic_class; }

 private:
  void append_rest(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size,
                   size_t segment, uint8_t traffic_class);

  static constexpr size_t kArenaBytes = size_t{1} << 20;

  udp::SendBatch batch_;
  udp::SocketIo* io_ = nullptr;
  std::unique_ptr<uint8_t[]> arena_;
  size_t arena_used_ = 0;
  std::optional<uint8_t> traffic_class_;
};

}  // namespace omerta::engine
