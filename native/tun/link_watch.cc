// SPDX-License-Identifier: Apache-2.0
#include "tun/link_watch.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "common/step_failed.h"

#ifndef TUNGETDEVNETNS
#define TUNGETDEVNETNS _IO('T', 227)
#endif

namespace omerta::tun {
namespace {

/// How soon a move to another namespace is noticed: the old one is told of it, the new one asked for.
constexpr int kSearchMs = 20;
/// In case a notice was lost, or none comes from the namespace the interface is in.
constexpr int kWaitMs = 1000;

[[noreturn]] void fail(const char* step) { throw std::system_error(errno, std::generic_category(), step); }

ino_t identity_of(int fd) {
  struct stat identity {};
  return fd >= 0 && fstat(fd, &identity) == 0 ? identity.st_ino : 0;
}

ino_t own_namespace() {
  const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  const ino_t identity = identity_of(fd);
  if (fd >= 0) close(fd);
  return identity;
}

int open_notices() {
  const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (fd < 0) fail("netlink");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK;
  // Of the namespaces our interfaces were moved to as well, where that is permitted.
  const int on = 1;
  setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof on);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    fail("netlink");
  }
  return fd;
}

}  // namespace

LinkWatch::LinkWatch(const TunDevice& tun, std::function<bool(const State&)> changed,
                     std::function<void()> gone)
    : queue_(tun.queue(0)),
      changed_(std::move(changed)),
      gone_(std::move(gone)),
      mtu_(tun.mtu()),
      namespace_(own_namespace()),
      stop_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      notices_(open_notices()),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  for (const int fd : {stop_event_, notices_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) fail("link watch");
  }
  look();
  thread_ = std::thread([this] { run(); });
}

LinkWatch::~LinkWatch() {
  const uint64_t signal = 1;
  if (write(stop_event_, &signal, sizeof signal) != sizeof signal) std::terminate();
  thread_.join();
  for (const int fd : {stop_event_, notices_, epoll_}) close(fd);
}

/// Calls act with a socket in the namespace the interface is in; false when that may not be entered.
bool LinkWatch::at_home(const std::function<void(int fd)>& act) const {
  const int home = ioctl(queue_, TUNGETDEVNETNS);
  // Kernels before 5.8 do not tell: then it is taken to be where we are.
  if (home < 0 || identity_of(home) == namespace_) {
    act(notices_);
    if (home >= 0) close(home);
    return true;
  }
  bool entered = false;
  // The namespace is a property of threads, and the caller's must stay.
  std::thread([&] {
    if (setns(home, CLONE_NEWNET) != 0) return;
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return;
    entered = true;
    act(fd);
    close(fd);
  }).join();
  close(home);
  return entered;
}

/// Looks how the interface is and tells of a change; false when that is to be done again soon: it was
/// not found, as in the middle of a move, or nobody listened.
bool LinkWatch::look() {
  State now{true, mtu_};
  bool found = false;
  index_here_ = 0;
  const bool entered = at_home([&](int fd) {
    ifreq flags{};
    if (ioctl(queue_, TUNGETIFF, &flags) != 0) return;  // its present name
    ifreq mtu = flags;
    ifreq index = flags;
    if (ioctl(fd, SIOCGIFFLAGS, &flags) != 0 || ioctl(fd, SIOCGIFMTU, &mtu) != 0) return;
    if (fd == notices_ && ioctl(fd, SIOCGIFINDEX, &index) == 0) index_here_ = index.ifr_ifindex;
    if (mtu.ifr_mtu > static_cast<int>(kMaxMtu)) {
      ifreq lowered = mtu;
      lowered.ifr_mtu = static_cast<int>(kMaxMtu);
      if (ioctl(fd, SIOCSIFMTU, &lowered) == 0) mtu = lowered;
    }
    now = {(flags.ifr_flags & IFF_UP) != 0, static_cast<size_t>(mtu.ifr_mtu)};
    found = true;
  });
  if (entered && !found) return false;
  return tell(now);
}

bool LinkWatch::tell(const State& now) {
  mtu_ = now.mtu;
  if (now != told_ && changed_(now)) told_ = now;
  return now == told_;
}

/// Takes in what the kernel told. @returns how the interface is by the last of it; nullopt when nothing was
/// said of it, or in another namespace than ours.
std::optional<LinkWatch::State> LinkWatch::drain() {
  std::optional<State> heard;
  alignas(nlmsghdr) uint8_t notice[8192];
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int))];
  for (;;) {
    iovec part{notice, sizeof notice};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t size = recvmsg(notices_, &message, MSG_DONTWAIT);
    if (size <= 0) return heard;
    // One with the id of a namespace is of another one; one that was cut is looked for.
    if (message.msg_controllen > 0 || (message.msg_flags & MSG_TRUNC) != 0) continue;
    auto left = static_cast<unsigned>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(notice); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != RTM_NEWLINK || header->nlmsg_len < NLMSG_LENGTH(sizeof(ifinfomsg))) continue;
      const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(header));
      if (index_here_ == 0 || link->ifi_index != index_here_) continue;
      heard = State{(link->ifi_flags & IFF_UP) != 0, mtu_};
    }
  }
}

/// Once its interface is deleted a queue is in error for good. The queue itself is not waited for: every
/// packet would end the wait.
bool LinkWatch::deleted() const {
  pollfd queue{queue_, 0, 0};
  return poll(&queue, 1, 0) == 1 && (queue.revents & POLLERR) != 0;
}

void LinkWatch::run() {
  // Whoever brought the interface up may be sent something at once, and the port is bound here. The thread
  // sleeps but for moments, so that nobody waits for it; without CAP_SYS_NICE it takes its turn.
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), -20);
  for (int wait = kWaitMs;;) {
    epoll_event events[2];
    const int ready = epoll_wait(epoll_, events, 2, wait);
    for (int i = 0; i < ready; i++) {
      if (events[i].data.fd == stop_event_) return;
      // To ask how it is takes a lock of the kernel's that whoever changes networks holds, for milliseconds
      // where many do: the notice itself says it at once.
      if (const auto heard = drain()) tell(*heard);
    }
    if (deleted()) {
      gone_();
      epoll_ctl(epoll_, EPOLL_CTL_DEL, notices_, nullptr);
      while (epoll_wait(epoll_, events, 1, -1) != 1) {
      }
      return;
    }
    wait = look() ? kWaitMs : kSearchMs;
  }
}

void LinkWatch::set_down() {
  const auto lower = [this](int fd) {
    ifreq request{};
    if (ioctl(queue_, TUNGETIFF, &request) != 0 || ioctl(fd, SIOCGIFFLAGS, &request) != 0) return errno;
    request.ifr_flags = static_cast<short>(request.ifr_flags & ~IFF_UP);
    return ioctl(fd, SIOCSIFFLAGS, &request) == 0 ? 0 : errno;
  };
  int error = EPERM;
  at_home([&](int fd) { error = lower(fd); });
  if (error != 0) throw StepFailed(error, "tun-flags");
}

}  // namespace omerta::tun
