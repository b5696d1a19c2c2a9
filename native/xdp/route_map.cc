// SPDX-License-Identifier: Apache-2.0
#include "xdp/route_map.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace omerta::xdp {
namespace {

using Key = omerta_wireguard_route_key;

constexpr size_t kPolicyBytes = offsetof(omerta_leg, theoretical_arrival);

Key key_of(const omerta_leg& route) {
  Key key{};
  key.receiver_index = route.leg_id;
  key.source_port = route.source_port;
  std::memcpy(key.source_ip, route.source_ip, sizeof key.source_ip);
  return key;
}

bool before(const Key& a, const Key& b) { return std::memcmp(&a, &b, sizeof a) < 0; }

std::vector<Key> keys_of(int fd) {
  std::vector<Key> keys;
  Key key;
  for (const Key* from = nullptr; bpf_map_get_next_key(fd, from, &key) == 0; from = &keys.back())
    keys.push_back(key);
  return keys;
}

}  // namespace

std::vector<omerta_leg> RouteMap::replace(std::span<const omerta_leg> routes) {
  std::vector<omerta_leg> ended;
  std::vector<Key> wanted;
  for (const omerta_leg& route : routes) wanted.push_back(key_of(route));
  std::ranges::sort(wanted, before);
  for (const Key& key : keys_of(fd_)) {
    omerta_leg route;
    if (!std::ranges::binary_search(wanted, key, before) &&
        bpf_map_lookup_and_delete_elem(fd_, &key, &route) == 0)
      ended.push_back(route);
  }
  for (const omerta_leg& route : routes) {
    const Key key = key_of(route);
    omerta_leg present{};
    const bool known = bpf_map_lookup_elem(fd_, &key, &present) == 0;
    if (known && std::memcmp(&present, &route, kPolicyBytes) == 0) continue;
    if (known && (present.identity != route.identity || present.network != route.network)) {
      ended.push_back(present);  // what it carried so far was the former accounts'
      present = {};
    }
    // What is counted between the two calls is lost, as with a leg.
    std::memcpy(static_cast<void*>(&present), &route, kPolicyBytes);
    add(present);
  }
  return ended;
}

bool RouteMap::add(const omerta_leg& route) {
  const Key key = key_of(route);
  return bpf_map_update_elem(fd_, &key, &route, BPF_ANY) == 0;
}

std::vector<omerta_leg> RouteMap::all() const {
  std::vector<omerta_leg> found;
  for (const Key& key : keys_of(fd_)) {
    omerta_leg route;
    if (bpf_map_lookup_elem(fd_, &key, &route) == 0) found.push_back(route);
  }
  return found;
}

}  // namespace omerta::xdp
