// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <set>
#include <stdexcept>
#include <system_error>
#include <utility>

#include <omerta/blake2s.h>

#include "engine/output.h"
#include "engine/worker.h"
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

/// What the session table asks for while the control thread is inside it.
class Engine::ControlOutput final : public EventOutput {
 public:
  using EventOutput::EventOutput;

  /// nullptr: nothing is sent.
  void use(udp::UdpSocket* socket) { socket_ = socket; }
  void send(const session::Endpoint& to, Bytes message, uint8_t traffic_class) override {
    send_datagram(to.remote, to.local, datagram_of(to, message), traffic_class);
  }
  void send_unfragmented(const session::Endpoint& to, Bytes message) override {
    if (socket_ == nullptr) return;
    const std::vector<uint8_t> datagram = datagram_of(to, message);
    count(socket_->send_unfragmented(to.remote, to.local, datagram.data(), datagram.size()), datagram.size());
  }
  void send_datagram(const omerta_address& to, const LocalAddress& local, Bytes datagram,
                     uint8_t traffic_class) {
    if (socket_ == nullptr) return;
    count(socket_->send_one(to, local, datagram.data(), datagram.size(), traffic_class), datagram.size());
  }

 private:
  std::vector<uint8_t> datagram_of(const session::Endpoint& to, Bytes message) {
    std::vector<uint8_t> datagram(message.begin(), message.end());
    if (to.relayed()) {
      datagram.insert(datagram.begin(), OMERTA_FRAME_HEADER_SIZE, 0);
      write_frame_header(datagram.data(), datagram.size(), to);
      count_sent(to, 1, datagram.size());
    }
    charge(to, datagram.size());
    return datagram;
  }
  /// error: with which the kernel refused it, or 0.
  void count(int error, size_t bytes) {
    udp::count_refused_datagram(error, counters_);
    counters_.add(Counter::tx_datagrams);
    counters_.add(Counter::tx_bytes, bytes);
  }

  udp::UdpSocket* socket_ = nullptr;
};

Engine::Engine(const EngineSettings& settings)
    : shared_(with_sodium(settings), std::max<size_t>(settings.workers, 1)),
      settings_(without_key(settings)),
      worker_count_(std::max<size_t>(settings.workers, 1)) {
  output_ = std::make_unique<ControlOutput>(shared_, shared_.counters[worker_count_]);
  set_exit_rules({}, {});
  port_ = settings.port;
  socket_options_.bind = settings.bind;
  socket_options_.fwmark = settings.fwmark;
  if (settings.port_follows_interface)
    shared_.sessions->suspend();
  else
    adopt_sockets(open_sockets(port_));
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
  if (!sockets_.empty()) start_workers();
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

std::unique_ptr<inner::Port> Engine::inside_of(size_t worker) {
  if (tun_) return std::make_unique<tun::TunPort>(*tun_, worker);
  return stack_ ? std::make_unique<exit::StackInside>(*stack_) : nullptr;
}

exit::StackPort& Engine::stack() {
  if (!stack_) throw std::logic_error("guests: the engine was made without a stack");
  return *stack_;
}

void Engine::set_guests(std::vector<exit::Guest> guests) { stack().set_guests(std::move(guests)); }

void Engine::set_names(std::vector<exit::Names> names) { stack().set_names(std::move(names)); }

std::optional<exit::ExitCounts> Engine::exit_counts() const {
  return stack_ ? std::optional(stack_->counts()) : std::nullopt;
}

/// What leaves by another interface than before leaves from another address, too (udp/route_watch.h).
void Engine::watch_routes() {
  const auto review = [this](const udp::RouteWatch::Moved& moved) {
    using Path = std::array<uint8_t, sizeof(omerta_address) + sizeof(LocalAddress::ip)>;
    const auto path_of = [](const session::Endpoint& endpoint) {
      Path path;
      std::memcpy(path.data(), &endpoint.remote, sizeof endpoint.remote);
      std::memcpy(path.data() + sizeof endpoint.remote, endpoint.local.ip, sizeof endpoint.local.ip);
      return path;
    };
    const auto sticks = [](const session::Endpoint& endpoint) {
      return !endpoint.relayed() && endpoint.local.known();
    };
    std::vector<session::Endpoint> sticky;
    shared_.sessions->for_each([&](session::Peer& peer) {
      if (const session::Endpoint endpoint = peer.endpoint(); sticks(endpoint)) sticky.push_back(endpoint);
    });
    // The kernel is asked without the session table's lock.
    std::set<Path> gone;
    for (const session::Endpoint& endpoint : sticky)
      if (moved(endpoint.remote, endpoint.local)) gone.insert(path_of(endpoint));
    if (gone.empty()) return;
    shared_.sessions->for_each([&](session::Peer& peer) {
      const session::Endpoint endpoint = peer.endpoint();
      if (sticks(endpoint) && gone.contains(path_of(endpoint))) peer.forget_source(endpoint);
    });
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
  if (settings_.port_follows_interface) bind_ahead(state.up);
  if (!shared_.events.write(state.up ? EventType::interface_up : EventType::interface_down, {})) return false;
  interface_up_ = state.up;
  return true;
}

/// The port is bound as soon as the interface is seen to be up, and not when the control thread gets to it:
/// a handshake that arrives in between waits for the workers.
void Engine::bind_ahead(bool up) {
  const std::lock_guard lock(port_mutex_);
  if (!up) return bound_.clear();
  if (!sockets_.empty() || !bound_.empty()) return;
  try {
    bound_ = open_sockets(port_);
  } catch (const std::system_error&) {
    // open_port tries again, and tells what is wrong.
  }
}

udp::SocketOptions Engine::socket_options() const {
  udp::SocketOptions options = socket_options_;
  options.gro = shared_.accelerators.on(Accelerator::udp_gro);
  options.gso = shared_.accelerators.on(Accelerator::udp_gso);
  return options;
}

/// One socket for each worker, all on one port.
std::vector<std::unique_ptr<udp::UdpSocket>> Engine::open_sockets(uint16_t port) const {
  udp::SocketOptions options = socket_options();
  options.port = port;
  options.receivers = worker_count_;
  options.steered = worker_count_ > 1 && settings_.steering;
  // With SO_REUSEPORT somebody else of ours may silently share the port, whether it is given or chosen by the
  // kernel: the first socket is bound without it, and lets the others in then. So the port is bound once.
  std::vector<std::unique_ptr<udp::UdpSocket>> sockets;
  sockets.push_back(std::make_unique<udp::UdpSocket>(options));
  options.port = sockets[0]->port();
  options.shared_port = true;
  if (worker_count_ > 1) sockets[0]->share_port();
  while (sockets.size() < worker_count_) sockets.push_back(std::make_unique<udp::UdpSocket>(options));
  for (const auto& socket : sockets) socket->use_extra_ports(shared_.extra_ports);
  return sockets;
}

void Engine::adopt_sockets(std::vector<std::unique_ptr<udp::UdpSocket>> sockets) {
  sockets_ = std::move(sockets);
  port_ = sockets_[0]->port();
  if (shared_.accelerators.on(Accelerator::udp_gro) && !sockets_[0]->gro())
    shared_.accelerators.set_unavailable(Accelerator::udp_gro, {"needs-linux", "5.0"});
  if (shared_.accelerators.on(Accelerator::udp_gso) && !sockets_[0]->gso())
    shared_.accelerators.set_unavailable(Accelerator::udp_gso, {"needs-linux", "4.18"});
  steering_ = settings_.steering ? udp::steer_shared_port(sockets_[0]->fd(), worker_count_)
                                 : udp::Steering{false, {"switched-off", {}}};
}

void Engine::start_workers() {
  output_->use(sockets_[0].get());
  shared_.sockets.clear();
  for (const auto& socket : sockets_) shared_.sockets.push_back(socket.get());
  for (size_t i = 0; i < worker_count_; i++)
    workers_.push_back(std::make_unique<Worker>(shared_, i, *sockets_[i], inside_of(i), stop_event_));
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
  for (const auto& socket : sockets_) all.push_back(socket->queues());
  return all;
}

const char* Engine::io_name() const { return workers_.empty() ? "" : workers_[0]->io_name(); }

void Engine::rebind(uint16_t port) {
  {
    const std::lock_guard lock(port_mutex_);
    if (sockets_.empty()) {
      bound_.clear();
      port_ = port;
      return;
    }
  }
  auto opened = open_sockets(port);
  stop_workers();
  {
    const std::lock_guard lock(port_mutex_);
    adopt_sockets(std::move(opened));
  }
  start_workers();
  forget_sources();
}

void Engine::open_port() {
  {
    const std::lock_guard lock(port_mutex_);
    if (!sockets_.empty()) return;
    adopt_sockets(bound_.empty() ? open_sockets(port_) : std::exchange(bound_, {}));
  }
  forget_sources();
  // Before a worker reads from the interface: what it stages while nothing may be sent starts no handshake.
  shared_.sessions->resume(boot_clock());
  start_workers();
}

void Engine::close_port() {
  if (sockets_.empty()) return;
  stop_workers();
  {
    const std::lock_guard lock(port_mutex_);
    sockets_.clear();
  }
  set_ports({});
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
  {
    const std::lock_guard lock(port_mutex_);
    for (auto* sockets : {&sockets_, &bound_})
      for (auto& socket : *sockets) socket->set_fwmark(fwmark);
    shared_.extra_ports.set_fwmark(fwmark);
    socket_options_.fwmark = fwmark;
  }
  if (route_watch_) route_watch_->set_fwmark(fwmark);
  shared_.interfaces.set_fwmark(fwmark);
  forget_sources();
}

int Engine::open_side_socket(uint32_t local) {
  const std::lock_guard lock(port_mutex_);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "socket");
  const uint32_t mark = socket_options_.fwmark;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = local;
  const bool marked = mark == 0 || ::setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) == 0;
  if (marked && ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  ::close(fd);
  throw std::system_error(error, std::generic_category(), marked ? "bind" : "SO_MARK");
}

void Engine::set_private_key(const std::optional<Key32>& key) {
  shared_.sessions->set_private_key(key, boot_clock());
  tell_key();
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
  bound_.clear();
  set_ports({});
  sockets_.clear();  // now, not when JavaScript collects the object: the port may be wanted again
  ::close(stop_event_);
}

void Engine::mirror_indices(int fd) {
  if (index_mirror_.has_value()) throw std::logic_error("receiver indices are mirrored already");
  index_mirror_.emplace(fd, index_slots() * sizeof(uint64_t), "map indices");
  shared_.sessions->mirror_indices(index_mirror_->as<uint64_t>());
}

void Engine::mirror_expected(int fd) {
  if (expected_mirror_.has_value()) throw std::logic_error("expected indices are mirrored already");
  expected_mirror_.emplace(fd, OMERTA_EXPECTED_INDICES * sizeof(uint64_t), "map expected");
  shared_.wireguard.mirror_expected(expected_mirror_->as<uint64_t>());
}

void Engine::mirror_door(int fd) {
  if (door_mirror_.has_value()) throw std::logic_error("the door is mirrored already");
  door_mirror_.emplace(fd, sizeof(omerta_door), "map door");
  auto* const door = door_mirror_->as<omerta_door>();
  tell_key();
  shared_.wireguard.tell(door);
  shared_.door.store(door, std::memory_order_release);
}

void Engine::tell_key() {
  if (!door_mirror_.has_value()) return;
  auto* const door = door_mirror_->as<omerta_door>();
  OMERTA_WRITE(&door->checks_mac1, 0U);  // meanwhile
  uint32_t state[8];
  omerta_mac1_begin(state, shared_.sessions->mac1_key().data());
  for (size_t i = 0; i < std::size(state); i++) OMERTA_WRITE(&door->mac1_state[i], state[i]);
  __atomic_store_n(&door->checks_mac1, 1U, __ATOMIC_RELEASE);
}

void Engine::share_windows(const relay::WindowFiles& files) {
  if (shared_windows_.has_value()) throw std::logic_error("windows are shared already");
  shared_windows_.emplace(files);
  shared_.legs.share_windows(*shared_windows_);
}

void Engine::adopt_wireguard_routes(std::span<const omerta_leg> routes) {
  shared_.wireguard.adopt(routes, boot_clock());
}

void Engine::add_wireguard_carried(std::span<const omerta_leg> ended) {
  relay::Accounts& accounts = shared_.legs.accounts();
  for (const omerta_leg& route : ended) accounts.check(route);
  shared_.wireguard.add_carried(ended, accounts);
}

void Engine::share_accounts(const relay::AccountFiles& files) {
  if (shared_accounts_.has_value()) throw std::logic_error("accounts are shared already");
  shared_accounts_.emplace(files, settings_.accounts);
  shared_.legs.share_accounts(shared_accounts_->memory());
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

void Engine::set_ports(std::span<const omerta_address> ports) {
  const std::lock_guard lock(port_mutex_);
  shared_.extra_ports.set(ports, socket_options());
}

void Engine::send_probe(const session::PathProbe& probe) {
  const uint32_t port = probe.to.local.port;
  const bool can = !sockets_.empty() && (port == 0 || shared_.extra_ports.find(port).socket != nullptr);
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

void Engine::set_wireguard_bindings(std::span<const omerta_wireguard_binding> bindings) {
  if (bindings.size() > (shared_.wireguard.enabled() ? OMERTA_WIREGUARD_BINDINGS : 0))
    throw std::out_of_range("bindings: " + std::to_string(bindings.size()) + " given, at most " +
                            std::to_string(shared_.wireguard.enabled() ? OMERTA_WIREGUARD_BINDINGS : 0) +
                            " are possible");
  relay::Accounts& accounts = shared_.legs.accounts();
  const auto key_of = [](const omerta_wireguard_binding& b) { return load<Key32>(b.public_key); };
  for (const omerta_wireguard_binding& binding : bindings) {
    omerta_leg charged{};
    charged.identity = binding.identity;
    charged.network = binding.network;
    charged.limits = binding.limits;
    accounts.check(charged);
  }
  wireguard_numbers_.resize(OMERTA_WIREGUARD_BINDINGS);
  for (size_t number = 0; number < wireguard_numbers_.size(); number++) {
    auto& held = wireguard_numbers_[number];
    const auto is_held = [&](const omerta_wireguard_binding& b) { return key_of(b) == held; };
    if (!held.has_value() || std::ranges::any_of(bindings, is_held)) continue;
    shared_.wireguard.unbind(number, accounts);
    held.reset();
  }
  wireguard_order_.clear();
  for (const omerta_wireguard_binding& binding : bindings) {
    const Key32 key = key_of(binding);
    auto place = std::ranges::find(wireguard_numbers_, std::optional(key));
    if (place == wireguard_numbers_.end())
      place = std::ranges::find(wireguard_numbers_, std::optional<Key32>());
    *place = key;
    const auto number = static_cast<size_t>(place - wireguard_numbers_.begin());
    shared_.wireguard.bind(number, binding, boot_clock(), accounts);
    wireguard_order_.push_back(number);
  }
}

std::vector<relay::WireguardTable::Usage> Engine::wireguard_usage() const {
  std::vector<relay::WireguardTable::Usage> usage;
  for (const size_t number : wireguard_order_) usage.push_back(shared_.wireguard.usage(number));
  return usage;
}

std::optional<session::Endpoint> Engine::endpoint_of_leg(uint32_t id) const {
  omerta_leg leg;
  return shared_.legs.find(id, leg) ? way_back_of(leg) : std::nullopt;
}

}  // namespace omerta::engine
