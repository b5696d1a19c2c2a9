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
  static constexpr size_t kMessages = 64;

  virtual ~SocketIo() = default;
  SocketIo(const SocketIo&) = delete;
  SocketIo& operator=(const SocketIo&) = delete;

  /// What wait found.
  struct Ready {
    bool socket = false;
    uint32_t readable = 0;  ///< bits given to watch
    uint32_t failed = 0;    ///< of these, whose descriptor is in error
  };

  virtual const char* name() const = 0;
  /// Lets wait look at a further descriptor, known by this bit. Before start. @throws std::system_error
  virtual void watch(int fd, uint32_t bit) = 0;
  virtual void forget(int fd) = 0;
  /// First and last call on the thread that waits, receives and sends. @throws std::system_error
  virtual void start() {}
  virtual void stop() {}
  /// Sleeps until the socket or a watched descriptor has something (as long as it has, not only once),
  /// or for this long; -1: without end.
  virtual Ready wait(int milliseconds) = 0;
  /// Fetches what is there; never waits. Messages and what they point to live until release.
  virtual std::span<const Message> receive(CounterRow& counters) = 0;
  /// After each receive. Whether another one would return something without a wait.
  virtual bool release() = 0;
  /// Sends everything and empties the batch. Never waits: while the send buffer is full, each destination has
  /// a lane (udp/send_lanes.h). A segmented message the kernel refuses is sent datagram by datagram.
  virtual void flush(SendBatch& batch, CounterRow& counters) = 0;

 protected:
  SocketIo() = default;
};

/// recvmmsg(2) and sendmmsg(2). The socket has to outlive it, here and below.
std::unique_ptr<SocketIo> make_mmsg_io(UdpSocket& socket);
/// io_uring(7). @throws std::system_error when the kernel or its settings refuse it; ENOTSUP when it is
/// not compiled in.
std::unique_ptr<SocketIo> make_io_uring_io(UdpSocket& socket);

}  // namespace omerta::udp
