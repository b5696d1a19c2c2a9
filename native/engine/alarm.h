// SPDX-License-Identifier: Apache-2.0
// Wakes the one worker that waits for it at a moment any thread may set.
#pragma once

#include "common/clock.h"

namespace omerta::engine {

class Alarm {
 public:
  /// @throws std::system_error
  Alarm();
  ~Alarm();
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  /// Readable from the moment on until it is taken (timerfd_create(2)).
  int fd() const { return fd_; }
  /// Instead of whatever was set; UINT64_MAX: never.
  void set(Nanoseconds moment);
  void take();

 private:
  int fd_;
};

}  // namespace omerta::engine
