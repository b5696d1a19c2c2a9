// SPDX-License-Identifier: Apache-2.0
#include "udp/send_lanes.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "udp/steering.h"

namespace omerta::udp {
namespace {

bool set(int fd, int level, int name, int value) {
  return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

/// Where the lanes are shared.
size_t shared_lane(const omerta_address& to) {
  const uint64_t mixed = (omerta_load64(to.ip) ^ omerta_load64(to.ip + 8)) * 0x9E3779B97F4A7C15u;
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
  Lane& lane = lane_to(to);
  lane.used = last_used_;
  if (lane.fd < 0) lane.fd = open(fd, fwmark);
  if (lane.fd < 0) return EAGAIN;
  return sendmsg(lane.fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? 0 : errno;
}

SendLanes::Lane& SendLanes::lane_to(const omerta_address& to) {
  Lane* other = nullptr;
  for (Lane& lane : lanes_) {
    if (lane.fd >= 0 && std::memcmp(lane.to.ip, to.ip, sizeof to.ip) == 0) return lane;
    if (other == nullptr || (lane.fd < 0 ? other->fd >= 0 : other->fd >= 0 && lane.used < other->used))
      other = &lane;
  }
  if (other->fd >= 0) {
    if (last_used_ - other->used < kIdle) return lanes_[shared_lane(to)];
    close(other->fd);  // what waits in it is sent all the same
  }
  *other = {};
  other->to = to;
  return *other;
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
  for (Lane& lane : lanes_) {
    if (lane.fd >= 0) close(lane.fd);
    lane = {};
  }
  open_.store(false, std::memory_order_relaxed);
}

}  // namespace omerta::udp
