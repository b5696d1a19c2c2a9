// SPDX-License-Identifier: Apache-2.0
#include "udp/udp_socket.h"

#include <arpa/inet.h>
#include <linux/sock_diag.h>
#include <netinet/udp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "common/step_failed.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

namespace omerta::udp {
namespace {

constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

[[noreturn]] void fail(const char* step) { throw StepFailed(errno, step); }

bool set(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

int granted(int fd, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  getsockopt(fd, SOL_SOCKET, name, &value, &size);
  return value / 2;  // the kernel doubles what it is asked for, socket(7)
}

void canonical(const sockaddr_storage& from, omerta_address& out) {
  out = {};
  if (from.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(from);
    std::memcpy(out.ip, kMapped, 12);
    std::memcpy(out.ip + 12, &v4.sin_addr, 4);
    out.port = v4.sin_port;
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(from);
    std::memcpy(out.ip, &v6.sin6_addr, 16);
    out.port = v6.sin6_port;
  }
}

}  // namespace

UdpSocket::UdpSocket(const SocketOptions& options) : lanes_(options.receivers, options.steered) {
  sockaddr_storage address{};
  socklen_t address_size = sizeof(sockaddr_in6);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(options.port);
  in_addr v4{};
  if (!options.bind.empty()) {
    if (inet_pton(AF_INET, options.bind.c_str(), &v4) == 1) {
      std::memcpy(&v6.sin6_addr, kMapped, 12);
      std::memcpy(reinterpret_cast<uint8_t*>(&v6.sin6_addr) + 12, &v4, 4);
    } else if (inet_pton(AF_INET6, options.bind.c_str(), &v6.sin6_addr) != 1) {
      errno = EINVAL;
      fail("bind");
    }
  }
  fd_ = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd_ >= 0) {
    set(fd_, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  } else {
    // A host without IPv6.
    family_ = AF_INET;
    fd_ = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd_ < 0) fail("socket");
    auto& only4 = reinterpret_cast<sockaddr_in&>(address);
    address = {};
    only4.sin_family = AF_INET;
    only4.sin_port = htons(options.port);
    only4.sin_addr = v4;
    address_size = sizeof(sockaddr_in);
  }
  if (options.shared_port) set(fd_, SOL_SOCKET, SO_REUSEPORT, 1);
  if (options.fwmark != 0) {
    try {
      set_fwmark(options.fwmark);
    } catch (...) {
      close(fd_);
      throw;
    }
  }
  if (bind(fd_, reinterpret_cast<sockaddr*>(&address), address_size) != 0) {
    const int error = errno;
    close(fd_);
    errno = error;
    fail("bind");
  }
  address_size = sizeof address;
  getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &address_size);
  port_ = ntohs(family_ == AF_INET6 ? v6.sin6_port : reinterpret_cast<sockaddr_in&>(address).sin_port);

  if (family_ == AF_INET6) {
    set(fd_, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);  // for IPv4 too, v4-mapped
    set(fd_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
    set(fd_, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  } else {
    set(fd_, IPPROTO_IP, IP_PKTINFO, 1);
  }
  // The outer packet may be fragmented, as the kernel's WireGuard allows: the inner MTU bounds it.
  set(fd_, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
  set(fd_, IPPROTO_IP, IP_RECVTOS, 1);
  // FORCE ignores net.core.{r,w}mem_max but needs CAP_NET_ADMIN; without it the kernel caps.
  if (!set(fd_, SOL_SOCKET, SO_RCVBUFFORCE, options.buffer_bytes))
    set(fd_, SOL_SOCKET, SO_RCVBUF, options.buffer_bytes);
  if (!set(fd_, SOL_SOCKET, SO_SNDBUFFORCE, options.buffer_bytes))
    set(fd_, SOL_SOCKET, SO_SNDBUF, options.buffer_bytes);
  receive_buffer_ = granted(fd_, SO_RCVBUF);
  send_buffer_ = granted(fd_, SO_SNDBUF);
  gro_ = options.gro && set(fd_, IPPROTO_UDP, UDP_GRO, 1);
  int segment = 0;
  socklen_t size = sizeof segment;
  gso_ = options.gso && getsockopt(fd_, IPPROTO_UDP, UDP_SEGMENT, &segment, &size) == 0;
}

void UdpSocket::share_port() {
  const int on = 1;
  if (setsockopt(fd_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) fail("SO_REUSEPORT");
}

UdpSocket::~UdpSocket() {
  if (fd_ >= 0) close(fd_);
}

void UdpSocket::set_gro(bool on) { gro_ = set(fd_, IPPROTO_UDP, UDP_GRO, on ? 1 : 0) && on; }

void UdpSocket::set_fwmark(uint32_t fwmark) {
  if (!set(fd_, SOL_SOCKET, SO_MARK, static_cast<int>(fwmark))) fail("fwmark");
  fwmark_.store(fwmark, std::memory_order_relaxed);
}

Queues UdpSocket::queues() const {
  uint32_t values[SK_MEMINFO_VARS]{};
  socklen_t size = sizeof values;
  getsockopt(fd_, SOL_SOCKET, SO_MEMINFO, values, &size);
  return {values[SK_MEMINFO_RMEM_ALLOC], values[SK_MEMINFO_RCVBUF], values[SK_MEMINFO_WMEM_ALLOC],
          values[SK_MEMINFO_SNDBUF], values[SK_MEMINFO_DROPS]};
}

Queues UdpSocket::sample_queues(CounterRow& counters) {
  const Queues found = queues();
  counters.add(Counter::drop_receive_queue, found.dropped - drops_seen_);
  drops_seen_ = found.dropped;
  lanes_.close_unused();
  return found;
}

void UdpSocket::set_timestamps(bool on) { set(fd_, SOL_SOCKET, SO_TIMESTAMPNS, on ? 1 : 0); }

void UdpSocket::read_header(msghdr& header, Message& message, CounterRow& counters) {
  message.segment = message.size;
  message.local = {};
  message.received_at = 0;
  message.ecn = 0;
  canonical(*static_cast<const sockaddr_storage*>(header.msg_name), message.from);
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
      int segment = 0;
      std::memcpy(&segment, CMSG_DATA(c), sizeof segment);
      if (segment > 0) message.segment = static_cast<size_t>(segment);
    } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
      in6_pktinfo info;
      std::memcpy(&info, CMSG_DATA(c), sizeof info);
      std::memcpy(message.local.ip, &info.ipi6_addr, 16);
      message.local.interface = static_cast<uint32_t>(info.ipi6_ifindex);
    } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
      in_pktinfo info;
      std::memcpy(&info, CMSG_DATA(c), sizeof info);
      std::memcpy(message.local.ip, kMapped, 12);
      std::memcpy(message.local.ip + 12, &info.ipi_addr, 4);
      message.local.interface = static_cast<uint32_t>(info.ipi_ifindex);
    } else if ((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) ||
               (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS)) {
      // One byte for IPv4, an int for IPv6.
      int traffic_class = 0;
      std::memcpy(&traffic_class, CMSG_DATA(c), std::min(sizeof traffic_class, c->cmsg_len - CMSG_LEN(0)));
      message.ecn = static_cast<uint8_t>(traffic_class & 3);
    } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
      timespec at{};
      std::memcpy(&at, CMSG_DATA(c), sizeof at);
      message.received_at =
          static_cast<uint64_t>(at.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(at.tv_nsec);
    }
  }
  counters.add(Counter::rx_bytes, message.size);
  counters.add(Counter::rx_datagrams,
               message.size == 0 ? 1 : (message.size + message.segment - 1) / message.segment);
}

socklen_t UdpSocket::to_sockaddr(const omerta_address& address, sockaddr_storage& out) const {
  if (family_ == AF_INET) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(out);
    v4 = {};
    v4.sin_family = AF_INET;
    v4.sin_port = address.port;
    std::memcpy(&v4.sin_addr, address.ip + 12, 4);
    return sizeof(sockaddr_in);
  }
  auto& v6 = reinterpret_cast<sockaddr_in6&>(out);
  v6 = {};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = address.port;
  std::memcpy(&v6.sin6_addr, address.ip, 16);
  return sizeof(sockaddr_in6);
}

size_t UdpSocket::fill_control(void* buffer, const omerta_address& to, const LocalAddress& local,
                               size_t segment, uint8_t traffic_class) const {
  auto* at = static_cast<uint8_t*>(buffer);
  static constexpr uint8_t none[16] = {};
  const auto put = [&at](int level, int type, const void* data, size_t size) {
    auto* c = reinterpret_cast<cmsghdr*>(at);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    std::memcpy(CMSG_DATA(c), data, size);
    at += CMSG_SPACE(size);
  };
  if (std::memcmp(local.ip, none, 16) != 0) {
    if (std::memcmp(local.ip, kMapped, 12) == 0) {
      in_pktinfo info{};
      std::memcpy(&info.ipi_spec_dst, local.ip + 12, 4);
      info.ipi_ifindex = static_cast<decltype(info.ipi_ifindex)>(local.leaves_by);
      put(IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    } else {
      in6_pktinfo info{};
      std::memcpy(&info.ipi6_addr, local.ip, 16);
      info.ipi6_ifindex = static_cast<decltype(info.ipi6_ifindex)>(
          is_link_local(local.ip) ? local.interface : local.leaves_by);
      put(IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
  }
  if (segment != 0) {
    const auto value = static_cast<uint16_t>(segment);
    put(IPPROTO_UDP, UDP_SEGMENT, &value, sizeof value);
  }
  if (traffic_class != 0) {
    const int value = traffic_class;
    if (std::memcmp(to.ip, kMapped, 12) == 0)
      put(IPPROTO_IP, IP_TOS, &value, sizeof value);
    else
      put(IPPROTO_IPV6, IPV6_TCLASS, &value, sizeof value);
  }
  return static_cast<size_t>(at - static_cast<uint8_t*>(buffer));
}

void count_refused_datagram(int error, CounterRow& counters) {
  switch (error) {
    case 0:
      return;
    case EAGAIN:
      return counters.add(Counter::drop_send_queue);
    case EMSGSIZE:
      return counters.add(Counter::drop_send_too_big);
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EADDRNOTAVAIL:
      return counters.add(Counter::drop_send_no_route);
    default:
      return counters.add(Counter::drop_send_failed);
  }
}

/// 0, or the errno with which the kernel refused it: EAGAIN when there is no room.
int UdpSocket::transmit(const msghdr& header, const omerta_address& to, uint32_t port) {
  if (port != 0 && extra_ports_ != nullptr) [[unlikely]] {
    const HeldSocket held = extra_ports_->find(port);
    // As an address that is gone from this host.
    return held.socket == nullptr ? ENETUNREACH : held.socket->transmit(header, to, 0);
  }
  if (!is_full()) {
    if (sendmsg(fd_, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return 0;
    if (errno != EAGAIN) return errno;
    set_full();
  }
  return lanes_.send(fd_, fwmark_.load(std::memory_order_relaxed), header, to);
}

void UdpSocket::send_message(SendBatch& batch, size_t index, CounterRow& counters) {
  const SendBatch::Entry& entry = batch.entries_[index];
  const int error = transmit(batch.headers_[index].msg_hdr, entry.to, entry.local.port);
  if (error == EAGAIN)
    counters.add(Counter::drop_send_queue, entry.segments);
  else if (error != 0)
    send_refused(batch, index, error, counters);
}

/// 0, or the errno with which the kernel refused it.
int UdpSocket::send_one_from(const omerta_address& to, const LocalAddress& local, const uint8_t* data,
                             size_t size, uint8_t traffic_class, bool by_lane) {
  sockaddr_storage address;
  SendBatch::Control control;
  iovec vector{const_cast<uint8_t*>(data), size};
  msghdr header{};
  header.msg_name = &address;
  header.msg_namelen = to_sockaddr(to, address);
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_controllen = fill_control(control.bytes, to, local, 0, traffic_class);
  header.msg_control = header.msg_controllen == 0 ? nullptr : control.bytes;
  if (by_lane) return transmit(header, to, local.port);
  return sendmsg(fd_, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? 0 : errno;
}

int UdpSocket::send_one(const omerta_address& to, const LocalAddress& local, const uint8_t* data, size_t size,
                        uint8_t traffic_class) {
  const int error = send_one_from(to, local, data, size, traffic_class);
  // The address we stick to is gone from this host (ENETUNREACH, EINVAL with IPv6): let routing choose.
  const bool gone = (error == ENETUNREACH || error == EINVAL) && local.leaves_by == 0;
  return gone ? send_one_from(to, {}, data, size, traffic_class) : error;
}

int UdpSocket::send_unfragmented(const omerta_address& to, const LocalAddress& local, const uint8_t* data,
                                 size_t size) {
  if (local.port != 0 && extra_ports_ != nullptr) {
    const HeldSocket held = extra_ports_->find(local.port);
    return held.socket == nullptr ? ENETUNREACH : held.socket->send_unfragmented(to, local, data, size);
  }
  // The option is the socket's, there is none of a datagram for IPv4. What else is sent meanwhile goes
  // unfragmented too: of what is larger than its path, a few microseconds' worth. A lane would fragment.
  const auto discover = [this](int ipv4, int ipv6) {
    set(fd_, IPPROTO_IP, IP_MTU_DISCOVER, ipv4);
    if (family_ == AF_INET6) set(fd_, IPPROTO_IPV6, IPV6_MTU_DISCOVER, ipv6);
  };
  discover(IP_PMTUDISC_PROBE, IPV6_PMTUDISC_PROBE);
  const int error = send_one_from(to, local, data, size, 0, false);
  discover(IP_PMTUDISC_DONT, IPV6_PMTUDISC_DONT);
  return error;
}

/// false: not all of them went as they were to go.
bool UdpSocket::send_segments(const SendBatch::Entry& entry, CounterRow& counters) {
  std::vector<uint8_t> joined;
  joined.reserve(entry.size);
  for (size_t i = 0; i < entry.pieces; i++) {
    const auto* from = static_cast<const uint8_t*>(entry.piece[i].iov_base);
    joined.insert(joined.end(), from, from + entry.piece[i].iov_len);
  }
  bool as_asked = true;
  for (size_t at = 0; at < joined.size(); at += entry.segment) {
    const uint8_t* data = joined.data() + at;
    const size_t size = std::min(entry.segment, joined.size() - at);
    if (send_one_from(entry.to, entry.local, data, size, entry.traffic_class) == 0) continue;
    as_asked = false;
    count_refused_datagram(send_one(entry.to, entry.local, data, size, entry.traffic_class), counters);
  }
  return as_asked;
}

mmsghdr* UdpSocket::prepare(SendBatch& batch, CounterRow& counters) const {
  uint64_t bytes = 0;
  uint64_t datagrams = 0;
  for (size_t i = 0; i < batch.count_; i++) {
    SendBatch::Entry& entry = batch.entries_[i];
    msghdr& header = batch.headers_[i].msg_hdr;
    header.msg_name = &batch.addresses_[i];
    header.msg_namelen = to_sockaddr(entry.to, batch.addresses_[i]);
    header.msg_iov = entry.piece;
    header.msg_iovlen = entry.pieces;
    header.msg_control = batch.controls_[i].bytes;
    header.msg_controllen = fill_control(batch.controls_[i].bytes, entry.to, entry.local,
                                         entry.segments > 1 ? entry.segment : 0, entry.traffic_class);
    if (header.msg_controllen == 0) header.msg_control = nullptr;
    bytes += entry.size;
    datagrams += entry.segments;
  }
  counters.add(Counter::tx_bytes, bytes);
  counters.add(Counter::tx_datagrams, datagrams);
  return batch.headers_.get();
}

/// Segments of this size fit every path (RFC 8200 section 5).
constexpr size_t kFitsAnyPath = 1280 - 40 - 8;
constexpr int kMaxRefused = 8;

void UdpSocket::send_refused(SendBatch& batch, size_t index, int error, CounterRow& counters) {
  const SendBatch::Entry& entry = batch.entries_[index];
  // EMSGSIZE (EINVAL before Linux 6.14): segments are larger than the path, as an ICMP message told the
  // kernel, and what it segments it does not fragment. Alone they are sent as fragments.
  const bool over_path = entry.segments > 1 && (error == EMSGSIZE || error == EINVAL);
  counters.add(over_path ? Counter::tx_over_path_mtu : Counter::tx_errors);
  const bool as_asked = send_segments(entry, counters);
  if (entry.segments == 1) return;
  // EIO: the way out cannot make the segments' checksums (IPsec, some virtual NICs); it never will.
  if (error == EIO) gso_ = false;
  if (error != EINVAL) return;
  // An older kernel takes fewer at once; one that refuses few and small ones does not want them at all.
  if (entry.segments > SendBatch::kFormerMaxSegments)
    max_segments_ = SendBatch::kFormerMaxSegments;
  else if (as_asked && entry.segment <= kFitsAnyPath && ++gso_refused_ == kMaxRefused)
    gso_ = false;
}

void UdpSocket::finish(SendBatch& batch) const {
  batch.count_ = 0;
  batch.extra_ports_ = false;
  batch.recent_.fill(UINT8_MAX);
  batch.coalesce_ = gso();  // may have been given up just now
  batch.max_segments_ = max_segments_;
}

}  // namespace omerta::udp
