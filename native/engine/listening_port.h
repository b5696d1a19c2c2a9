// SPDX-License-Identifier: Apache-2.0
// The UDP port of an engine: one socket for each worker, all on it, and what is sent from other ports with
// the same options. The control thread opens and closes it; the thread that watches the interface binds
// ahead.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/settings.h"
#include "engine/shared.h"
#include "udp/steering.h"

namespace omerta::engine {

class ListeningPort {
 public:
  using Sockets = std::vector<std::unique_ptr<udp::UdpSocket>>;

  /// Closed. `shared` has to outlive it.
  ListeningPort(Shared& shared, const EngineSettings& settings);

  /// Bound, or to be bound; 0 when the kernel has not chosen one yet.
  uint16_t number() const { return number_; }
  bool is_open() const { return !sockets_.empty(); }
  /// None while it is closed.
  const Sockets& sockets() const { return sockets_; }
  const udp::Steering& steering() const { return steering_; }

  /// Takes what was bound ahead, or binds. Nothing happens when it is open. @returns whether it was closed.
  /// @throws std::system_error
  bool open();
  void close();
  /// Sockets on another port (0: one the kernel chooses), for move_to. @throws std::system_error
  Sockets bind(uint16_t port) const;
  /// From now on it is these. No worker runs meanwhile.
  void move_to(Sockets sockets);
  /// Another port, while it is closed. @returns false, and changes nothing, when it is open.
  bool renumber(uint16_t port);
  /// The interface went up or down. The port is bound as soon as that is seen, and not when the control
  /// thread gets to it: a handshake that arrives in between waits for the workers.
  void bind_ahead(bool up);

  /// SO_MARK of all that is sent from now on (0: none). @throws std::system_error
  void set_fwmark(uint32_t fwmark);
  /// As udp::ExtraPorts::set.
  void set_extra(std::span<const omerta_address> ports);
  /// As Engine::open_side_socket.
  int open_side_socket(uint32_t local);

 private:
  udp::SocketOptions options() const;
  void adopt(Sockets sockets);

  Shared& shared_;
  const size_t workers_;
  const bool steered_;
  std::mutex mutex_;
  Sockets sockets_;
  /// Bound when the interface came up; what arrives waits in them until open().
  Sockets bound_;
  udp::SocketOptions options_;
  udp::Steering steering_;
  uint16_t number_;
};

}  // namespace omerta::engine
