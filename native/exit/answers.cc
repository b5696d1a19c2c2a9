// SPDX-License-Identifier: Apache-2.0
#include "exit/answers.h"

#include <utility>

namespace omerta::exit {
namespace {

/// Of a payload, in an ICMP error: a guest is told by the ports which datagram it was.
constexpr size_t kMostQuoted = 64;
constexpr inner::VirtioNetHeader kPlain{};

}  // namespace

std::vector<uint8_t> unreachable_datagram(const stack::Flow& flow, Bytes payload, inner::Unreachable why) {
  stack::Flow sent;
  sent.local = flow.remote;
  sent.remote = flow.local;
  sent.local_port = flow.remote_port;
  sent.remote_port = flow.local_port;
  std::vector<uint8_t> datagram =
      stack::write_datagram(sent, payload.subspan(0, std::min(payload.size(), kMostQuoted)));
  const inner::IpView ip = inner::parse_ip(datagram.data(), datagram.size());
  return inner::icmp_unreachable(ip, datagram.data(), why);
}

void Answers::add(const stack::Address& guest, std::vector<uint8_t> packet) {
  if (packet.empty() || waiting_.size() >= kMost) return;
  size_t& of_guest = of_guest_[guest];
  if (of_guest >= kMostOfGuest) return;
  of_guest++;
  waiting_.push_back({guest, std::move(packet)});
}

void Answers::unreachable(const stack::Flow& flow, Bytes payload, inner::Unreachable why) {
  add(flow.remote, unreachable_datagram(flow, payload, why));
}

const inner::Received* Answers::next() {
  if (waiting_.empty()) return nullptr;
  Waiting next = std::move(waiting_.front());
  waiting_.pop_front();
  const auto of_guest = of_guest_.find(next.guest);
  if (--of_guest->second == 0) of_guest_.erase(of_guest);
  packet_ = std::move(next.packet);
  received_ = {&kPlain, packet_.data(), packet_.size()};
  return &received_;
}

}  // namespace omerta::exit
