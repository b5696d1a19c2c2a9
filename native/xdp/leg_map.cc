// SPDX-License-Identifier: Apache-2.0
#include "xdp/leg_map.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <atomic>
#include <string>

#include <omerta/xdp_maps.h>
#include "relay/leg_entry.h"
#include "xdp/map_facts.h"
#include "xdp/xdp_error.h"

namespace omerta::xdp {
namespace {

/// Copies an entry from word `first` on; its policy is this thread's, and its counters change under the copy.
void copy(omerta_leg& entry, omerta_leg& out, size_t first = 0) {
  auto* to = reinterpret_cast<__u64*>(&out);
  for (size_t i = first; i < relay::kLegWords; i++)
    to[i] = relay::word_of(entry, i).load(std::memory_order_relaxed);
  to[0] &= OMERTA_LEG_POLICY_BITS;
}

bool in_use(omerta_leg& entry) {
  return (relay::word_of(entry, 0).load(std::memory_order_relaxed) & OMERTA_LEG_ACTION_BITS) != 0;
}

/// Whether a daemon died while it wrote the entry.
bool is_torn(omerta_leg& entry) {
  return (relay::word_of(entry, 0).load(std::memory_order_relaxed) & OMERTA_LEG_WRITING_BIT) != 0;
}

template <class Value>
SharedMapping mapped(int fd, const char* what) {
  try {
    return {fd, capacity_of(fd) * sizeof(Value), what};
  } catch (const std::system_error& error) {
    throw XdpError(XdpError::Code::failed, std::string("map ") + what,
                   static_cast<uint64_t>(error.code().value()));
  }
}

}  // namespace

FormerLegs::FormerLegs(int fd) : fd_(fd) {
  if (map_facts(fd).type != BPF_MAP_TYPE_ARRAY) return;
  memory_.emplace(mapped<omerta_leg>(fd, "legs"));
  slots_ = capacity_of(fd);
}

bool FormerLegs::readable(int fd) {
  const bpf_map_info info = map_facts(fd);
  // Every layout so far has a leg's counters in the same place.
  return has_sizes(fd, 4, sizeof(omerta_leg)) &&
         (info.type == BPF_MAP_TYPE_HASH ||
          (info.type == BPF_MAP_TYPE_ARRAY && (info.map_flags & BPF_F_MMAPABLE) != 0));
}

bool FormerLegs::find(uint32_t id, omerta_leg& out) const {
  if (slots_ == 0) return bpf_map_lookup_elem(fd_, &id, &out) == 0;
  auto* entries = memory_->as<omerta_leg>();
  const auto slot = relay::slot_of(entries, slots_, OMERTA_XDP_REACH, id);
  if (!slot.has_value() || is_torn(entries[*slot])) return false;
  copy(entries[*slot], out);
  return true;
}

LegMap::LegMap(RelayProgram& program)
    : memory_(mapped<omerta_leg>(program.legs_fd(), "legs")),
      entries_(memory_.as<omerta_leg>()),
      window_memory_(mapped<omerta_leg_window>(program.windows_fd(), "windows")),
      windows_(window_memory_.as<omerta_leg_window>()),
      slots_(capacity_of(program.legs_fd())),
      reach_(program.settings().reach) {
  uint32_t reach = 0;
  for (uint32_t slot = 0; slot < slots_; slot++) {
    if (is_torn(entries_[slot])) relay::publish_leg(entries_[slot], omerta_leg{}, relay::kLegPolicyWords);
    if (in_use(entries_[slot]))
      reach = std::max(reach, omerta_leg_distance(slot, entries_[slot].leg_id, slots_));
  }
  reach_ = std::min(reach, OMERTA_XDP_REACH);
  free_windows();
}

/// A daemon may have died while it was at a window: whoever holds one lets go of it within microseconds.
void LegMap::free_windows() const {
  constexpr int kPatience = 10'000;
  for (uint32_t slot = 0; slot < slots_; slot++) {
    const std::atomic_ref lock(windows_[slot].lock);
    int looks = 0;
    while (lock.load(std::memory_order_relaxed) != 0 && ++looks < kPatience)
      std::atomic_signal_fence(std::memory_order_seq_cst);
    if (looks == kPatience) lock.store(0, std::memory_order_release);
  }
}

std::vector<uint32_t> LegMap::install(std::span<const omerta_leg> legs) {
  std::vector<uint32_t> refused;
  for (const omerta_leg& leg : legs)
    if (!install(leg)) refused.push_back(leg.leg_id);
  return refused;
}

bool LegMap::install(const omerta_leg& leg) {
  if (const auto present = relay::slot_of(entries_, slots_, reach_, leg.leg_id); present.has_value()) {
    omerta_leg before;
    copy(entries_[*present], before);
    relay::publish_leg(entries_[*present], leg, relay::kLegPolicyWords);
    settle_moved(before, leg);
    return true;
  }
  uint32_t slot = omerta_leg_home(leg.leg_id, slots_), distance = 0;
  for (; in_use(entries_[slot]); slot = omerta_leg_slot_after(slot, slots_))
    if (++distance > std::min(OMERTA_XDP_REACH, slots_ - 1)) return false;
  omerta_leg fresh = leg, former;
  fresh.theoretical_arrival = fresh.packets = fresh.bytes = fresh.last_used = 0;
  if (former_ != nullptr && former_->find(leg.leg_id, former)) {
    fresh.theoretical_arrival = former.theoretical_arrival;
    fresh.packets = former.packets;
    fresh.bytes = former.bytes;
    fresh.last_used = former.last_used;
    continued_[leg.leg_id] = {former.packets, former.bytes};
  }
  // Before the leg can be found there, the program must look that far.
  if (distance > reach_) std::atomic_ref(reach_).store(distance, std::memory_order_relaxed);
  omerta_window_clear(&windows_[slot]);
  relay::publish_leg(entries_[slot], fresh, relay::kLegWords);
  return true;
}

void LegMap::catch_up() {
  constexpr size_t kPackets = offsetof(omerta_leg, packets) / sizeof(__u64);
  constexpr size_t kBytes = offsetof(omerta_leg, bytes) / sizeof(__u64);
  for (const auto& [id, counted] : continued_) {
    omerta_leg former;
    const auto slot = relay::slot_of(entries_, slots_, reach_, id);
    if (!slot.has_value() || !former_->find(id, former)) continue;
    relay::word_of(entries_[*slot], kPackets)
        .fetch_add(former.packets - counted.packets, std::memory_order_relaxed);
    relay::word_of(entries_[*slot], kBytes)
        .fetch_add(former.bytes - counted.bytes, std::memory_order_relaxed);
  }
  continued_ = {};
  former_ = nullptr;
}

/// What a leg carried so far was its former accounts'.
void LegMap::settle_moved(const omerta_leg& from, const omerta_leg& to) const {
  if (!settle_ || (from.identity == to.identity && from.network == to.network)) return;
  omerta_leg moved = from;
  moved.identity = to.identity;
  moved.network = to.network;
  settle_(from, 1);
  settle_(moved, -1);
}

/// A frame on its way may still be counted on the entry: its counters are read when none can begin.
void LegMap::remove_at(uint32_t slot) {
  omerta_leg leg;
  copy(entries_[slot], leg);
  relay::publish_leg(entries_[slot], omerta_leg{}, relay::kLegPolicyWords);
  copy(entries_[slot], leg, relay::kLegPolicyWords);
  if (settle_) settle_(leg, 1);
}

void LegMap::remove(std::span<const uint32_t> ids) {
  for (const uint32_t id : ids)
    if (const auto slot = relay::slot_of(entries_, slots_, reach_, id); slot.has_value()) remove_at(*slot);
}

bool LegMap::find(uint32_t id, omerta_leg& out) const {
  const auto slot = relay::slot_of(entries_, slots_, reach_, id);
  if (slot.has_value()) copy(entries_[*slot], out);
  return slot.has_value();
}

size_t LegMap::keep_only(const std::vector<uint32_t>& ids) {
  size_t removed = 0;
  for (uint32_t slot = 0; slot < slots_; slot++) {
    if (!in_use(entries_[slot]) || std::binary_search(ids.begin(), ids.end(), entries_[slot].leg_id))
      continue;
    remove_at(slot);
    removed++;
  }
  return removed;
}

void LegMap::for_each(const std::function<void(const omerta_leg&)>& visit) const {
  for (uint32_t slot = 0; slot < slots_; slot++) {
    if (!in_use(entries_[slot])) continue;
    omerta_leg leg;
    copy(entries_[slot], leg);
    visit(leg);
  }
}

}  // namespace omerta::xdp
