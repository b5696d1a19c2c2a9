// SPDX-License-Identifier: Apache-2.0
// The relay's kernel path: loads the program, adopts what an earlier daemon left in the kernel, mirrors
// the forwarding table into it, and keeps it attached. One control thread.
//
// Order of a start: construct (an earlier program goes on meanwhile, with the maps it has) → install
// the legs the store knows → activate: legs nobody installed are removed, the program takes the place of
// the earlier one on every interface, and each packet meets one of the two.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "xdp/attachment.h"
#include "xdp/leg_map.h"
#include "xdp/pins.h"
#include "xdp/relay_program.h"
#include "xdp/route_map.h"

namespace omerta::xdp {

/// Datagrams of strangers let through, per second and at once, of each kind.
struct StrangerLimits {
  uint64_t prefix_per_second = 500;
  uint64_t prefix_burst = 500;
  uint64_t total_per_second = 10'000;
  uint64_t total_burst = 5'000;
  /// Of each address that has proven itself, before and beside those: an office behind one address.
  uint64_t known_per_second = 50;
  uint64_t known_burst = 200;
};

struct RelaySettings {
  uint16_t port = 0;
  std::string bind;  ///< the one address that is claimed; empty: all of this machine's
  std::vector<std::string> interfaces;
  Mode mode = Mode::native;
  size_t max_legs = 65536;
  size_t max_routes = 1;  ///< of relayed WireGuard sessions
  size_t index_slots = 1;
  relay::Accounts::Capacity accounts;
  StrangerLimits strangers;
};

class XdpRelay {
 public:
  /// Runs the self-test if this process has not, loads the program and makes or adopts the maps.
  /// @throws XdpError
  explicit XdpRelay(const RelaySettings& settings);
  ~XdpRelay();
  XdpRelay(const XdpRelay&) = delete;
  XdpRelay& operator=(const XdpRelay&) = delete;

  /// Adds or replaces legs; expires_at counts from now, 0 = never. Those there is no room for are
  /// forwarded by the socket engine: frames on unknown legs pass from then on.
  void install_legs(std::vector<omerta_leg> legs);
  void remove_legs(std::span<const uint32_t> ids);
  /// See above. Interfaces the program cannot be put on are told by interfaces().
  void activate();
  /// To be called every second or so: own addresses, forwarding of `lo`, interfaces that went or came
  /// back, drivers that lose frames.
  void check(Nanoseconds now = boot_clock());

  std::vector<Attachment::Status> interfaces() const;
  /// Legs an earlier daemon left that are still here, and those removed by activate().
  size_t adopted_legs() const { return adopted_legs_; }
  size_t removed_legs() const { return removed_legs_; }
  /// Legs that found no room.
  size_t missing_legs() const { return missing_.size(); }
  bool forwarding_enabled() const;
  int self_test_packets() const { return self_test_packets_; }
  const LegMap& legs() const { return *legs_; }
  /// Routes of relayed WireGuard sessions; at first those an earlier daemon left.
  RouteMap& routes() { return *routes_; }
  RelayProgram& program() { return *program_; }
  const Pins& pins() const { return pins_; }

  /// Lets go of everything. `unload` takes the program off the interfaces and removes the pins;
  /// otherwise it goes on forwarding.
  void close(bool unload);

 private:
  void open_maps();
  void set_own_addresses();
  void enable_forwarding();
  void set_devices(const std::vector<uint32_t>& wanted);
  std::vector<uint32_t> attached() const;
  std::vector<uint32_t> redirect_targets() const;
  void install_absolute(std::span<const omerta_leg> legs);
  void retry_missing();
  void settle(const omerta_leg& leg, int sign);

  RelaySettings settings_;
  Pins pins_;
  int self_test_packets_ = 0;
  std::unique_ptr<RelayProgram> program_;
  std::optional<relay::SharedAccounts> accounts_;
  std::unique_ptr<LegMap> legs_;
  std::optional<SharedMapping> door_;
  std::optional<RouteMap> routes_;
  std::vector<Attachment> attachments_;
  FileDescriptor former_legs_file_;  ///< of another layout or size, until activate()
  std::optional<FormerLegs> former_legs_;
  bool active_ = false;
  size_t adopted_legs_ = 0;
  size_t removed_legs_ = 0;
  std::vector<uint32_t> installed_;  ///< until activate()
  std::unordered_map<uint32_t, omerta_leg> missing_;
};

/// Takes away what a relay at this port left in the kernel. @returns whether there was anything.
bool unload(uint16_t port);
/// Whether a relay at this port has left something in the kernel.
bool is_loaded(uint16_t port);

}  // namespace omerta::xdp
