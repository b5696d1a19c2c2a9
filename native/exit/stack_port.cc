// SPDX-License-Identifier: Apache-2.0
#include "exit/stack_port.h"

#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "exit/machine_socket.h"
#include "stack/too_big.h"

namespace omerta::exit {
namespace {

/// Of sockets that bring nothing for guests, before the worker has its turn.
constexpr int kRounds = 16;

}  // namespace

int machine_socket(const stack::Address& address, int type, uint32_t mark) {
  const int fd = socket(stack::is_ipv4(address) ? AF_INET : AF_INET6, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || mark == 0) return fd;
  if (setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0) return fd;
  close(fd);  // without its mark it might leave by the tunnel
  return -1;
}

StackPort::StackPort(const stack::Settings& settings, const Key32& key, ExitPolicy policy)
    : policy_(std::move(policy)),
      guests_(policy_),
      tcp_(settings, key, policy_, guests_, poller_),
      udp_(key, settings.mtu, policy_, guests_, poller_) {}

inner::Port::Taken StackPort::send(std::span<const inner::Gathered> packets) {
  const Nanoseconds now = boot_clock();
  take_guests();
  for (const inner::Gathered& packet : packets) {
    stack::PacketView view;
    if (stack::parse_packet(packet, view) != stack::PacketError::none) continue;
    stack::Datagrams datagrams;
    if (view.protocol == inner::kTcp)
      tcp_.receive(view, now);
    else if (view.protocol == inner::kUdp && stack::parse_datagrams(view, datagrams))
      udp_.send(datagrams, now);
    else if (const auto big = stack::parse_too_big(view); big.has_value())
      tcp_.stack().too_big(big->flow, big->sequence, big->mtu);
  }
  // Acknowledgments wait: the worker is told as it is of a socket.
  if (!std::exchange(rung_, true)) poller_.ring();
  return {packets.size(), Stop::none};
}

const inner::Received* StackPort::next(Nanoseconds now) {
  if (const inner::Received* packet = tcp_.stack().transmit(now)) return packet;
  return udp_.next();
}

std::span<const inner::Received> StackPort::receive() {
  const Nanoseconds now = boot_clock();
  const inner::Received* packet = next(now);
  for (int round = 0; packet == nullptr; round++) {
    tcp_.stack().advance(now);
    const Nanoseconds tidy = std::min(tcp_.tidy(now), udp_.tidy(now));
    const bool any = poller_.poll();
    packet = next(now);
    if (packet != nullptr) break;
    if (any && round < kRounds) continue;
    if (!any) {
      poller_.quiet();
      rung_ = false;
      take_guests();
      packet = next(now);  // what ended tells its guest
    }
    if (packet != nullptr) break;
    poller_.wake_at(std::min(tidy, tcp_.stack().deadline()));
    count();
    return {};
  }
  return {packet, 1};
}

void StackPort::set_guests(std::vector<stack::Address> guests) {
  {
    const std::lock_guard lock(mutex_);
    new_guests_ = std::move(guests);
  }
  has_new_guests_ = true;
  poller_.ring();
}

void StackPort::take_guests() {
  if (!has_new_guests_.exchange(false)) return;
  std::optional<std::vector<stack::Address>> guests;
  {
    const std::lock_guard lock(mutex_);
    guests = std::exchange(new_guests_, std::nullopt);
  }
  if (!guests.has_value()) return;
  guests_.set(*guests);
  tcp_.end_unpermitted();
  udp_.end_unpermitted();
}

void StackPort::count() {
  const std::lock_guard lock(mutex_);
  counts_ = {tcp_.open(), udp_.open(), tcp_.refused() + udp_.refused() + tcp_.stack().counts().at_bound};
}

ExitCounts StackPort::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace omerta::exit
