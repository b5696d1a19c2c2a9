// SPDX-License-Identifier: Apache-2.0
#include "exit/udp_flows.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>

#include "exit/correspondents.h"
#include "exit/machine_socket.h"
#include "inner/fragmentation.h"

namespace omerta::exit {
namespace {

constexpr Nanoseconds kIdle = Nanoseconds{5} * 60 * kSecond;  // RFC 4787, REQ-5
constexpr Nanoseconds kIdleNames = 10 * kSecond;              // its resolver has given up long before
constexpr Nanoseconds kTidy = 10 * kSecond;
/// Read of a socket before others have their turn.
constexpr int kReads = 32;
constexpr size_t kMostQuoted = 64;
constexpr inner::VirtioNetHeader kPlain{};

}  // namespace

class UdpFlows::Mapping final : public Watched {
 public:
  /// to: where names are asked for, by a socket that is connected there; of others where the first one goes
  Mapping(UdpFlows& flows, const stack::Flow& key, const Destination& to)
      : flows_(flows), key_(key), to_(to) {}

  void ready(uint32_t events) override {
    if ((events & EPOLLERR) != 0) pass_errors_on();
    uint8_t buffer[65536];
    for (int i = 0; i < kReads && flows_.waiting_.size() < kMaxWaiting; i++) {
      sockaddr_storage from{};
      socklen_t size = sizeof from;
      const ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0 && errno == EAGAIN) return;
      if (got < 0) continue;  // what the network says of one that was sent, which has been passed on
      const Bytes payload(buffer, static_cast<size_t>(got));
      if (to_.names()) {
        flows_.arrived(key_, payload);
        if (--unanswered_ == 0) return flows_.close(flows_.mappings_.find(key_));
        continue;
      }
      stack::Flow flow = key_;
      flow.local = from_system(from, flow.local_port);
      // Only what is the guest's keeps the port: a stranger must not be able to.
      if (!known_.contains(flow.local) || !flows_.guests_.destination(flow, inner::kUdp).has_value())
        continue;
      used_at = flows_.now_;
      flows_.arrived(flow, payload);
    }
  }
  void send(const Destination& destination, Bytes payload) {
    used_at = flows_.now_;
    unanswered_++;
    if (!to_.names()) known_.add(destination.address);
    sockaddr_storage to;
    const socklen_t size = to_.names() ? 0 : to_system(destination.address, destination.port, to);
    if (send_datagram(fd, payload, to, size) != Sent::no || (errno != ENETUNREACH && errno != EHOSTUNREACH))
      return;
    stack::Flow flow = key_;
    flow.local = destination.address;
    flow.local_port = destination.port;
    if (!to_.names()) flows_.answers_.unreachable(flow, payload, inner::Unreachable::host);
  }
  Nanoseconds idle() const { return to_.names() ? kIdleNames : kIdle; }
  /// Whether it leads to where questions of this guest do not go any more.
  bool misled() const { return to_.names() && flows_.guests_.destination(key_, inner::kUdp) != to_; }

  Nanoseconds used_at = 0;

 private:
  void pass_errors_on() {
    for (int i = 0; i < kReads; i++) {
      uint8_t quoted[kMostQuoted];
      const std::optional<SocketError> error = next_error(fd, quoted);
      if (!error.has_value()) return;
      if (!error->why.has_value()) continue;
      stack::Flow flow = key_;
      if (!to_.names()) {
        flow.local = error->address;
        flow.local_port = error->port;
        if (!known_.contains(flow.local)) continue;
      }
      flows_.answers_.unreachable(flow, error->quoted, *error->why);
    }
  }
  UdpFlows& flows_;
  const stack::Flow key_;
  const Destination to_;
  uint64_t unanswered_ = 0;  ///< questions
  Correspondents known_;
};

UdpFlows::UdpFlows(const Key32& key, size_t mtu, Guests& guests, Poller& poller, Answers& answers)
    : mtu_(mtu),
      guests_(guests),
      poller_(poller),
      answers_(answers),
      mappings_(16, stack::FlowHash({load<uint64_t>(key.data() + 16), load<uint64_t>(key.data() + 24)})),
      fragmented_(load<uint32_t>(key.data() + 12)) {}

UdpFlows::~UdpFlows() {
  while (!mappings_.empty()) close(mappings_.begin());
  poller_.poll();
}

void UdpFlows::close(Mappings::iterator at) {
  guests_.end_udp(at->first.remote);
  guests_.closed();
  poller_.close(std::move(at->second));
  mappings_.erase(at);
}

void UdpFlows::send(const stack::Datagrams& datagrams, Nanoseconds now) {
  now_ = now;
  const stack::Flow& flow = datagrams.flow;
  std::vector<uint8_t> bytes(datagrams.payload.size());
  datagrams.payload.copy_to(bytes.data());
  const size_t count = datagrams.each == 0 ? 1 : (bytes.size() + datagrams.each - 1) / datagrams.each;
  if (!guests_.send(flow.remote, std::max<size_t>(count, 1), now)) return;
  const auto destination = guests_.destination(flow, inner::kUdp);
  if (!destination.has_value()) guests_.refuse();
  Mapping* mapping = destination.has_value() ? mapping_of(flow, *destination) : nullptr;
  if (mapping == nullptr) {
    if (guests_.contains(flow.remote)) answers_.unreachable(flow, bytes, inner::Unreachable::prohibited);
    return;
  }
  size_t at = 0;
  do {
    const size_t size = std::min(datagrams.each, bytes.size() - at);
    mapping->send(*destination, {bytes.data() + at, size});
    at += size;
  } while (at < bytes.size());
}

UdpFlows::Mapping* UdpFlows::mapping_of(const stack::Flow& flow, const Destination& destination) {
  stack::Flow key;
  key.remote = flow.remote;
  key.remote_port = flow.remote_port;
  if (destination.names()) key = flow;
  const auto found = mappings_.find(key);
  if (found != mappings_.end()) return found->second.get();
  if (!guests_.begin_udp(flow.remote, now_)) return nullptr;
  auto made = std::make_unique<Mapping>(*this, key, destination);
  made->fd = machine_socket(destination, SOCK_DGRAM);
  sockaddr_storage to;
  const socklen_t size = to_system(destination.address, destination.port, to);
  if (made->fd < 0 ||
      (destination.names() && connect(made->fd, reinterpret_cast<const sockaddr*>(&to), size) != 0)) {
    if (made->fd >= 0) ::close(made->fd);
    guests_.end_udp(flow.remote);
    guests_.refuse();
    return nullptr;
  }
  tell_errors(made->fd, destination.address);
  guests_.opened();
  poller_.watch(*made, EPOLLIN);
  return mappings_.emplace(key, std::move(made)).first->second.get();
}

void UdpFlows::arrived(const stack::Flow& flow, Bytes payload) {
  std::vector<uint8_t> packet = stack::write_datagram(flow, payload);
  if (packet.size() <= mtu_) {
    waiting_.push_back(std::move(packet));
    return;
  }
  const inner::IpView ip = inner::parse_ip(packet.data(), packet.size());
  if (ip.family == 4) store(packet.data() + 4, static_cast<uint16_t>(++fragmented_));
  for (std::vector<uint8_t>& piece : ip.family == 4
                                         ? inner::fragment4(ip, packet.data(), mtu_)
                                         : inner::fragment6(ip, packet.data(), mtu_, ++fragmented_))
    waiting_.push_back(std::move(piece));
}

const inner::Received* UdpFlows::next() {
  if (waiting_.empty()) return nullptr;
  packet_ = std::move(waiting_.front());
  waiting_.pop_front();
  received_ = {&kPlain, packet_.data(), packet_.size()};
  return &received_;
}

Nanoseconds UdpFlows::tidy(Nanoseconds now) {
  now_ = now;
  if (tidy_at_ > now) return tidy_at_;
  tidy_at_ = now + kTidy;
  for (auto at = mappings_.begin(); at != mappings_.end();) {
    const auto here = at++;
    if (here->second->used_at + here->second->idle() <= now) close(here);
  }
  return tidy_at_;
}

void UdpFlows::end_unpermitted() {
  for (auto at = mappings_.begin(); at != mappings_.end();) {
    const auto here = at++;
    if (!guests_.contains(here->first.remote) || here->second->misled()) close(here);
  }
}

}  // namespace omerta::exit
