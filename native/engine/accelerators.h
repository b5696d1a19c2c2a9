// SPDX-License-Identifier: Apache-2.0
// What makes packets cheaper and may be switched off, missing, or broken: each with its state and the
// reason. Decided at start by switches, self-tests and what the kernel knows; while
// the engine runs an accelerator found to spoil packets is demoted: UDP GRO and GSO for a pause, where what
// was lost or corrupted says so, else for good.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>

#include "common/self_test.h"

namespace omerta::engine {

enum class Accelerator : uint8_t { udp_gro, udp_gso, tun_checksum, tun_tcp, tun_udp, io_uring, ipsec_mb };
inline constexpr size_t kAcceleratorCount = 7;

enum class AcceleratorState : uint8_t { on, off, unavailable, demoted };

/// What made an accelerator be demoted.
enum class Fault : uint8_t {
  none,
  refused,       ///< the kernel takes the same packets only one by one
  lost,          ///< what was sent with it does not arrive, what was sent without does
  corrupted,     ///< what arrived with it does not open, what arrived without does
  wrong_header,  ///< it describes packets that cannot be
  broken         ///< a call of it fails that did not before
};

/// Which of them are wanted, in the order of Accelerator; those chosen elsewhere are told by set_on.
using AcceleratorSwitches = std::array<bool, kAcceleratorCount>;

class Accelerators {
 public:
  /// Runs the self-tests of those wanted; of the TUN interface's only when there is one. Takes a few
  /// milliseconds once in a process.
  Accelerators(const AcceleratorSwitches& wanted, bool with_tun);

  static std::string_view name(Accelerator accelerator);
  static std::string_view name(AcceleratorState state);
  static std::string_view name(Fault fault);
  bool on(Accelerator accelerator) const { return state(accelerator) == AcceleratorState::on; }
  AcceleratorState state(Accelerator accelerator) const {
    return entries_[index(accelerator)].state.load(std::memory_order_relaxed);
  }
  /// Why it is not on, or what the self-test found.
  Reason reason(Accelerator accelerator) const;
  size_t peers_without_gso() const { return peers_without_gso_.load(std::memory_order_relaxed); }

  /// Before any worker runs: it was chosen, and why.
  void set_on(Accelerator accelerator, Reason reason);
  /// Before any worker runs: the kernel does not have it.
  void set_unavailable(Accelerator accelerator, Reason reason);
  /// Any thread. False when it was not on: then nothing changed.
  bool demote(Accelerator accelerator, Fault fault);
  /// Any thread. False when it was not demoted by that fault: then nothing changed.
  bool restore(Accelerator accelerator, Fault fault);
  /// Any thread: towards so many peers segmented messages are not used, though they are on.
  void set_peers_without_gso(size_t peers) { peers_without_gso_.store(peers, std::memory_order_relaxed); }

 private:
  struct Entry {
    std::atomic<AcceleratorState> state{AcceleratorState::off};
    std::atomic<Fault> fault{Fault::none};
    Reason reason = {"switched-off", {}};
  };
  static size_t index(Accelerator accelerator) { return static_cast<size_t>(accelerator); }
  void decide(Accelerator accelerator, bool wanted, const SelfTest& test);

  std::array<Entry, kAcceleratorCount> entries_;
  std::atomic<size_t> peers_without_gso_{0};
};

}  // namespace omerta::engine
