// SPDX-License-Identifier: Apache-2.0
#include "udp/extra_ports.h"

#include <arpa/inet.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>

namespace omerta::udp {
namespace {

constexpr size_t kMessageBytes = 65536;
/// A search has hundreds of them, and each is sent few packets.
constexpr int kBufferBytes = 1 << 20;
constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool same(const omerta_address& a, const omerta_address& b) {
  return a.port == b.port && std::memcmp(a.ip, b.ip, sizeof a.ip) == 0;
}

std::string text_of(const omerta_address& address) {
  char text[INET6_ADDRSTRLEN];
  const bool ipv4 = std::memcmp(address.ip, kMapped, sizeof kMapped) == 0;
  inet_ntop(ipv4 ? AF_INET : AF_INET6, ipv4 ? address.ip + 12 : address.ip, text, sizeof text);
  return text;
}

}  // namespace

ExtraPorts::ExtraPorts() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll");
}

ExtraPorts::~ExtraPorts() { close(epoll_); }

void ExtraPorts::set(std::span<const omerta_address> ports, SocketOptions options) {
  // Opened without the lock: whoever sends does not wait for it.
  options.shared_port = false;
  options.receivers = 2;  // no lanes (udp/send_lanes.h): what finds no room is lost
  options.steered = false;
  options.buffer_bytes = kBufferBytes;
  const auto is_wanted = [ports](const Open& each) {
    return std::any_of(ports.begin(), ports.end(), [&](const auto& port) { return same(port, each.at); });
  };
  std::vector<Open> added;
  for (const omerta_address& port : ports) {
    const auto is_it = [&port](const Open& each) { return same(port, each.at); };
    if (std::any_of(open_.begin(), open_.end(), is_it)) continue;
    options.port = ntohs(port.port);
    options.bind = text_of(port);
    try {
      Open open{port, std::make_unique<UdpSocket>(options)};
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u32 = port.port;
      if (epoll_ctl(epoll_, EPOLL_CTL_ADD, open.socket->fd(), &event) == 0) added.push_back(std::move(open));
    } catch (const std::system_error&) {
      // Somebody else has it, or there are no descriptors left: what names it is not sent.
    }
  }
  const std::unique_lock lock(mutex_);
  std::erase_if(open_, [&](const Open& each) { return !is_wanted(each); });
  for (Open& open : added) open_.push_back(std::move(open));
}

void ExtraPorts::set_fwmark(uint32_t fwmark) {
  const std::shared_lock lock(mutex_);
  for (const Open& open : open_) open.socket->set_fwmark(fwmark);
}

HeldSocket ExtraPorts::find(uint32_t port) const {
  HeldSocket held{std::shared_lock(mutex_)};
  for (const Open& open : open_)
    if (open.at.port == port) held.socket = open.socket.get();
  return held;
}

std::span<const Message> ExtraPorts::receive(CounterRow& counters) {
  epoll_event events[kMessages];
  const int ready = epoll_wait(epoll_, events, kMessages, 0);
  count_ = 0;
  if (ready > 0 && memory_ == nullptr) memory_ = std::make_unique<TouchedMemory>(kMessages * kMessageBytes);
  for (int i = 0; i < ready && count_ < kMessages; i++) {
    const uint32_t port = events[i].data.u32;
    const HeldSocket held = find(port);
    if (held.socket != nullptr) receive_from(*held.socket, port, counters);
  }
  return {messages_, count_};
}

void ExtraPorts::receive_from(UdpSocket& socket, uint32_t port, CounterRow& counters) {
  for (size_t i = count_; i < kMessages; i++) {
    vectors_[i] = {memory_->data() + i * kMessageBytes, kMessageBytes};
    msghdr& header = headers_[i].msg_hdr;
    header.msg_iov = &vectors_[i];
    header.msg_iovlen = 1;
    header.msg_name = &addresses_[i];
    header.msg_namelen = sizeof addresses_[i];
    header.msg_control = controls_[i].bytes;
    header.msg_controllen = sizeof(ReceiveControl);
  }
  const int got = recvmmsg(socket.fd(), headers_ + count_, static_cast<unsigned>(kMessages - count_),
                           MSG_DONTWAIT, nullptr);
  if (got <= 0) return;
  counters.add(Counter::rx_batches);
  for (const size_t end = count_ + static_cast<size_t>(got); count_ < end; count_++) {
    Message& message = messages_[count_];
    message.data = static_cast<uint8_t*>(vectors_[count_].iov_base);
    message.size = headers_[count_].msg_len;
    socket.read_header(headers_[count_].msg_hdr, message, counters);
    message.local.port = port;
  }
}

}  // namespace omerta::udp
