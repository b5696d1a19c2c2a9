// SPDX-License-Identifier: Apache-2.0
// The inside of an exit without a TUN interface: packets of guests end in a TCP of this process and in UDP
// ports, and what they carry goes on by ordinary sockets. No right of the machine is needed for it.
//
//   worker ── send ──► stack ── writev from where it was opened ──► socket
//   worker ◄─ receive ─ stack ◄── readv into what it is sent from ── socket
#pragma once

#include <atomic>
#include <mutex>
#include <optional>

#include "exit/ping_flows.h"
#include "exit/tcp_flows.h"
#include "exit/udp_flows.h"
#include "inner/port.h"

namespace omerta::exit {

class StackPort final : public inner::Port {
 public:
  /// key: random. @throws std::system_error
  /// clock: monotonic, as boot_clock() is.
  StackPort(const stack::Settings& settings, const Key32& key, ExitPolicy policy,
            Nanoseconds (*clock)() = boot_clock);

  int descriptor() const override { return poller_.descriptor(); }
  std::span<const inner::Received> receive() override;
  Taken send(std::span<const inner::Gathered> packets) override;
  void set_offloads(const inner::Offloads&) override {}

  /// Who may send by it, from now on these alone; what others have open ends. Any thread.
  void set_guests(std::vector<Guest> guests);
  /// Where names are asked for, from now on. Any thread.
  void set_names(std::vector<Names> names);
  /// What is permitted has changed: what is not any more ends. Any thread.
  void review();
  /// Any thread.
  ExitCounts counts() const;

 private:
  void change(std::optional<std::vector<Guest>> guests, std::optional<std::vector<Names>> names);
  void take_changes();
  bool answer_ping(const stack::PacketView& packet);
  const inner::Received* next(Nanoseconds now);
  void ring();
  void count();

  const ExitPolicy policy_;
  Guests guests_;
  Nanoseconds (*const clock_)();
  Poller poller_;
  Answers answers_;
  TcpFlows tcp_;
  UdpFlows udp_;
  PingFlows pings_;
  bool rung_ = false;
  mutable std::mutex mutex_;
  std::optional<std::vector<Guest>> new_guests_;
  std::optional<std::vector<Names>> new_names_;
  std::atomic<bool> changed_ = false;
  ExitCounts counts_;
};

}  // namespace omerta::exit
