// SPDX-License-Identifier: Apache-2.0
#include "xdp/leg_map.h"

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "xdp/xdp_error.h"

namespace omerta::xdp {
namespace {

constexpr uint32_t kBatch = 4096;
/// What the control plane writes; the counters come after it.
constexpr size_t kPolicyBytes = offsetof(omerta_leg, theoretical_arrival);

void take_counters(omerta_leg& leg, const omerta_leg& from) {
  std::memcpy(reinterpret_cast<uint8_t*>(&leg) + kPolicyBytes,
              reinterpret_cast<const uint8_t*>(&from) + kPolicyBytes, sizeof leg - kPolicyBytes);
}

bool info_of(int fd, bpf_map_info& info) {
  uint32_t size = sizeof info;
  std::memset(&info, 0, sizeof info);
  return bpf_obj_get_info_by_fd(fd, &info, &size) == 0;
}

}  // namespace

bool has_sizes(int fd, uint32_t key_size, uint32_t value_size) {
  bpf_map_info info;
  return info_of(fd, info) && info.key_size == key_size && info.value_size == value_size;
}

uint32_t capacity_of(int fd) {
  bpf_map_info info;
  return info_of(fd, info) ? info.max_entries : 0;
}

std::vector<uint32_t> LegMap::install(std::span<const omerta_leg> legs) {
  std::vector<uint32_t> refused;
  std::vector<uint32_t> new_ids;
  std::vector<omerta_leg> new_legs;
  for (const omerta_leg& wanted : legs) {
    omerta_leg present;
    omerta_leg leg = wanted;
    if (bpf_map_lookup_elem(fd_, &leg.leg_id, &present) != 0) {
      std::memset(reinterpret_cast<uint8_t*>(&leg) + kPolicyBytes, 0, sizeof leg - kPolicyBytes);
      if (previous_ >= 0 && bpf_map_lookup_elem(previous_, &leg.leg_id, &present) == 0)
        take_counters(leg, present);
      new_ids.push_back(leg.leg_id);
      new_legs.push_back(leg);
    } else if (std::memcmp(&present, &leg, kPolicyBytes) != 0) {
      // At once, not with the batch: what is counted in between is lost.
      take_counters(leg, present);
      if (bpf_map_update_elem(fd_, &leg.leg_id, &leg, BPF_ANY) != 0)
        refused.push_back(leg.leg_id);
      else
        settle_moved(present, leg);
    }
  }
  for (size_t done = 0; done < new_ids.size();) {
    auto count = static_cast<uint32_t>(std::min<size_t>(kBatch, new_ids.size() - done));
    const uint32_t wanted = count;
    if (bpf_map_update_batch(fd_, &new_ids[done], &new_legs[done], &count, nullptr) == 0) count = wanted;
    done += std::min(count, wanted);
    if (count < wanted) refused.push_back(new_ids[done++]);  // the one it stopped at
  }
  return refused;
}

/// What a leg carried so far was its former accounts'.
void LegMap::settle_moved(const omerta_leg& from, const omerta_leg& to) const {
  if (!settle_ || (from.identity == to.identity && from.network == to.network)) return;
  settle_(from, 1);
  settle_(to, -1);
}

void LegMap::settle_removed(std::span<const uint32_t> ids) const {
  if (!settle_) return;
  omerta_leg leg;
  for (const uint32_t id : ids)
    if (find(id, leg)) settle_(leg, 1);
}

void LegMap::remove(std::span<const uint32_t> ids) {
  settle_removed(ids);
  for (size_t done = 0; done < ids.size();) {
    auto count = static_cast<uint32_t>(std::min<size_t>(kBatch, ids.size() - done));
    const uint32_t wanted = count;
    if (bpf_map_delete_batch(fd_, &ids[done], &count, nullptr) == 0) count = wanted;
    done += std::min(count, wanted);
    if (count < wanted) done++;  // it stops at an id it does not have
  }
}

bool LegMap::find(uint32_t id, omerta_leg& out) const { return bpf_map_lookup_elem(fd_, &id, &out) == 0; }

size_t LegMap::keep_only(const std::vector<uint32_t>& ids) {
  std::vector<uint32_t> unknown;
  for_each([&](const omerta_leg& leg) {
    if (!std::binary_search(ids.begin(), ids.end(), leg.leg_id)) unknown.push_back(leg.leg_id);
  });
  remove(unknown);
  return unknown.size();
}

void LegMap::for_each(const std::function<void(const omerta_leg&)>& visit) const {
  uint32_t size = kBatch;
  std::vector<uint32_t> keys(size);
  std::vector<omerta_leg> legs(size);
  uint32_t cursor = 0;
  bool begun = false;
  for (;;) {
    uint32_t count = size;
    const int result = bpf_map_lookup_batch(fd_, begun ? &cursor : nullptr, &cursor, keys.data(), legs.data(),
                                            &count, nullptr);
    const int error = result == 0 ? 0 : errno;
    if (error == ENOSPC) {  // a bucket holds more than there is room for
      size *= 2;
      keys.resize(size);
      legs.resize(size);
      continue;
    }
    if (error != 0 && error != ENOENT)
      throw XdpError(XdpError::Code::failed, std::string("legs: ") + std::strerror(error));
    for (uint32_t i = 0; i < count; i++) visit(legs[i]);
    if (error == ENOENT) return;
    begun = true;
  }
}

}  // namespace omerta::xdp
