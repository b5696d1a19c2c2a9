// SPDX-License-Identifier: Apache-2.0
#include "engine/alarm.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace omerta::engine {

Alarm::Alarm() : fd_(timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "timerfd_create");
}

Alarm::~Alarm() { close(fd_); }

void Alarm::set(Nanoseconds moment) {
  itimerspec time{};  // all zero: never
  if (moment != UINT64_MAX) {
    const Nanoseconds at = std::max<Nanoseconds>(moment, 1);
    time.it_value.tv_sec = static_cast<time_t>(at / kSecond);
    time.it_value.tv_nsec = static_cast<long>(at % kSecond);
  }
  timerfd_settime(fd_, TFD_TIMER_ABSTIME, &time, nullptr);
}

void Alarm::take() {
  uint64_t times = 0;
  // Nothing to read: it was set anew meanwhile.
  [[maybe_unused]] const ssize_t size = read(fd_, &times, sizeof times);
}

}  // namespace omerta::engine
