// SPDX-License-Identifier: Apache-2.0
#include "exit/udp_flows.h"

#include <sys/epoll.h>

#include <cerrno>
#include <set>

#include "exit/machine_socket.h"
#include "inner/fragmentation.h"

namespace omerta::exit {
namespace {

constexpr Nanoseconds kIdle = Nanoseconds{5} * 60 * kSecond;  // RFC 4787, REQ-5
constexpr Nanoseconds kTidy = 30 * kSecond;
/// A port of a guest is answered from so many addresses: the last it has sent to.
constexpr size_t kMostCorrespondents = 256;
/// Read of a socket before others have their turn.
constexpr int kReads = 32;
constexpr inner::VirtioNetHeader kPlain{};

}  // namespace

class UdpFlows::Mapping final : public Watched {
 public:
  Mapping(UdpFlows& flows, const stack::Flow& guest) : flows_(flows), guest_(guest) {}

  void ready(uint32_t) override {
    uint8_t buffer[65536];
    for (int i = 0; i < kReads && flows_.waiting_.size() < kMaxWaiting; i++) {
      sockaddr_storage from{};
      socklen_t size = sizeof from;
      const ssize_t got = recvfrom(fd, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (got < 0) return;  // nothing more, or what the network says of one that was sent
      stack::Flow flow = guest_;
      flow.local = from_system(from, flow.local_port);
      if (!known_.contains(flow.local) || !flows_.policy_.permits(flow.local, flow.local_port)) continue;
      used_at = flows_.now_;
      flows_.arrived(flow, {buffer, static_cast<size_t>(got)});
    }
  }
  void send(const stack::Flow& flow, Bytes payload) {
    used_at = flows_.now_;
    note(flow.local);
    sockaddr_storage to;
    const socklen_t size = to_system(flow.local, flow.local_port, to);
    sendto(fd, payload.data(), payload.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&to), size);
  }

  Nanoseconds used_at = 0;

 private:
  void note(const stack::Address& address) {
    if (!known_.insert(address).second) return;
    order_.push_back(address);
    if (order_.size() <= kMostCorrespondents) return;
    known_.erase(order_.front());
    order_.pop_front();
  }

  UdpFlows& flows_;
  const stack::Flow guest_;
  std::set<stack::Address> known_;
  std::deque<stack::Address> order_;
};

UdpFlows::UdpFlows(const Key32& key, size_t mtu, const ExitPolicy& policy, Guests& guests, Poller& poller)
    : mtu_(mtu),
      policy_(policy),
      guests_(guests),
      poller_(poller),
      mappings_(16, stack::FlowHash({load<uint64_t>(key.data() + 16), load<uint64_t>(key.data() + 24)})),
      fragmented_(load<uint32_t>(key.data() + 12)) {}

UdpFlows::~UdpFlows() {
  while (!mappings_.empty()) close(mappings_.begin());
  poller_.poll();
}

void UdpFlows::close(decltype(mappings_)::iterator at) {
  guests_.end_udp(at->first.remote);
  guests_.closed();
  poller_.close(std::move(at->second));
  mappings_.erase(at);
}

void UdpFlows::send(const stack::Datagrams& datagrams, Nanoseconds now) {
  now_ = now;
  const stack::Flow& flow = datagrams.flow;
  Mapping* mapping = policy_.permits(flow.local, flow.local_port) ? mapping_of(flow) : nullptr;
  if (mapping == nullptr) {
    refused_++;
    return;
  }
  std::vector<uint8_t> bytes(datagrams.payload.size());
  datagrams.payload.copy_to(bytes.data());
  size_t at = 0;
  do {
    const size_t size = std::min(datagrams.each, bytes.size() - at);
    mapping->send(flow, {bytes.data() + at, size});
    at += size;
  } while (at < bytes.size());
}

UdpFlows::Mapping* UdpFlows::mapping_of(const stack::Flow& flow) {
  stack::Flow guest;
  guest.remote = flow.remote;
  guest.remote_port = flow.remote_port;
  const auto found = mappings_.find(guest);
  if (found != mappings_.end()) return found->second.get();
  if (!guests_.begin_udp(flow.remote, now_)) return nullptr;
  auto made = std::make_unique<Mapping>(*this, guest);
  made->fd = machine_socket(flow.remote, SOCK_DGRAM, policy_.mark);
  if (made->fd < 0) {
    guests_.end_udp(flow.remote);
    return nullptr;
  }
  guests_.opened();
  poller_.watch(*made, EPOLLIN);
  return mappings_.emplace(guest, std::move(made)).first->second.get();
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
    if (here->second->used_at + kIdle <= now) close(here);
  }
  return tidy_at_;
}

void UdpFlows::end_unpermitted() {
  for (auto at = mappings_.begin(); at != mappings_.end();) {
    const auto here = at++;
    if (!guests_.contains(here->first.remote)) close(here);
  }
}

}  // namespace omerta::exit
