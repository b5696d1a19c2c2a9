// SPDX-License-Identifier: Apache-2.0
#include "engine/listening_port.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

namespace omerta::engine {

ListeningPort::ListeningPort(Shared& shared, const EngineSettings& settings)
    : shared_(shared),
      workers_(std::max<size_t>(settings.workers, 1)),
      steered_(settings.steering),
      number_(settings.port) {
  options_.bind = settings.bind;
  options_.fwmark = settings.fwmark;
}

udp::SocketOptions ListeningPort::options() const {
  udp::SocketOptions options = options_;
  options.gro = shared_.accelerators.on(Accelerator::udp_gro);
  options.gso = shared_.accelerators.on(Accelerator::udp_gso);
  return options;
}

ListeningPort::Sockets ListeningPort::bind(uint16_t port) const {
  udp::SocketOptions options = this->options();
  options.port = port;
  options.receivers = workers_;
  options.steered = workers_ > 1 && steered_;
  // With SO_REUSEPORT somebody else of ours may silently share the port, whether it is given or chosen by the
  // kernel: the first socket is bound without it, and lets the others in then. So the port is bound once.
  Sockets sockets;
  sockets.push_back(std::make_unique<udp::UdpSocket>(options));
  options.port = sockets[0]->port();
  options.shared_port = true;
  if (workers_ > 1) sockets[0]->share_port();
  while (sockets.size() < workers_) sockets.push_back(std::make_unique<udp::UdpSocket>(options));
  for (const auto& socket : sockets) socket->use_extra_ports(shared_.extra_ports);
  return sockets;
}

void ListeningPort::adopt(Sockets sockets) {
  sockets_ = std::move(sockets);
  number_ = sockets_[0]->port();
  if (shared_.accelerators.on(Accelerator::udp_gro) && !sockets_[0]->gro())
    shared_.accelerators.set_unavailable(Accelerator::udp_gro, {"needs-linux", "5.0"});
  if (shared_.accelerators.on(Accelerator::udp_gso) && !sockets_[0]->gso())
    shared_.accelerators.set_unavailable(Accelerator::udp_gso, {"needs-linux", "4.18"});
  steering_ = steered_ ? udp::steer_shared_port(sockets_[0]->fd(), workers_)
                       : udp::Steering{false, {"switched-off", {}}};
}

bool ListeningPort::open() {
  const std::lock_guard lock(mutex_);
  if (is_open()) return false;
  adopt(bound_.empty() ? bind(number_) : std::exchange(bound_, {}));
  return true;
}

void ListeningPort::close() {
  const std::lock_guard lock(mutex_);
  bound_.clear();
  shared_.extra_ports.set({}, options());
  sockets_.clear();
}

void ListeningPort::move_to(Sockets sockets) {
  const std::lock_guard lock(mutex_);
  adopt(std::move(sockets));
}

bool ListeningPort::renumber(uint16_t port) {
  const std::lock_guard lock(mutex_);
  if (is_open()) return false;
  bound_.clear();
  number_ = port;
  return true;
}

void ListeningPort::bind_ahead(bool up) {
  const std::lock_guard lock(mutex_);
  if (!up) return bound_.clear();
  if (is_open() || !bound_.empty()) return;
  try {
    bound_ = bind(number_);
  } catch (const std::system_error&) {
    // open() tries again, and tells what is wrong.
  }
}

void ListeningPort::set_fwmark(uint32_t fwmark) {
  const std::lock_guard lock(mutex_);
  for (auto* sockets : {&sockets_, &bound_})
    for (auto& socket : *sockets) socket->set_fwmark(fwmark);
  shared_.extra_ports.set_fwmark(fwmark);
  options_.fwmark = fwmark;
}

void ListeningPort::set_extra(std::span<const omerta_address> ports) {
  const std::lock_guard lock(mutex_);
  shared_.extra_ports.set(ports, options());
}

int ListeningPort::open_side_socket(uint32_t local) {
  const std::lock_guard lock(mutex_);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "socket");
  const uint32_t mark = options_.fwmark;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = local;
  const bool marked = mark == 0 || ::setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0;
  if (marked && ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  ::close(fd);
  throw std::system_error(error, std::generic_category(), marked ? "bind" : "SO_MARK");
}

}  // namespace omerta::engine
