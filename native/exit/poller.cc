// SPDX-License-Identifier: Apache-2.0
#include "exit/poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>

#include "common/step_failed.h"

namespace omerta::exit {
namespace {

constexpr int kEvents = 64;

}  // namespace

Poller::Poller()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      timer_(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)),
      bell_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (const int fd : {timer_, bell_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (fd < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0)
      throw StepFailed(errno, "exit-poller", "epoll");
  }
}

Poller::~Poller() {
  for (const int fd : {epoll_, timer_, bell_})
    if (fd >= 0) ::close(fd);
}

void Poller::watch(Watched& what, uint32_t events) {
  if (events == what.interest) return;
  epoll_event event{};
  event.events = events;
  event.data.ptr = &what;
  // Even who waits for nothing is told of an end (EPOLLHUP), again and again, so it is taken out.
  const int change = what.interest == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  epoll_ctl(epoll_, change, what.fd, &event);
  what.interest = events;
}

void Poller::close(std::unique_ptr<Watched> what) {
  watch(*what, 0);
  ::close(what->fd);
  what->fd = -1;
  over_.push_back(std::move(what));
}

bool Poller::poll() {
  epoll_event events[kEvents];
  const int count = epoll_wait(epoll_, events, kEvents, 0);
  bool any = false;
  for (int i = 0; i < count; i++) {
    auto* what = static_cast<Watched*>(events[i].data.ptr);
    if (what == nullptr || what->fd < 0 || what->interest == 0) continue;
    what->ready(events[i].events);
    any = true;
  }
  over_.clear();
  return any;
}

void Poller::wake_at(Nanoseconds moment) {
  if (moment == wake_at_) return;
  wake_at_ = moment;
  itimerspec when{};
  if (moment != UINT64_MAX) {
    when.it_value.tv_sec = static_cast<time_t>(moment / kSecond);
    when.it_value.tv_nsec = static_cast<long>(moment % kSecond);
  }
  timerfd_settime(timer_, TFD_TIMER_ABSTIME, &when, nullptr);
}

void Poller::ring() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(bell_, &one, sizeof one);
}

void Poller::quiet() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(bell_, &count, sizeof count);
}

}  // namespace omerta::exit
