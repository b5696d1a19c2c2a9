// SPDX-License-Identifier: Apache-2.0
// The native engine: owns sockets, TUN device, session table, forwarding table and workers; what the
// N-API addon exposes and the C++ tests use. All methods are for one control thread, except that
// counters and the event ring are shared memory.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/kernel_path_memory.h"
#include "engine/listening_port.h"
#include "engine/settings.h"
#include "engine/shared.h"
#include "engine/wireguard_bindings.h"
#include "exit/stack_port.h"
#include "guest/guest_port.h"
#include "tun/link_watch.h"
#include "tun/tun_device.h"
#include "udp/route_watch.h"

namespace omerta::engine {

class ControlOutput;
class Worker;

/// How what is sent to one peer is shaped: by its size, and by when it leaves.
struct PeerShaping {
  session::ShapingSettings settings;
  EgressFlow flow;
};

class Engine {
 public:
  /// Opens everything and starts the workers. @throws std::system_error naming the step.
  explicit Engine(const EngineSettings& settings);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// The port bound, or to be bound; 0 when the kernel has not chosen one yet.
  uint16_t port() const { return port_.number(); }
  /// nullptr while the port is closed.
  const udp::UdpSocket* socket() const { return port_.is_open() ? port_.sockets()[0].get() : nullptr; }
  const udp::Steering& steering() const { return port_.steering(); }
  /// What seals and opens now.
  crypto::AeadChoice aead() const {
    return accelerators().state(Accelerator::ipsec_mb) == AcceleratorState::demoted
               ? shared_.aead.without_ipsec_mb()
               : shared_.aead;
  }
  const Accelerators& accelerators() const { return shared_.accelerators; }
  const udp::IoChoice& io() const { return shared_.io; }
  /// The socket engine in use: what was chosen, unless its ring could not be made again.
  const char* io_name() const;
  const tun::TunDevice* tun() const { return tun_.get(); }
  size_t workers() const { return worker_count_; }
  EventRing& events() { return shared_.events; }
  /// (workers + 1) rows of kCounterCount values, sizeof(CounterRow) bytes apart.
  CounterRow* counters() { return shared_.counters.get(); }
  /// A row per worker.
  Instruments* instruments() { return shared_.instruments.get(); }
  /// What waits in each worker's socket now; empty when closed.
  std::vector<udp::Queues> queues() const;

  /// As SessionTable::set_peers.
  bool set_peers(std::vector<session::PeerSettings> peers, bool replace = false);
  void remove_peers(const std::vector<Key32>& keys);
  /// Where packets of peers may go that have the right to an exit, and to LANs behind this node.
  void set_exit_rules(std::span<const session::ExitRule> rules, std::span<const session::ExitRule> lan);
  /// Whom the stack forwards for, and where they ask for names. @throws std::logic_error without a stack
  void set_guests(std::vector<exit::Guest> guests);
  void set_names(std::vector<exit::Names> names);
  /// nullopt: there is no stack.
  std::optional<exit::ExitCounts> exit_counts() const;
  /// Where the virtual machine is told to ask for names. @throws std::logic_error without one
  void set_guest_names(std::vector<guest::Ipv4> names4, std::vector<guest::Ipv6> names6);
  /// As SessionTable::set_shaping, with where the packets of each wait.
  void set_shaping(const std::vector<PeerShaping>& all);
  /// Of interfaces, all of them.
  void set_ceilings(const std::vector<Ceiling>& ceilings);
  Egress& egress() { return shared_.egress; }
  bool start_handshake(const Key32& peer);
  bool send_control(const Key32& peer, Bytes payload);
  /// As SessionTable::set_paths.
  void set_paths(const std::vector<session::PathSettings>& sets);
  /// As udp::ExtraPorts::set.
  void set_ports(std::span<const omerta_address> ports) { port_.set_extra(ports); }
  /// Dropped and counted where there is no session, or not the port it is to be sent from.
  void send_probe(const session::PathProbe& probe);
  /// Counts a probe that cannot be sent, because its leg is not there.
  void drop_probe();
  void send_frame(const omerta_address& to, Bytes frame);
  /// All or none. expires_at counts from now. @throws std::out_of_range, as
  /// relay::ForwardingTable::install().
  bool install_legs(std::vector<omerta_leg> legs);
  void remove_legs(std::span<const uint32_t> ids);
  relay::ForwardingTable& legs() { return shared_.legs; }
  /// Frames dropped on this leg.
  uint32_t refused(uint32_t leg) const { return shared_.refusals.of(leg); }
  /// What this node sent on the way back of a `deliver` leg; nullopt when there is no such leg.
  std::optional<relay::SentCounters::Sent> sent(uint32_t leg) const { return shared_.sent.read(leg); }
  /// Packets, bytes and refused datagrams of each account, those of its live legs included.
  std::vector<omerta_account> accounts(relay::AccountKind kind);
  /// The servers whose stock clients are relayed, all of them; those left out are no longer.
  /// @throws std::out_of_range for more than OMERTA_WIREGUARD_BINDINGS, or accounts there are none of.
  void set_wireguard_bindings(std::span<const omerta_wireguard_binding> bindings) {
    wireguard_bindings_.set(bindings);
  }
  /// In the order they were set.
  std::vector<relay::WireguardTable::Usage> wireguard_usage() const { return wireguard_bindings_.usage(); }
  /// Number of each binding, in the same order: key_epoch of its routes.
  const std::vector<size_t>& wireguard_numbers() const { return wireguard_bindings_.numbers(); }
  /// For the kernel path: relay::WireguardTable::changes, routes, adopt, add_carried, mirror_expected.
  uint64_t wireguard_changes() const { return shared_.wireguard.changes(); }
  std::vector<omerta_leg> wireguard_routes() const { return shared_.wireguard.routes(boot_clock()); }
  void adopt_wireguard_routes(std::span<const omerta_leg> routes);
  void add_wireguard_carried(std::span<const omerta_leg> ended);
  /// `fd` is a file of OMERTA_EXPECTED_INDICES words. @throws std::system_error
  void mirror_expected(int fd) { kernel_path_.mirror_expected(shared_.wireguard, fd); }
  session::SessionTable& sessions() { return *shared_.sessions; }
  /// The endpoint a `deliver` leg leads back to; nullopt when there is no such leg.
  std::optional<session::Endpoint> endpoint_of_leg(uint32_t id) const;

  /// Receiver indices are mirrored into shared memory (SessionTable::mirror_indices): `fd` is a file of
  /// index_slots() 64-bit words. @throws std::system_error
  void mirror_indices(int fd) { kernel_path_.mirror_indices(*shared_.sessions, fd); }
  /// Tells the kernel path whom this node knows, and by which key: `fd` is a file of one struct omerta_door.
  /// @throws std::system_error
  void mirror_door(int fd) { kernel_path_.mirror_door(shared_, fd); }
  /// As ForwardingTable::share_windows. @throws std::system_error
  void share_windows(const relay::WindowFiles& files) { kernel_path_.share_windows(shared_.legs, files); }
  /// Charges accounts in memory that the XDP relay charges too. @throws std::system_error
  void share_accounts(const relay::AccountFiles& files) {
    kernel_path_.share_accounts(shared_.legs, files, settings_.accounts);
  }
  size_t index_slots() const { return shared_.sessions->index_slots(); }

  // --- changes of a running engine: the TUN interface, legs and counters stay ---------------------
  /// Listens on another port (0: one the kernel chooses), or will, once the port is opened.
  /// @throws std::system_error; then the old sockets go on.
  void rebind(uint16_t port);
  /// @throws std::system_error
  void open_port();
  /// Closes the sockets and forgets every session. The port is remembered.
  void close_port();
  /// Gives the TUN interface its addresses and their routes, in case it lost them. @returns those it cannot
  /// have, as TunDevice::put_addresses().
  std::vector<std::string> put_addresses();
  /// Addresses of the TUN interface to whose networks no route leads by it, though it is up: somebody took
  /// the route away, or another one comes first.
  std::vector<std::string> unrouted_addresses();
  /// Whether somebody deleted the TUN interface.
  bool interface_gone() const { return interface_gone_.load(std::memory_order_relaxed); }
  /// Brings the TUN interface down. @throws std::system_error
  void set_interface_down();
  /// SO_MARK of what is sent from now on (0: none). @throws std::system_error
  void set_fwmark(uint32_t fwmark);
  /// A UDP socket over IPv4 beside the engine's own, bound to this address (network order) and marked as they
  /// are; it is the caller's. @throws std::system_error
  int open_side_socket(uint32_t local) { return port_.open_side_socket(local); }
  /// As SessionTable::set_private_key.
  void set_private_key(const std::optional<Key32>& key);
  void close();

 private:
  void start_workers();
  void stop_workers();
  std::unique_ptr<exit::StackPort> open_stack();
  std::unique_ptr<guest::GuestPort> open_guest();
  exit::StackPort& stack();
  std::unique_ptr<inner::Port> inside_of(size_t worker);
  bool interface_changed(const tun::LinkWatch::State& state);
  void forget_sources();
  void watch_routes();
  KernelPathMemory kernel_path_;  ///< outlives what uses it
  Shared shared_;
  const EngineSettings settings_;  ///< without the private key
  ListeningPort port_;
  WireguardBindings wireguard_bindings_;
  std::unique_ptr<tun::TunDevice> tun_;
  std::unique_ptr<exit::StackPort> stack_;
  std::unique_ptr<guest::GuestPort> guest_;
  std::atomic<bool> interface_gone_ = false;
  std::unique_ptr<tun::LinkWatch> link_watch_;
  std::unique_ptr<udp::RouteWatch> route_watch_;  ///< none where netlink is not to be had
  std::optional<bool> interface_up_;              ///< as told to the control plane
  int stop_event_ = -1;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  std::unique_ptr<ControlOutput> output_;
  const size_t worker_count_;
  bool closed_ = false;
};

}  // namespace omerta::engine
