// SPDX-License-Identifier: Apache-2.0
#include "udp/send_lanes.h"

#include <unistd.h>

#include <cerrno>

#include "udp/steering.h"

namespace omerta::udp {
namespace {

bool set(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

size_t lane_of(const omerta_address& to) {
  const uint64_t mixed = (omerta_load64(to.ip) ^ omerta_load64(to.ip + 8) ^ to.port) * 0x9E3779B97F4A7C15u;
  return mixed >> 58;  // 6 bits: SendLanes::kLanes
}

}  // namespace

SendLanes::~SendLanes() { close_all(); }

bool SendLanes::still_in_use(Nanoseconds until) const {
  if (boot_clock() < until) return true;
  until_.compare_exchange_strong(until, 0, std::memory_order_relaxed);
  return false;
}

int SendLanes::send(int fd, uint32_t fwmark, const msghdr& header, const omerta_address& to) {
  const std::lock_guard lock(mutex_);
  if (fwmark != fwmark_) close_all();
  fwmark_ = fwmark;
  last_used_ = boot_clock();
  int& lane = fds_[lane_of(to)];
  if (lane < 0) lane = open(fd, fwmark);
  if (lane < 0) return EAGAIN;
  return sendmsg(lane, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? 0 : errno;
}

/// -1: it cannot be had.
int SendLanes::open(int fd, uint32_t fwmark) {
  if (refused_ || (receivers_ > 1 && !steered_)) return -1;
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      !set(fd, SOL_SOCKET, SO_REUSEPORT, 1))
    return -1;
  const int lane = socket(address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (lane < 0) return -1;
  if (address.ss_family == AF_INET6) {
    set(lane, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    set(lane, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT);
  }
  set(lane, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
  if (fwmark != 0) set(lane, SOL_SOCKET, SO_MARK, static_cast<int>(fwmark));
  if (!set(lane, SOL_SOCKET, SO_SNDBUFFORCE, kBytes)) set(lane, SOL_SOCKET, SO_SNDBUF, kBytes);
  const bool usable = set(lane, SOL_SOCKET, SO_REUSEPORT, 1) &&
                      bind(lane, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
                      (open_.load(std::memory_order_relaxed) || steer_past_lanes(lane, receivers_));
  if (!usable) {
    refused_ = true;
    close(lane);
    return -1;
  }
  open_.store(true, std::memory_order_relaxed);
  beside_ = fd;
  return lane;
}

void SendLanes::close_unused() {
  if (!open_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  if (in_use() || boot_clock() - last_used_ < kept_) return;
  close_all();
  // A socket that has its port alone again shares it with nobody.
  if (receivers_ == 1) set(beside_, SOL_SOCKET, SO_REUSEPORT, 0);
}

void SendLanes::close_all() {
  for (int& lane : fds_) {
    if (lane >= 0) close(lane);
    lane = -1;
  }
  open_.store(false, std::memory_order_relaxed);
}

}  // namespace omerta::udp
