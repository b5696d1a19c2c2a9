// SPDX-License-Identifier: Apache-2.0
#include "udp/route_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "common/clock.h"

namespace omerta::udp {
namespace {

/// How soon the way of a new remote is known. If routes change before, it is compared with where the remote
/// was heard.
constexpr int kReviewMs = 1000;
/// Changes come many at a time: an interface that goes down takes its routes along.
constexpr int kSettleMs = 2;
/// Shortest time between two times that changes are told.
constexpr int kTellingMs = 250;

int open_notices() {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "netlink");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  // Routes that end with their interface or address are not told of one by one.
  address.nl_groups =
      RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    const int error = errno;
    close(fd);
    throw std::system_error(error, std::generic_category(), "netlink");
  }
  for (const int group : {int{RTNLGRP_IPV4_RULE}, int{RTNLGRP_IPV6_RULE}, int{RTNLGRP_NEXTHOP}})
    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group);
  return fd;
}

/// Address families whose routes may have changed.
constexpr unsigned kIpv4 = 1, kIpv6 = 2;

/// Those the notices that wait speak of. ENOBUFS: some were lost.
unsigned drain(int fd) {
  alignas(nlmsghdr) uint8_t notices[8192];
  unsigned families = 0;
  for (;;) {
    const ssize_t got = recv(fd, notices, sizeof notices, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == ENOBUFS) families |= kIpv4 | kIpv6;
    if (got <= 0 && errno != ENOBUFS) return families;
    auto left = static_cast<int>(got);
    for (auto* notice = reinterpret_cast<const nlmsghdr*>(notices);
         left > 0 && NLMSG_OK(notice, static_cast<uint32_t>(left)); notice = NLMSG_NEXT(notice, left)) {
      // The family comes first in what each kind of notice tells; an interface is of both.
      const uint8_t family = *static_cast<const uint8_t*>(NLMSG_DATA(notice));
      families |= family == AF_INET ? kIpv4 : family == AF_INET6 ? kIpv6 : kIpv4 | kIpv6;
    }
    errno = 0;
  }
}

bool is_v4(const uint8_t* ip) { return omerta_load64(ip) == 0 && omerta_load32(ip + 8) == 0xffff0000; }

}  // namespace

RouteWatch::RouteWatch(ReturnAddresses& addresses, uint32_t fwmark, Review review, Changed changed)
    : addresses_(addresses),
      review_(std::move(review)),
      changed_(std::move(changed)),
      fwmark_(fwmark),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      notices_(open_notices()) {
  thread_ = std::thread([this] { run(); });
}

RouteWatch::~RouteWatch() {
  const uint64_t signal = 1;
  if (write(stop_event_, &signal, sizeof signal) != sizeof signal) std::terminate();
  thread_.join();
  close(stop_event_);
  close(notices_);
}

void RouteWatch::run() {
  look(0);
  bool untold = false;
  Nanoseconds next_telling = 0;
  for (unsigned changed = 0;;) {
    pollfd fds[2] = {{stop_event_, POLLIN, 0}, {notices_, POLLIN, 0}};
    const int wait = changed != 0 ? kSettleMs : untold ? kTellingMs : kReviewMs;
    if (poll(fds, 2, wait) < 0 && errno != EINTR) return;
    if (fds[0].revents != 0) return;
    const unsigned more = fds[1].revents != 0 ? drain(notices_) : 0;
    // The first change waits for what comes with it, kSettleMs at most.
    if (more != 0 && changed == 0) {
      changed = more;
      continue;
    }
    look(changed | more);
    untold |= (changed | more) != 0;
    changed = 0;
    if (const Nanoseconds now = boot_clock(); untold && now >= next_telling) {
      untold = false;
      next_telling = now + kTellingMs * kMillisecond;
      changed_();
    }
  }
}

uint32_t RouteWatch::ask(const Pair& pair) {
  uint8_t to[16], from[16];
  std::memcpy(to, pair.data(), 16);
  std::memcpy(from, pair.data() + 16, 16);
  const uint32_t fwmark = fwmark_.load(std::memory_order_relaxed);
  const uint32_t found = lookup_.interface_to(to, from, fwmark);
  // With its interface down an address is nobody's: then another one is sent from.
  return found != 0 ? found : lookup_.interface_to(to, {}, fwmark);
}

/// Routes that did not change are not asked for again.
void RouteWatch::look(unsigned changed) {
  if (changed != 0)
    std::erase_if(avoided_, [this](const Witness& witness) {
      if (ask(witness.pair) != witness.interface) return false;
      addresses_.avoid(witness.local, false);
      return true;
    });
  review_([&](const omerta_address& remote, const LocalAddress& local) {
    return moved(remote, local, (changed & (is_v4(remote.ip) ? kIpv4 : kIpv6)) != 0);
  });
  std::erase_if(ways_, [](const auto& way) { return !way.second.visited; });
  for (auto& [pair, way] : ways_) way = {.interface = way.interface};
}

bool RouteWatch::moved(const omerta_address& remote, const LocalAddress& local, bool changed) {
  // A link-local address is told with its interface.
  if (!local.known() || is_link_local(local.ip)) return false;
  Pair pair;
  std::memcpy(pair.data(), remote.ip, 16);
  std::memcpy(pair.data() + 16, local.ip, 16);
  const auto [found, added] = ways_.try_emplace(pair);
  Way& way = found->second;
  way.visited = true;
  if (!added && (!changed || way.asked)) return way.moved;
  const uint32_t now = ask(pair);
  way.asked = true;
  if (added) {
    way.interface = now;
    // It may have led elsewhere when the remote was heard, a moment ago, or never where it was heard.
    way.moved = changed && now != 0 && now != local.interface;
    return way.moved;
  }
  // None at all: the next one is compared with the last there was.
  if (now == 0) return false;
  const uint32_t before = std::exchange(way.interface, now);
  way.moved = before != 0 && before != now;
  if (way.moved) {
    addresses_.avoid(local, true);
    avoided_.push_back({local, pair, before});
  }
  return way.moved;
}

}  // namespace omerta::udp
