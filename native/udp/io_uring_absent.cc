// SPDX-License-Identifier: Apache-2.0
// Compiled instead of io_uring_io.cc where liburing's headers are missing.
#include <cerrno>
#include <system_error>

#include "udp/socket_io.h"

namespace omerta::udp {

std::unique_ptr<SocketIo> make_io_uring_io(UdpSocket&) {
  throw std::system_error(ENOTSUP, std::generic_category(), "io_uring");
}

}  // namespace omerta::udp
