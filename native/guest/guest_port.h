// SPDX-License-Identifier: Apache-2.0
// The inside of a node that is a virtual machine's: packets come from its network device and go there, and
// the gateway in between lets nothing else pass. No TUN interface, and no right of the machine is needed.
//
//   worker ── send ──► Ethernet header, length ── sendmsg ──► socket ─► QEMU
//   worker ◄─ receive ─ gateway ◄── frames of one recv ────── socket ◄─ QEMU
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>

#include "common/counters.h"
#include "guest/gateway.h"
#include "guest/guest_socket.h"
#include "inner/port.h"

namespace omerta::guest {

class GuestPort final : public inner::Port {
 public:
  /// counters: the row of the worker that uses it.
  GuestPort(std::shared_ptr<GuestSocket> socket, Link link, CounterRow& counters);

  int descriptor() const override { return socket_->descriptor(); }
  std::span<const inner::Received> receive() override;
  /// Stop::refused for super-packets: the device of a guest knows none.
  Taken send(std::span<const inner::Gathered> packets) override;
  void set_offloads(const inner::Offloads&) override {}

  /// Where the guest is told to ask for names, from now on. Any thread.
  void set_names(std::vector<Ipv4> names4, std::vector<Ipv6> names6);

 private:
  static constexpr size_t kBatch = 64;
  struct Names {
    std::vector<Ipv4> ipv4;
    std::vector<Ipv6> ipv6;
  };

  void take_names();
  size_t judge_frames();
  void answer(Bytes frame);
  void send_answers();
  bool is_guests(const inner::Gathered& packet) const;

  const std::shared_ptr<GuestSocket> socket_;
  Gateway gateway_;
  CounterRow& counters_;
  inner::Received received_[kBatch]{};
  std::vector<uint8_t> answers_;
  std::vector<size_t> answer_sizes_;
  bool rung_ = false;
  std::mutex mutex_;
  std::optional<Names> new_names_;
  std::atomic<bool> changed_ = false;
};

}  // namespace omerta::guest
