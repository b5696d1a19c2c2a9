// SPDX-License-Identifier: Apache-2.0
// UDP ports of this host beside the engine's own (ts/contract/path-control.ts, setPorts): a NAT that gives
// each inner port another outer one gives as many as are opened. Peers are heard and sent to by them, as by
// the own port; a local address says by which (LocalAddress::port).
//
// They are set by the control thread and received from by one worker; any thread sends.
#pragma once

#include <omerta/wire.h>

#include <memory>
#include <shared_mutex>
#include <span>
#include <vector>

#include "common/touched_memory.h"
#include "udp/udp_socket.h"

namespace omerta::udp {

class ExtraPorts final : public PortSockets {
 public:
  /// Most messages one receive returns.
  static constexpr size_t kMessages = 16;

  /// @throws std::system_error
  ExtraPorts();
  ~ExtraPorts() override;
  ExtraPorts(const ExtraPorts&) = delete;
  ExtraPorts& operator=(const ExtraPorts&) = delete;

  /// There are these from now on, each once, at an address of the host's: those that are not named are
  /// closed, and one that cannot be had is not there. options: of the engine's own sockets.
  void set(std::span<const omerta_address> ports, SocketOptions options);
  void set_fwmark(uint32_t fwmark);
  HeldSocket find(uint32_t port) const override;

  /// Readable while something waits in one of them.
  int fd() const { return epoll_; }
  /// Fetches what is there, from whichever port; never waits. It lives until the next call. One thread.
  std::span<const Message> receive(CounterRow& counters);

 private:
  struct Open {
    omerta_address at;
    std::unique_ptr<UdpSocket> socket;
  };
  void receive_from(UdpSocket& socket, uint32_t port, CounterRow& counters);

  int epoll_;
  mutable std::shared_mutex mutex_;
  std::vector<Open> open_;
  std::unique_ptr<TouchedMemory> memory_;  ///< taken by the first receive
  mmsghdr headers_[kMessages]{};
  iovec vectors_[kMessages]{};
  sockaddr_storage addresses_[kMessages]{};
  ReceiveControl controls_[kMessages]{};
  Message messages_[kMessages];
  size_t count_ = 0;
};

}  // namespace omerta::udp
