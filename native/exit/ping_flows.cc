// SPDX-License-Identifier: Apache-2.0
#include "exit/ping_flows.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>

#include "exit/correspondents.h"
#include "exit/echo.h"
#include "exit/machine_socket.h"

namespace omerta::exit {
namespace {

constexpr Nanoseconds kIdle = 60 * kSecond;  // RFC 5508, REQ-1
constexpr Nanoseconds kTidy = 10 * kSecond;
/// Read of a socket before others have their turn.
constexpr int kReads = 32;
constexpr size_t kMostBytes = 9216;

}  // namespace

class PingFlows::Mapping final : public Watched {
 public:
  Mapping(PingFlows& flows, const stack::Flow& key) : flows_(flows), key_(key) {}

  void ready(uint32_t) override {
    uint8_t buffer[kMostBytes];
    for (int i = 0; i < kReads; i++) {
      sockaddr_storage from{};
      socklen_t size = sizeof from;
      const ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0) return;
      if (static_cast<size_t>(got) == sizeof buffer) continue;  // no answer to what a guest could send
      stack::Flow flow = key_;
      uint16_t none = 0;
      flow.local = from_system(from, none);
      if (!known_.contains(flow.local) || !flows_.guests_.destination(flow, icmp_of(flow)).has_value())
        continue;
      used_at = flows_.now_;
      flows_.answers_.add(flow.remote, echo_of(flow, {buffer, static_cast<size_t>(got)}));
    }
  }
  void send(const stack::Address& to, Bytes message) {
    used_at = flows_.now_;
    known_.add(to);
    sockaddr_storage at;
    const socklen_t size = to_system(to, 0, at);
    sendto(fd, message.data(), message.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&at), size);
  }

  Nanoseconds used_at = 0;

 private:
  PingFlows& flows_;
  const stack::Flow key_;
  Correspondents known_;
};

PingFlows::PingFlows(const Key32& key, Guests& guests, Poller& poller, Answers& answers)
    : guests_(guests),
      poller_(poller),
      answers_(answers),
      mappings_(16, stack::FlowHash({load<uint64_t>(key.data() + 8), load<uint64_t>(key.data() + 24)})) {}

PingFlows::~PingFlows() {
  while (!mappings_.empty()) close(mappings_.begin());
  poller_.poll();
}

void PingFlows::close(Mappings::iterator at) {
  guests_.end_udp(at->first.remote);
  guests_.closed();
  poller_.close(std::move(at->second));
  mappings_.erase(at);
}

void PingFlows::send(const stack::PacketView& packet, Nanoseconds now) {
  now_ = now;
  const std::optional<Echo> echo = parse_echo(packet);
  if (!echo.has_value() || !guests_.send(echo->flow.remote, 1, now)) return;
  const auto destination = guests_.destination(echo->flow, packet.protocol);
  if (!destination.has_value()) guests_.refuse();
  stack::Flow key;
  key.remote = echo->flow.remote;
  key.remote_port = echo->flow.remote_port;
  Mapping* mapping = destination.has_value() ? mapping_of(key, *destination) : nullptr;
  if (mapping != nullptr)
    mapping->send(destination->address, echo->message);
  else if (guests_.contains(echo->flow.remote))
    answers_.add(echo->flow.remote, unreachable_echo(*echo, inner::Unreachable::prohibited));
}

PingFlows::Mapping* PingFlows::mapping_of(const stack::Flow& key, const Destination& destination) {
  const auto found = mappings_.find(key);
  if (found != mappings_.end()) return found->second.get();
  if (!guests_.begin_udp(key.remote, now_)) return nullptr;
  auto made = std::make_unique<Mapping>(*this, key);
  made->fd = ping_socket(destination.address);
  if (made->fd < 0) {
    guests_.end_udp(key.remote);
    guests_.refuse();
    return nullptr;
  }
  guests_.opened();
  poller_.watch(*made, EPOLLIN);
  return mappings_.emplace(key, std::move(made)).first->second.get();
}

Nanoseconds PingFlows::tidy(Nanoseconds now) {
  now_ = now;
  if (tidy_at_ > now) return tidy_at_;
  tidy_at_ = now + kTidy;
  for (auto at = mappings_.begin(); at != mappings_.end();) {
    const auto here = at++;
    if (here->second->used_at + kIdle <= now) close(here);
  }
  return tidy_at_;
}

void PingFlows::end_unpermitted() {
  for (auto at = mappings_.begin(); at != mappings_.end();) {
    const auto here = at++;
    if (!guests_.contains(here->first.remote)) close(here);
  }
}

}  // namespace omerta::exit
