// SPDX-License-Identifier: Apache-2.0
// Sockets, a moment and a bell behind one descriptor (epoll(7)), which is readable while any of them has
// something: so that a worker waits for them by one of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/clock.h"

namespace omerta::exit {

/// A descriptor that is waited for. Who is told of nothing any more is kept until the round is over.
class Watched {
 public:
  virtual ~Watched() = default;
  /// events: as epoll_wait(2) has them.
  virtual void ready(uint32_t events) = 0;

  int fd = -1;
  uint32_t interest = 0;  ///< 0: it is not waited for
};

class Poller {
 public:
  /// @throws std::system_error
  Poller();
  ~Poller();
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  int descriptor() const { return epoll_; }
  /// Waits for these events of a descriptor, and for no others; 0: for none.
  void watch(Watched& what, uint32_t events);
  /// Closes its descriptor, and forgets it.
  void close(std::unique_ptr<Watched> what);
  /// Tells whoever has something, a bounded number of them. false: nobody had.
  bool poll();
  /// Readable from this moment on; UINT64_MAX: not by itself.
  void wake_at(Nanoseconds moment);
  /// Readable until quiet(); any thread.
  void ring();
  void quiet();

 private:
  int epoll_ = -1, timer_ = -1, bell_ = -1;
  Nanoseconds wake_at_ = UINT64_MAX;
  std::vector<std::unique_ptr<Watched>> over_;
};

}  // namespace omerta::exit
