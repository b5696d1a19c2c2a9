// SPDX-License-Identifier: Apache-2.0
#include "xdp/relay_program.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <string>
#include <vector>

// clang-format off
#include <omerta/xdp_maps.h>
#include "relay.skel.h"
// clang-format on

#include "xdp/map_facts.h"

namespace omerta::xdp {
namespace {

#if defined(__x86_64__) || defined(__i386__)
constexpr bool kLoadsPassLoads = false;
#else
constexpr bool kLoadsPassLoads = true;
#endif

/// Of a machine with several addresses; one it does not remember goes by the socket.
constexpr size_t kMostRemotes = 262'144;

/// What libbpf complained of last, in its own words.
thread_local std::string complaint;

int keep_complaint(libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  char text[512];
  const int size = std::vsnprintf(text, sizeof text, format, arguments);
  complaint = text;
  while (!complaint.empty() && complaint.back() == '\n') complaint.pop_back();
  return size;
}

[[noreturn]] void throw_load_error(int error) {
  if (error == EPERM)  // not EACCES: that is the verifier's answer
    throw XdpError(XdpError::Code::load_refused);
  throw XdpError(XdpError::Code::not_loaded, complaint, static_cast<uint64_t>(error));
}

void reuse(bpf_map* map, int fd) {
  if (fd >= 0 && bpf_map__reuse_fd(map, fd) != 0)
    throw XdpError(XdpError::Code::failed, std::string("map ") + bpf_map__name(map),
                   static_cast<uint64_t>(errno));
}

}  // namespace

void RelayProgram::Destroy::operator()(relay_bpf* skeleton) const { relay_bpf__destroy(skeleton); }

RelayProgram::RelayProgram(const Options& options) {
  libbpf_set_print(keep_complaint);
  complaint.clear();
  skeleton_.reset(relay_bpf__open());
  if (!skeleton_) throw_load_error(errno);
  skeleton_->rodata->relay_port = htons(options.port);
  skeleton_->rodata->use_test_clock = options.test_clock;
  const auto slots =
      options.legs_fd >= 0 ? capacity_of(options.legs_fd) : static_cast<uint32_t>(options.max_legs);
  skeleton_->rodata->leg_slots = slots;
  skeleton_->rodata->loads_pass_loads = kLoadsPassLoads;
  bpf_map__set_max_entries(skeleton_->maps.legs, slots);
  bpf_map__set_max_entries(skeleton_->maps.windows, slots);
  bpf_map__set_max_entries(skeleton_->maps.routes, static_cast<uint32_t>(options.max_routes));
  bpf_map__set_max_entries(skeleton_->maps.indices, static_cast<uint32_t>(options.index_slots));
  bpf_map__set_max_entries(skeleton_->maps.identities, static_cast<uint32_t>(options.accounts.identities));
  bpf_map__set_max_entries(skeleton_->maps.networks, static_cast<uint32_t>(options.accounts.networks));
  bpf_map__set_max_entries(skeleton_->maps.limits, static_cast<uint32_t>(options.accounts.classes));
  bpf_map__set_max_entries(skeleton_->maps.remotes,
                           static_cast<uint32_t>(std::min(options.max_legs, kMostRemotes)));
  reuse(skeleton_->maps.legs, options.legs_fd);
  reuse(skeleton_->maps.windows, options.windows_fd);
  reuse(skeleton_->maps.routes, options.routes_fd);
  reuse(skeleton_->maps.counters, options.counters_fd);
  reuse(skeleton_->maps.state, options.state_fd);
  reuse(skeleton_->maps.remotes, options.remotes_fd);
  if (const int error = relay_bpf__load(skeleton_.get()); error != 0) throw_load_error(-error);
  settings().index_mask = static_cast<uint32_t>(options.index_slots - 1);
}

RelayProgram::~RelayProgram() = default;

int RelayProgram::fd() const { return bpf_program__fd(skeleton_->progs.omerta_relay); }
int RelayProgram::legs_fd() const { return bpf_map__fd(skeleton_->maps.legs); }
int RelayProgram::windows_fd() const { return bpf_map__fd(skeleton_->maps.windows); }
int RelayProgram::routes_fd() const { return bpf_map__fd(skeleton_->maps.routes); }
int RelayProgram::counters_fd() const { return bpf_map__fd(skeleton_->maps.counters); }
int RelayProgram::state_fd() const { return bpf_map__fd(skeleton_->maps.state); }
int RelayProgram::remotes_fd() const { return bpf_map__fd(skeleton_->maps.remotes); }
int RelayProgram::devices_fd() const { return bpf_map__fd(skeleton_->maps.devices); }
int RelayProgram::indices_fd() const { return bpf_map__fd(skeleton_->maps.indices); }
int RelayProgram::expected_fd() const { return bpf_map__fd(skeleton_->maps.expected); }
int RelayProgram::door_fd() const { return bpf_map__fd(skeleton_->maps.door); }
relay::AccountFiles RelayProgram::account_files() const {
  return {bpf_map__fd(skeleton_->maps.policy),     bpf_map__fd(skeleton_->maps.limits),
          bpf_map__fd(skeleton_->maps.identities), bpf_map__fd(skeleton_->maps.networks),
          bpf_map__fd(skeleton_->maps.host),       bpf_map__fd(skeleton_->maps.prefixes)};
}
omerta_xdp_settings& RelayProgram::settings() { return skeleton_->bss->settings; }
omerta_xdp_counters RelayProgram::counters() const { return sum_counters(counters_fd()); }

uint32_t RelayProgram::id() const {
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(fd(), &info, &size) == 0 ? info.id : 0;
}

uint32_t RelayProgram::verified_instructions() const {
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(fd(), &info, &size) == 0 ? info.verified_insns : 0;
}

RunResult RelayProgram::run(const Packet& packet, uint64_t now, uint32_t interface) {
  RunResult result{0, Packet(packet.size() + 256)};
  xdp_md context{};
  context.data_end = static_cast<uint32_t>(packet.size());
  context.ingress_ifindex = interface;
  skeleton_->bss->test_clock = now;
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = packet.data();
  options.data_size_in = static_cast<uint32_t>(packet.size());
  options.data_out = result.packet.data();
  options.data_size_out = static_cast<uint32_t>(result.packet.size());
  options.ctx_in = &context;
  options.ctx_size_in = sizeof context;
  options.repeat = 1;
  if (bpf_prog_test_run_opts(fd(), &options) != 0)
    throw XdpError(XdpError::Code::not_run, {}, static_cast<uint64_t>(errno));
  result.packet.resize(options.data_size_out);
  result.action = options.retval;
  return result;
}

void RelayProgram::remember(const omerta_next_hop& hop) {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  static_assert(sizeof hop % 8 == 0, "the kernel rounds a value for one CPU up to 8 bytes");
  const std::vector<omerta_next_hop> rows(cpus, hop);
  const uint32_t slot = omerta_next_hop_slot(hop.to);
  if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.next_hops), &slot, rows.data(), BPF_ANY) != 0)
    throw XdpError(XdpError::Code::failed, "map next_hops", static_cast<uint64_t>(errno));
}

omerta_xdp_counters sum_counters(int fd) {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  std::vector<omerta_xdp_counters> rows(cpus);
  const uint32_t zero = 0;
  omerta_xdp_counters total{};
  if (bpf_map_lookup_elem(fd, &zero, rows.data()) != 0)
    throw XdpError(XdpError::Code::failed, "map counters", static_cast<uint64_t>(errno));
  for (const omerta_xdp_counters& row : rows)
    for (size_t i = 0; i < OMERTA_XDP_COUNTER_ROOM; i++) {
      total.drops[i] += row.drops[i];
      total.others[i] += row.others[i];
    }
  return total;
}

}  // namespace omerta::xdp
