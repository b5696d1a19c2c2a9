// SPDX-License-Identifier: Apache-2.0
// One loaded instance of xdp/relay.bpf.c: its maps, its settings, and a way to try it on a packet.
#pragma once

#include <omerta/wire.h>

#include <memory>

#include "relay/shared_accounts.h"
#include "xdp/packet.h"
#include "xdp/xdp_error.h"

struct relay_bpf;
struct omerta_xdp_settings;
struct omerta_xdp_counters;
struct omerta_next_hop;

namespace omerta::xdp {

/// What a packet became.
struct RunResult {
  uint32_t action;  ///< enum xdp_action
  Packet packet;
};

class RelayProgram {
 public:
  struct Options {
    uint16_t port = 0;
    size_t max_legs = 65536;
    /// Routes of relayed WireGuard sessions, two for each; at least 1.
    size_t max_routes = 1;
    /// Slots of the session table's index mirror; a power of two.
    size_t index_slots = 1;
    /// Accounts and classes of limits legs may name.
    relay::Accounts::Capacity accounts = {};
    /// Time is what run() is given. For tests.
    bool test_clock = false;
    /// Maps to take over; -1 makes new ones.
    int legs_fd = -1;
    int windows_fd = -1;  ///< only together with legs_fd
    int routes_fd = -1;
    int counters_fd = -1;
    int state_fd = -1;
    int remotes_fd = -1;
  };

  /// @throws XdpError load_refused, not_loaded
  explicit RelayProgram(const Options& options);
  ~RelayProgram();
  RelayProgram(const RelayProgram&) = delete;
  RelayProgram& operator=(const RelayProgram&) = delete;

  int fd() const;
  uint32_t id() const;
  int legs_fd() const;
  int windows_fd() const;
  int routes_fd() const;
  int counters_fd() const;
  int state_fd() const;
  int remotes_fd() const;
  int devices_fd() const;
  int indices_fd() const;
  int expected_fd() const;
  int door_fd() const;
  relay::AccountFiles account_files() const;
  /// Shared memory: what is written here counts from the next packet on.
  omerta_xdp_settings& settings();
  /// Instructions the verifier went through; 0 where the kernel does not tell (before 5.16).
  uint32_t verified_instructions() const;

  /// Runs the program on a packet (BPF_PROG_TEST_RUN). `now` counts with test_clock only.
  /// @param interface it came in by; it has to have a registered receive queue, as `lo` has.
  /// @throws XdpError
  RunResult run(const Packet& packet, uint64_t now, uint32_t interface = 1);
  /// Teaches every CPU a way to `hop.to`.
  void remember(const omerta_next_hop& hop);
  /// Summed over the CPUs.
  omerta_xdp_counters counters() const;

 private:
  struct Destroy {
    void operator()(relay_bpf* skeleton) const;
  };
  std::unique_ptr<relay_bpf, Destroy> skeleton_;
};

/// The rows of a `counters` map, summed over the CPUs. @throws XdpError
omerta_xdp_counters sum_counters(int fd);

}  // namespace omerta::xdp
