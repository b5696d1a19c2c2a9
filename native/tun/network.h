// SPDX-License-Identifier: Apache-2.0
// Where an interface is made: the network namespace a process is in, or another one, whose sockets somebody
// in there opens for it. A descriptor stays in the namespace it was opened in, so what makes an interface,
// its addresses and its routes is written once for both.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>

namespace omerta::tun {

class Network {
 public:
  Network() = default;
  virtual ~Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  /// A descriptor of /dev/net/tun, not blocking; -1 and errno. Any thread.
  virtual int open_tun() const { return open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK); }
  /// As socket(2), closed on exec. Any thread.
  virtual int open_socket(int family, int type, int protocol) const {
    return socket(family, type | SOCK_CLOEXEC, protocol);
  }
};

}  // namespace omerta::tun
