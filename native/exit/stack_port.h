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

#include "exit/tcp_flows.h"
#include "exit/udp_flows.h"
#include "inner/port.h"

namespace omerta::exit {

class StackPort final : public inner::Port {
 public:
  /// key: random. @throws std::system_error
  StackPort(const stack::Settings& settings, const Key32& key, ExitPolicy policy);

  int descriptor() const override { return poller_.descriptor(); }
  std::span<const inner::Received> receive() override;
  Taken send(std::span<const inner::Gathered> packets) override;
  void set_offloads(const inner::Offloads&) override {}

  /// Who may send by it, from now on these alone; what others have open ends, and so does what is not
  /// permitted any more. Any thread.
  void set_guests(std::vector<stack::Address> guests);
  /// Any thread.
  ExitCounts counts() const;

 private:
  void take_guests();
  const inner::Received* next(Nanoseconds now);
  void count();

  const ExitPolicy policy_;
  Guests guests_;
  Poller poller_;
  TcpFlows tcp_;
  UdpFlows udp_;
  bool rung_ = false;
  mutable std::mutex mutex_;
  std::optional<std::vector<stack::Address>> new_guests_;
  std::atomic<bool> has_new_guests_ = false;
  ExitCounts counts_;
};

}  // namespace omerta::exit
