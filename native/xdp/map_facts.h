// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of a BPF map.
#pragma once

#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <cstdint>

namespace omerta::xdp {

/// Zero for what is no map.
inline bpf_map_info map_facts(int fd) {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info : bpf_map_info{};
}

/// Entries a map has room for.
inline uint32_t capacity_of(int fd) { return map_facts(fd).max_entries; }

inline bool has_sizes(int fd, uint32_t key_size, uint32_t value_size) {
  const bpf_map_info info = map_facts(fd);
  return info.key_size == key_size && info.value_size == value_size;
}

}  // namespace omerta::xdp
