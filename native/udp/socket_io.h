// SPDX-License-Identifier: Apache-2.0
// How a worker receives from its socket and sends by it: batches in, batches out. One virtual call a
// batch, none a datagram. Each object belongs to one thread.
#pragma once

#include <memory>
#include <span>

#include "udp/udp_socket.h"

namespace omerta::udp {

class SocketIo {
 public:
  /// Most messages one receive returns.
  static constexpr size_t kMessages = 16;

  virtual ~SocketIo() = default;
  SocketIo(const SocketIo&) = delete;
  SocketIo& operator=(const SocketIo&) = delete;

  /// First call on the thread that receives and sends. @throws std::system_error
  virtual void start() {}
  /// Readable (epoll, level-triggered) when receive would return something.
  virtual int poll_fd() const = 0;
  /// Fetches what is there; never waits. Messages and what they point to live until the next call.
  /// Fewer than kMessages: there is no more.
  virtual std::span<const Message> receive(CounterRow& counters) = 0;
  /// Sends everything and empties the batch. Waits while the send buffer is full. A segmented message
  /// the kernel refuses is sent datagram by datagram.
  virtual void flush(SendBatch& batch, CounterRow& counters) = 0;

 protected:
  SocketIo() = default;
};

/// recvmmsg(2) and sendmmsg(2). The socket has to outlive it.
std::unique_ptr<SocketIo> make_mmsg_io(UdpSocket& socket);

}  // namespace omerta::udp
