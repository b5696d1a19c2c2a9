// SPDX-License-Identifier: Apache-2.0
#include "xdp/xdp_relay.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <ifaddrs.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <omerta/door.h>
#include <omerta/xdp_maps.h>
#include "common/clock.h"
#include "xdp/loopback_forwarding.h"
#include "xdp/map_facts.h"
#include "xdp/self_test.h"

namespace omerta::xdp {
namespace {

omerta_budget budget(uint64_t per_second, uint64_t burst) {
  const uint64_t interval = std::max<uint64_t>(1, kSecond / std::max<uint64_t>(1, per_second));
  return {interval, interval * burst};
}

void fill_random(__u64 (&words)[2]) {
  if (getrandom(words, sizeof words, 0) != sizeof words)
    throw XdpError(XdpError::Code::failed, "getrandom", static_cast<uint64_t>(errno));
}

/// The state an earlier daemon left; zero when there is none.
omerta_xdp_state read_state(int fd) {
  omerta_xdp_state state{};
  const uint32_t zero = 0;
  if (fd < 0 || bpf_map_lookup_elem(fd, &zero, &state) != 0) return {};
  return state;
}

bool are_routes(int fd) { return has_sizes(fd, sizeof(omerta_wireguard_route_key), sizeof(omerta_leg)); }

void write_state(int fd, const omerta_xdp_state& state) {
  const uint32_t zero = 0;
  if (bpf_map_update_elem(fd, &zero, &state, BPF_ANY) != 0)
    throw XdpError(XdpError::Code::failed, "map state", static_cast<uint64_t>(errno));
}

/// IPv4 in its canonical form.
void mapped(const void* v4, uint8_t out[16]) {
  std::memset(out, 0, 10);
  out[10] = out[11] = 0xff;
  std::memcpy(out + 12, v4, 4);
}

void canonical(const sockaddr* address, uint8_t out[16]) {
  if (address->sa_family == AF_INET)
    mapped(reinterpret_cast<const uint8_t*>(address) + offsetof(sockaddr_in, sin_addr), out);
  else
    std::memcpy(out, reinterpret_cast<const uint8_t*>(address) + offsetof(sockaddr_in6, sin6_addr), 16);
}

bool is_loopback(const uint8_t ip[16]) {
  static const uint8_t v6[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return (is_v4(ip) && ip[12] == 127) || std::memcmp(ip, v6, 16) == 0;
}

bool is_link_local(const uint8_t ip[16]) {
  return is_v4(ip) ? ip[12] == 169 && ip[13] == 254 : ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

/// What the self-test says is of this kernel and this program: one that passed is not run again in a process.
int tested_packets() {
  static const int packets = self_test();
  return packets;
}

/// Until no CPU is in a program that was replaced before: the kernel waits for an RCU grace period here.
/// Where it refuses (nohz_full), a frame that is with one right now is not counted.
void wait_for_running_programs() { syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0); }

/// The one address the relay is bound to; false when it is bound to all of them.
bool bound_address(const std::string& bind, uint8_t out[16]) {
  in_addr v4{};
  if (inet_pton(AF_INET, bind.c_str(), &v4) == 1)
    mapped(&v4, out);
  else if (inet_pton(AF_INET6, bind.c_str(), out) != 1)
    return false;
  static const uint8_t any4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, any6[16] = {};
  return std::memcmp(out, any4, 16) != 0 && std::memcmp(out, any6, 16) != 0;
}

}  // namespace

XdpRelay::XdpRelay(const RelaySettings& settings) : settings_(settings), pins_(settings.port) {
  self_test_packets_ = tested_packets();
  pins_.create();
  open_maps();
  omerta_xdp_settings& shared = program_->settings();
  fill_random(shared.secret);
  fill_random(door_->as<omerta_door>()->secret);
  const StrangerLimits& strangers = settings.strangers;
  for (size_t kind = 0; kind < OMERTA_STRANGER_KINDS; kind++) {
    shared.prefix[kind] = budget(strangers.prefix_per_second, strangers.prefix_burst);
    shared.total[kind] = budget(strangers.total_per_second, strangers.total_burst);
    shared.known[kind] = budget(strangers.known_per_second, strangers.known_burst);
  }
  // Frames of circuits, not knocks at the door.
  shared.known[OMERTA_STRANGER_LEG] = shared.total[OMERTA_STRANGER_LEG];
  for (const std::string& interface : settings.interfaces)
    attachments_.emplace_back(interface, settings.mode);
}

XdpRelay::~XdpRelay() = default;

/// Takes over the pinned maps of this layout; of others the counters, and legs until the program is replaced.
void XdpRelay::open_maps() {
  FileDescriptor legs = pins_.open("legs"), counters = pins_.open("counters"), state = pins_.open("state"),
                 remotes = pins_.open("remotes"), routes = pins_.open("routes"),
                 windows = pins_.open("windows");
  const bool adoptable = legs && counters && state && has_sizes(legs.get(), 4, sizeof(omerta_leg)) &&
                         has_sizes(counters.get(), 4, sizeof(omerta_xdp_counters)) &&
                         has_sizes(state.get(), 4, sizeof(omerta_xdp_state)) &&
                         read_state(state.get()).layout == OMERTA_XDP_LAYOUT;
  uint32_t flags = read_state(state.get()).flags;
  const bool roomy = adoptable && capacity_of(legs.get()) >= settings_.max_legs;
  // What the legs there have let through: without it, whatever was overheard could be sent once more.
  const bool remembers = roomy && windows && has_sizes(windows.get(), 4, sizeof(omerta_leg_window)) &&
                         capacity_of(windows.get()) == capacity_of(legs.get());
  if (legs && !roomy) former_legs_file_ = std::move(legs);
  const bool roomy_routes =
      adoptable && routes && are_routes(routes.get()) && capacity_of(routes.get()) >= settings_.max_routes;
  FileDescriptor former_routes;
  if (routes && !roomy_routes) former_routes = std::move(routes);
  FileDescriptor counted = adoptable ? std::move(counters) : FileDescriptor();
  for (const std::string& folder : pins_.foreign_layouts()) {
    flags |= read_state(open_pin(folder + "/state").get()).flags;
    if (!former_legs_file_) former_legs_file_ = open_pin(folder + "/legs");
    if (!former_routes) former_routes = open_pin(folder + "/routes");
    if (!counted) counted = open_pin(folder + "/counters");
  }
  // Every layout so far has them alike.
  if (!has_sizes(counted.get(), 4, sizeof(omerta_xdp_counters))) counted.reset();
  program_ = std::make_unique<RelayProgram>(RelayProgram::Options{
      .port = settings_.port,
      .max_legs = settings_.max_legs,
      .max_routes = settings_.max_routes,
      .index_slots = settings_.index_slots,
      .accounts = settings_.accounts,
      .legs_fd = roomy ? legs.get() : -1,
      .windows_fd = remembers ? windows.get() : -1,
      .routes_fd = roomy_routes ? routes.get() : -1,
      .counters_fd = counted.get(),
      .state_fd = adoptable ? state.get() : -1,
      .remotes_fd = adoptable && remotes ? remotes.get() : -1,
  });
  accounts_.emplace(program_->account_files(), settings_.accounts);
  legs_ = std::make_unique<LegMap>(*program_);
  door_.emplace(program_->door_fd(), sizeof(omerta_door), "map door");
  if (former_legs_file_ && FormerLegs::readable(former_legs_file_.get()))
    legs_->continue_from(&former_legs_.emplace(former_legs_file_.get()));
  routes_.emplace(program_->routes_fd());
  if (former_routes && are_routes(former_routes.get()))
    for (const omerta_leg& route : RouteMap(former_routes.get()).all()) routes_->add(route);
  write_state(program_->state_fd(), {OMERTA_XDP_LAYOUT, flags});
  if (roomy) legs_->for_each([this](const omerta_leg&) { adopted_legs_++; });
  if (!adoptable) pins_.pin(program_->counters_fd(), "counters");
  if (!adoptable) pins_.pin(program_->state_fd(), "state");
  if (!adoptable || !remotes) pins_.pin(program_->remotes_fd(), "remotes");
}

void XdpRelay::install_legs(std::vector<omerta_leg> legs) {
  const Nanoseconds now = boot_clock();
  for (omerta_leg& leg : legs) {
    if (leg.expires_at != 0) leg.expires_at += now;
    if (!active_) installed_.push_back(leg.leg_id);
    // Who had a leg at an earlier daemon comes again in the middle of whatever flood there is.
    if ((leg.flags & OMERTA_LEG_ANY_SOURCE) == 0 && leg.source_port != 0)
      omerta_know(door_->as<omerta_door>(), leg.source_ip, now);
  }
  install_absolute(legs);
}

/// Until the map is complete, frames on legs it does not know pass.
void XdpRelay::install_absolute(std::span<const omerta_leg> legs) {
  for (const omerta_leg& leg : legs) missing_.erase(leg.leg_id);
  const std::vector<uint32_t> refused = legs_->install(legs);
  auto next = refused.begin();  // they come in the same order
  for (const omerta_leg& leg : legs)
    if (next != refused.end() && *next == leg.leg_id) missing_[*next++] = leg;
  program_->settings().complete = active_ && missing_.empty() ? 1 : 0;
}

void XdpRelay::retry_missing() {
  std::vector<omerta_leg> again;
  for (const auto& [id, leg] : missing_) again.push_back(leg);
  install_absolute(again);
}

void XdpRelay::remove_legs(std::span<const uint32_t> ids) {
  legs_->remove(ids);
  if (missing_.empty()) return;
  for (const uint32_t id : ids) missing_.erase(id);
  retry_missing();
}

void XdpRelay::activate() {
  std::sort(installed_.begin(), installed_.end());
  removed_legs_ = legs_->keep_only(installed_);
  installed_ = {};
  active_ = true;
  // Until now legs named the accounts of an earlier daemon.
  legs_->on_settle([this](const omerta_leg& leg, int sign) { settle(leg, sign); });
  retry_missing();
  set_own_addresses();
  enable_forwarding();
  pins_.pin(program_->fd(), "program");
  pins_.pin(program_->legs_fd(), "legs");
  pins_.pin(program_->windows_fd(), "windows");
  pins_.pin(program_->routes_fd(), "routes");
  std::vector<uint32_t> all;
  for (const std::string& name : settings_.interfaces)
    if (const uint32_t index = if_nametoindex(name.c_str()); index != 0) all.push_back(index);
  set_devices(all);  // before a frame can want to leave by one of them
  for (Attachment& attachment : attachments_) attachment.attach(program_->fd(), pins_);
  const std::vector<uint32_t> present = attached();
  for (const uint32_t interface : pins_.links())
    if (std::find(present.begin(), present.end(), interface) == present.end()) pins_.drop_link(interface);
  set_devices(redirect_targets());
  if (former_legs_.has_value()) wait_for_running_programs();
  legs_->catch_up();
  for (const std::string& folder : pins_.foreign_layouts()) pins_.remove_layout(folder);
  former_legs_.reset();
  former_legs_file_.reset();
}

/// As relay::Accounts::settle, in the memory both engines share.
void XdpRelay::settle(const omerta_leg& leg, int sign) {
  if (leg.identity >= settings_.accounts.identities || leg.network >= settings_.accounts.networks) return;
  const relay::Accounts::Memory memory = accounts_->memory();
  for (omerta_account* account : {&memory.identities[leg.identity], &memory.networks[leg.network]}) {
    OMERTA_WRITE(&account->packets, account->packets + (sign < 0 ? -leg.packets : leg.packets));
    OMERTA_WRITE(&account->bytes, account->bytes + (sign < 0 ? -leg.bytes : leg.bytes));
  }
}

void XdpRelay::check(Nanoseconds now) {
  set_own_addresses();
  enable_forwarding();
  const omerta_xdp_counters counters = program_->counters();
  const uint64_t forwarded =
      counters.others[OMERTA_XDP_FORWARDED_PACKETS] + counters.others[OMERTA_XDP_WIREGUARD_RELAYED_PACKETS];
  for (Attachment& attachment : attachments_) attachment.check(program_->fd(), pins_, forwarded, now);
  set_devices(redirect_targets());
}

/// What is switched on here is remembered with the maps, to be switched off when they go.
void XdpRelay::enable_forwarding() {
  const uint32_t changed = enable_loopback_forwarding();
  if (changed == 0) return;
  const uint32_t flags = read_state(program_->state_fd()).flags | changed;
  write_state(program_->state_fd(), {OMERTA_XDP_LAYOUT, flags});
}

bool XdpRelay::forwarding_enabled() const {
  const LoopbackForwarding on = loopback_forwarding();
  return on.ipv4 && on.ipv6;
}

std::vector<Attachment::Status> XdpRelay::interfaces() const {
  std::vector<Attachment::Status> list;
  for (const Attachment& attachment : attachments_) list.push_back(attachment.status());
  return list;
}

/// Datagrams for other addresses belong to another host or program, even with our port.
void XdpRelay::set_own_addresses() {
  omerta_xdp_settings& shared = program_->settings();
  uint8_t bound[16];
  const bool is_bound = bound_address(settings_.bind, bound);
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return;  // those of before
  uint32_t count = 0;
  std::vector<omerta_own_address> sources[2];
  for (const ifaddrs* at = list; at != nullptr && count < OMERTA_OWN_ADDRESSES; at = at->ifa_next) {
    if (at->ifa_addr == nullptr ||
        (at->ifa_addr->sa_family != AF_INET && at->ifa_addr->sa_family != AF_INET6))
      continue;
    omerta_own_address own;
    canonical(at->ifa_addr, own.ip);
    if (is_loopback(own.ip) || (is_bound && std::memcmp(own.ip, bound, 16) != 0)) continue;
    // A reader may see half of an address that changes: it then matches nothing for a moment.
    if (std::memcmp(&shared.own[count], &own, 16) != 0) shared.own[count] = own;
    count++;
    if (!is_link_local(own.ip)) sources[is_v4(own.ip) ? 0 : 1].push_back(own);
  }
  freeifaddrs(list);
  const auto only = [](const std::vector<omerta_own_address>& all) {
    return all.size() == 1 ? all[0] : omerta_own_address{};
  };
  shared.own_count = count;
  shared.only4 = only(sources[0]);
  shared.only6 = only(sources[1]);
  shared.several4 = sources[0].size() > 1 ? 1 : 0;
  shared.several6 = sources[1].size() > 1 ? 1 : 0;
}

std::vector<uint32_t> XdpRelay::attached() const {
  std::vector<uint32_t> indices;
  for (const Attachment& attachment : attachments_)
    if (attachment.status().attached) indices.push_back(attachment.status().index);
  return indices;
}

std::vector<uint32_t> XdpRelay::redirect_targets() const {
  std::vector<uint32_t> indices;
  for (const Attachment& attachment : attachments_)
    if (const Attachment::Status& status = attachment.status(); status.attached && status.takes_redirected)
      indices.push_back(status.index);
  return indices;
}

/// Frames that came in elsewhere may leave by these interfaces, and by no other.
void XdpRelay::set_devices(const std::vector<uint32_t>& wanted) {
  uint32_t key = 0;
  std::vector<uint32_t> present;
  for (uint32_t* from = nullptr; bpf_map_get_next_key(program_->devices_fd(), from, &key) == 0; from = &key)
    present.push_back(key);
  for (const uint32_t index : present)
    if (std::find(wanted.begin(), wanted.end(), index) == wanted.end())
      bpf_map_delete_elem(program_->devices_fd(), &index);
  for (const uint32_t index : wanted)
    if (std::find(present.begin(), present.end(), index) == present.end())
      bpf_map_update_elem(program_->devices_fd(), &index, &index, BPF_ANY);
}

void XdpRelay::close(bool unload_pins) {
  attachments_.clear();
  if (unload_pins) unload(settings_.port);
  legs_.reset();
  door_.reset();
  routes_.reset();
  accounts_.reset();
  program_.reset();
}

bool is_loaded(uint16_t port) { return Pins(port).exist(); }

bool unload(uint16_t port) {
  const Pins pins(port);
  if (!pins.exist()) return false;
  uint32_t flags = read_state(pins.open("state").get()).flags;
  for (const std::string& folder : pins.foreign_layouts())
    flags |= read_state(open_pin(folder + "/state").get()).flags;
  pins.remove();
  disable_loopback_forwarding(flags);
  return true;
}

}  // namespace omerta::xdp
