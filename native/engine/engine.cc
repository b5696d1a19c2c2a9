// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <net/if.h>
#include <sodium.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "engine/control_output.h"
#include "engine/source_review.h"
#include "engine/worker.h"
#include "inner/lent_port.h"
#include "tun/interface_address.h"
#include "tun/tun_port.h"
#include "udp/route_lookup.h"

namespace omerta::engine {
namespace {

/// libsodium chooses its implementations before anything of ours runs.
const EngineSettings& with_sodium(const EngineSettings& settings) {
  if (sodium_init() < 0) throw std::runtime_error("libsodium could not be initialised");
  return settings;
}

EngineSettings without_key(EngineSettings settings) {
  sodium_memzero(settings.private_key.data(), settings.private_key.size());
  return settings;
}

const std::vector<std::string>& inner_addresses(const EngineSettings& settings) {
  static const std::vector<std::string> kNone;
  if (settings.tun.has_value()) return settings.tun->addresses;
  if (settings.guest.has_value()) return settings.guest->addresses;
  return settings.stack.has_value() ? settings.stack->addresses : kNone;
}

/// The inner addresses of this node, without the networks they are in.
std::vector<session::Prefix> own_prefixes(const EngineSettings& settings) {
  std::vector<session::Prefix> own;
  for (const std::string& text : inner_addresses(settings))
    if (const auto address = session::Prefix::parse(text.substr(0, text.find('/'))); address.has_value())
      own.push_back(*address);
  return own;
}

/// nullopt: it is not one that ends here.
std::optional<session::Endpoint> way_back_of(const omerta_leg& leg) {
  return leg.action == OMERTA_LEG_DELIVER ? std::optional(endpoint_of(leg)) : std::nullopt;
}

bool same_way_back(const omerta_leg& a, const omerta_leg& b) {
  return a.action == b.action && endpoint_of(a).same_place(endpoint_of(b)) &&
         a.next_key_epoch == b.next_key_epoch && std::memcmp(a.next_key, b.next_key, sizeof a.next_key) == 0;
}

}  // namespace

Engine::Engine(const EngineSettings& settings)
    : shared_(with_sodium(settings), std::max<size_t>(settings.workers, 1)),
      settings_(without_key(settings)),
      port_(shared_, settings),
      wireguard_bindings_(shared_),
      worker_count_(std::max<size_t>(settings.workers, 1)) {
  output_ = std::make_unique<ControlOutput>(shared_, shared_.counters[worker_count_]);
  set_exit_rules({}, {});
  if (settings.port_follows_interface)
    shared_.sessions->suspend();
  else
    port_.open();
  if (settings.tun.has_value()) {
    tun::TunSettings tun = *settings.tun;
    tun.queues = worker_count_;
    tun.checksum_offload = shared_.accelerators.on(Accelerator::tun_checksum);
    tun.tcp_offload = shared_.accelerators.on(Accelerator::tun_tcp);
    tun.udp_offload = shared_.accelerators.on(Accelerator::tun_udp);
    tun_ = std::make_unique<tun::TunDevice>(tun);
    if (tun.udp_offload && !tun_->udp_offload())
      shared_.accelerators.set_unavailable(Accelerator::tun_udp, {"needs-linux", "6.2"});
  }
  if (settings.stack.has_value()) stack_ = open_stack();
  if (settings.guest.has_value()) guest_ = open_guest();
  stop_event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_event_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  if (tun_)
    link_watch_ = std::make_unique<tun::LinkWatch>(
        *tun_, [this](const tun::LinkWatch::State& state) { return interface_changed(state); },
        [this] {
          interface_gone_.store(true, std::memory_order_relaxed);
          shared_.events.write(EventType::interface_gone, {});
        });
  watch_routes();
  if (port_.is_open()) start_workers();
}

/// What it permits is what workers judge packets by, on the address that is connected to.
std::unique_ptr<exit::StackPort> Engine::open_stack() {
  if (worker_count_ != 1 || tun_)
    throw std::invalid_argument("stack: it has one worker, and no TUN interface beside it");
  stack::Settings settings;
  settings.mtu = settings_.stack->mtu;
  Key32 key;
  random_bytes(key);
  exit::ExitPolicy policy;
  policy.permits = [this](const exit::Guest& guest, uint8_t protocol, const stack::Address& address,
                          uint16_t port) {
    const session::ExitRules& rules = shared_.sessions->exit_rules();
    const bool v4 = stack::is_ipv4(address);
    const uint8_t family = v4 ? 4 : 6;
    const uint8_t* const bytes = address.data() + (v4 ? 12 : 0);
    if (rules.is_own(family, bytes)) return false;
    if (guest.lan && rules.permits_lan(family, bytes)) return true;
    const bool mail = protocol == inner::kTcp && port == inner::kMailPort;
    return guest.exit && !mail && rules.permits(family, bytes);
  };
  policy.is_own = [this](const stack::Address& address) {
    const bool v4 = stack::is_ipv4(address);
    return shared_.sessions->exit_rules().is_own(v4 ? 4 : 6, address.data() + (v4 ? 12 : 0));
  };
  return std::make_unique<exit::StackPort>(settings, key, std::move(policy));
}

/// QEMU's stream has no virtio headers: the device knows neither super-packets nor packets without a
/// checksum, and Accelerators has both off where there is no interface.
std::unique_ptr<guest::GuestPort> Engine::open_guest() {
  if (worker_count_ != 1 || tun_ || stack_)
    throw std::invalid_argument(
        "guest: it has one worker, and neither a TUN interface nor a stack beside it");
  guest::Link link;
  link.guest = settings_.guest->mac;
  link.mtu = settings_.guest->mtu;
  for (const session::Prefix& own : own_prefixes(settings_)) {
    if (own.family == 4)
      std::copy_n(own.address, 4, link.ipv4.emplace_back().begin());
    else
      std::copy_n(own.address, 16, link.ipv6.emplace_back().begin());
  }
  return std::make_unique<guest::GuestPort>(settings_.guest->socket, std::move(link), shared_.counters[0]);
}

std::unique_ptr<inner::Port> Engine::inside_of(size_t worker) {
  if (tun_) return std::make_unique<tun::TunPort>(*tun_, worker);
  if (guest_) return std::make_unique<inner::LentPort>(*guest_);
  return stack_ ? std::make_unique<inner::LentPort>(*stack_) : nullptr;
}

exit::StackPort& Engine::stack() {
  if (!stack_) throw std::logic_error("guests: the engine was made without a stack");
  return *stack_;
}

void Engine::set_guests(std::vector<exit::Guest> guests) { stack().set_guests(std::move(guests)); }

void Engine::set_names(std::vector<exit::Names> names) { stack().set_names(std::move(names)); }

void Engine::set_guest_names(std::vector<guest::Ipv4> names4, std::vector<guest::Ipv6> names6) {
  if (!guest_) throw std::logic_error("names: the engine was made without a virtual machine");
  guest_->set_names(std::move(names4), std::move(names6));
}

std::optional<exit::ExitCounts> Engine::exit_counts() const {
  return stack_ ? std::optional(stack_->counts()) : std::nullopt;
}

void Engine::watch_routes() {
  const auto review = [this](const udp::RouteWatch::Moved& moved) {
    forget_moved_sources(*shared_.sessions, moved);
  };
  try {
    route_watch_ =
        std::make_unique<udp::RouteWatch>(shared_.proven_remotes, settings_.fwmark, review,
                                          [this] { shared_.events.write(EventType::addresses_changed, {}); });
  } catch (const std::system_error&) {
    // Without it the address sticks until the session is renewed.
  }
}

/// On the watching thread.
bool Engine::interface_changed(const tun::LinkWatch::State& state) {
  shared_.inner_mtu.store(state.mtu, std::memory_order_relaxed);
  if (interface_up_ == state.up) return true;
  if (settings_.port_follows_interface) port_.bind_ahead(state.up);
  if (!shared_.events.write(state.up ? EventType::interface_up : EventType::interface_down, {})) return false;
  interface_up_ = state.up;
  return true;
}

void Engine::start_workers() {
  const ListeningPort::Sockets& sockets = port_.sockets();
  output_->use(sockets[0].get());
  shared_.sockets.clear();
  for (const auto& socket : sockets) shared_.sockets.push_back(socket.get());
  for (size_t i = 0; i < worker_count_; i++)
    workers_.push_back(std::make_unique<Worker>(shared_, i, *sockets[i], inside_of(i), stop_event_));
  for (auto& worker : workers_) threads_.emplace_back([w = worker.get()] { w->run(); });
}

void Engine::stop_workers() {
  // The counter stays readable, so that every worker sees it; then it is taken back.
  uint64_t signal = 1;
  if (write(stop_event_, &signal, sizeof signal) != sizeof signal) std::terminate();
  for (std::thread& thread : threads_) thread.join();
  if (read(stop_event_, &signal, sizeof signal) != sizeof signal) std::terminate();
  threads_.clear();
  workers_.clear();
  output_->use(nullptr);
}

std::vector<udp::Queues> Engine::queues() const {
  std::vector<udp::Queues> all;
  for (const auto& socket : port_.sockets()) all.push_back(socket->queues());
  return all;
}

const char* Engine::io_name() const { return workers_.empty() ? "" : workers_[0]->io_name(); }

void Engine::rebind(uint16_t port) {
  if (port_.renumber(port)) return;
  auto sockets = port_.bind(port);
  stop_workers();
  port_.move_to(std::move(sockets));
  start_workers();
  forget_sources();
}

void Engine::open_port() {
  if (!port_.open()) return;
  forget_sources();
  // Before a worker reads from the interface: what it stages while nothing may be sent starts no handshake.
  shared_.sessions->resume(boot_clock());
  start_workers();
}

void Engine::close_port() {
  if (!port_.is_open()) return;
  stop_workers();
  port_.close();
  shared_.sessions->suspend();
}

std::vector<std::string> Engine::put_addresses() {
  return tun_ && !interface_gone() ? tun_->put_addresses(unrouted_addresses()) : std::vector<std::string>{};
}

std::vector<std::string> Engine::unrouted_addresses() {
  std::vector<std::string> unrouted;
  const unsigned interface = tun_ && !interface_gone() ? if_nametoindex(tun_->name().c_str()) : 0;
  // What is part of another one, as of a VRF, has its routes there.
  if (interface == 0 || access(("/sys/class/net/" + tun_->name() + "/master").c_str(), F_OK) == 0)
    return unrouted;
  udp::RouteLookup lookup;
  for (const std::string& address : tun_->addresses()) {
    const tun::Neighbour neighbour = tun::neighbour_of(address);
    uint8_t to[16];
    std::copy(neighbour.begin(), neighbour.end(), to);
    if (lookup.interface_to(to, {}, 0) != interface) unrouted.push_back(address);
  }
  return unrouted;
}

void Engine::set_interface_down() {
  if (link_watch_) link_watch_->set_down();
}

void Engine::set_fwmark(uint32_t fwmark) {
  port_.set_fwmark(fwmark);
  if (route_watch_) route_watch_->set_fwmark(fwmark);
  shared_.interfaces.set_fwmark(fwmark);
  forget_sources();
}

void Engine::set_private_key(const std::optional<Key32>& key) {
  shared_.sessions->set_private_key(key, boot_clock());
  kernel_path_.tell_key(*shared_.sessions);
}

/// The source addresses peers are answered from were chosen by the routing of before.
void Engine::forget_sources() {
  shared_.proven_remotes.clear();
  shared_.strangers.clear();
  shared_.sessions->for_each([](session::Peer& peer) {
    session::Endpoint endpoint = peer.endpoint();
    endpoint.local = {};
    peer.set_endpoint(endpoint);
  });
}

Engine::~Engine() { close(); }

void Engine::close() {
  if (closed_) return;
  closed_ = true;
  link_watch_.reset();
  route_watch_.reset();
  stop_workers();
  tun_.reset();
  stack_.reset();
  guest_.reset();
  port_.close();  // now, not when JavaScript collects the object: it may be wanted again
  ::close(stop_event_);
}

void Engine::adopt_wireguard_routes(std::span<const omerta_leg> routes) {
  shared_.wireguard.adopt(routes, boot_clock());
}

void Engine::add_wireguard_carried(std::span<const omerta_leg> ended) {
  relay::Accounts& accounts = shared_.legs.accounts();
  for (const omerta_leg& route : ended) accounts.check(route);
  shared_.wireguard.add_carried(ended, accounts);
}

bool Engine::set_peers(std::vector<session::PeerSettings> peers, bool replace) {
  for (session::PeerSettings& peer : peers) peer.keep_session_on_new_psk = settings_.keep_session_on_new_psk;
  if (!shared_.sessions->set_peers(peers, boot_clock(), *output_, replace)) return false;
  if (replace) shared_.egress.remove_all_flows();
  for (const session::PeerSettings& peer : peers)
    if (peer.remove) shared_.egress.remove_flow(peer.public_key);
  return true;
}

void Engine::set_exit_rules(std::span<const session::ExitRule> rules,
                            std::span<const session::ExitRule> lan) {
  shared_.sessions->set_exit_rules(std::make_unique<session::ExitRules>(own_prefixes(settings_), rules, lan));
  if (stack_) stack_->review();
}

void Engine::remove_peers(const std::vector<Key32>& keys) {
  shared_.sessions->remove_peers(keys);
  for (const Key32& key : keys) shared_.egress.remove_flow(key);
}

void Engine::set_shaping(const std::vector<PeerShaping>& all) {
  const Nanoseconds now = boot_clock();
  std::vector<session::ShapingSettings> settings;
  // What waits for a peer has a place before anything is to wait.
  for (const PeerShaping& shaping : all) {
    if (shaping.settings.queued) shared_.egress.set_flow(shaping.flow, now);
    settings.push_back(shaping.settings);
  }
  shared_.sessions->set_shaping(settings);
  for (const PeerShaping& shaping : all)
    if (!shaping.settings.queued || !shared_.sessions->has_peer(shaping.settings.peer))
      shared_.egress.release_flow(shaping.settings.peer, now);
}

void Engine::set_ceilings(const std::vector<Ceiling>& ceilings) {
  shared_.egress.set_ceilings(ceilings, boot_clock());
}

bool Engine::start_handshake(const Key32& peer) {
  return shared_.sessions->start_handshake(peer, boot_clock(), *output_);
}

bool Engine::send_control(const Key32& peer, Bytes payload) {
  return shared_.sessions->send_inside(peer, payload, boot_clock(), *output_);
}

void Engine::set_paths(const std::vector<session::PathSettings>& sets) {
  shared_.sessions->set_paths(sets, boot_clock(), *output_);
}

void Engine::send_probe(const session::PathProbe& probe) {
  const uint32_t port = probe.to.local.port;
  const bool can = port_.is_open() && (port == 0 || shared_.extra_ports.find(port).socket != nullptr);
  const bool sent = can && shared_.sessions->send_probe(probe, boot_clock(), *output_);
  shared_.counters[worker_count_].add(sent ? Counter::path_probes_sent : Counter::drop_probe_unsent);
}

void Engine::drop_probe() { shared_.counters[worker_count_].add(Counter::drop_probe_unsent); }

void Engine::send_frame(const omerta_address& to, Bytes frame) {
  LocalAddress from = shared_.proven_remotes.find(to);
  if (!from.known()) from = shared_.strangers.find(to);
  output_->send_datagram(to, from, frame, 0);
}

bool Engine::install_legs(std::vector<omerta_leg> legs) {
  size_t added = 0;
  omerta_leg present;
  session::SessionTable::WaysBack changed;
  for (const omerta_leg& leg : legs) {
    shared_.legs.accounts().check(leg);
    if (!shared_.legs.find(leg.leg_id, present))
      added++;
    else if (present.action == OMERTA_LEG_DELIVER && !same_way_back(present, leg))
      changed[leg.leg_id] = way_back_of(leg);
  }
  if (shared_.legs.size() + added > shared_.legs.capacity()) return false;
  const Nanoseconds now = boot_clock();
  for (omerta_leg& leg : legs) {
    if (leg.expires_at != 0) leg.expires_at += now;
    if (!shared_.legs.install(leg)) return false;
    // Who had a leg at an earlier daemon comes again in the middle of whatever flood there is.
    if ((leg.flags & OMERTA_LEG_ANY_SOURCE) == 0 && leg.source_port != 0)
      shared_.stranger_budgets.know(leg.source_ip, now);
    if (leg.action == OMERTA_LEG_DELIVER) shared_.sent.open(leg.leg_id);
  }
  if (!changed.empty()) shared_.sessions->change_ways_back(changed, now, *output_);
  return true;
}

void Engine::remove_legs(std::span<const uint32_t> ids) {
  omerta_leg present;
  session::SessionTable::WaysBack ended;
  for (const uint32_t id : ids) {
    if (shared_.legs.find(id, present) && present.action == OMERTA_LEG_DELIVER) ended[id] = std::nullopt;
    shared_.legs.remove(id);
    shared_.sent.close(id);
    shared_.refusals.forget(id);
  }
  if (!ended.empty()) shared_.sessions->change_ways_back(ended, boot_clock(), *output_);
}

std::vector<omerta_account> Engine::accounts(relay::AccountKind kind) {
  std::vector<omerta_account> all;
  for (size_t i = 0; i < shared_.legs.accounts().size(kind); i++)
    all.push_back(shared_.legs.accounts().read(kind, i));
  const auto charge = [&](const omerta_leg& leg) {
    omerta_account& account = all[kind == relay::AccountKind::identity ? leg.identity : leg.network];
    account.packets += leg.packets;
    account.bytes += leg.bytes;
  };
  shared_.legs.for_each(charge);
  shared_.wireguard.for_each_charge(charge);
  return all;
}

std::optional<session::Endpoint> Engine::endpoint_of_leg(uint32_t id) const {
  omerta_leg leg;
  return shared_.legs.find(id, leg) ? way_back_of(leg) : std::nullopt;
}

}  // namespace omerta::engine
