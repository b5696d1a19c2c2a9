// SPDX-License-Identifier: Apache-2.0
// Tells when a TUN interface is brought up or down, gets another MTU, or is deleted, wherever it was
// moved or renamed to. A thread of its own waits for the kernel's notices (rtnetlink(7), RTMGRP_LINK).
//
// Nothing is kept open in a namespace the interface was moved to: it would keep that namespace, and the
// interface in it, from being removed. A short-lived thread goes there and looks.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <thread>

#include "tun/tun_device.h"

namespace omerta::tun {

class LinkWatch {
 public:
  /// Larger packets do not fit a datagram over IPv4 when sealed (65,535 less 20, 8 and 32 bytes): an MTU
  /// above is set back to it.
  static constexpr size_t kMaxMtu = 65475;

  struct State {
    bool up = false;
    size_t mtu = 0;
    bool operator==(const State&) const = default;
  };
  /// Both are called on the watching thread; `changed` also before the constructor returns, with how the
  /// interface is. When it returns false it is called again a little later. In a namespace that may not
  /// be entered (no CAP_SYS_ADMIN) an interface counts as up, with the MTU it had.
  LinkWatch(const TunDevice& tun, std::function<bool(const State&)> changed, std::function<void()> gone);
  ~LinkWatch();
  LinkWatch(const LinkWatch&) = delete;
  LinkWatch& operator=(const LinkWatch&) = delete;

  /// Brings the interface down. @throws std::system_error
  void set_down();

 private:
  void run();
  std::optional<State> drain();
  bool deleted() const;
  bool look();
  bool tell(const State& now);
  bool at_home(const std::function<void(int fd)>& act) const;

  const int queue_;
  const std::function<bool(const State&)> changed_;
  const std::function<void()> gone_;
  std::optional<State> told_;
  size_t mtu_;
  const ino_t namespace_;  ///< the network namespace we are in
  int index_here_ = 0;     ///< of the interface while it is there; 0: it is elsewhere
  int stop_event_ = -1;
  int notices_ = -1;
  int epoll_ = -1;
  std::thread thread_;
};

}  // namespace omerta::tun
