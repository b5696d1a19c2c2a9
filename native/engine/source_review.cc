// SPDX-License-Identifier: Apache-2.0
#include "engine/source_review.h"

#include <array>
#include <cstring>
#include <set>
#include <vector>

namespace omerta::engine {
namespace {

using Path = std::array<uint8_t, sizeof(omerta_address) + sizeof(LocalAddress::ip)>;

Path path_of(const session::Endpoint& endpoint) {
  Path path;
  std::memcpy(path.data(), &endpoint.remote, sizeof endpoint.remote);
  std::memcpy(path.data() + sizeof endpoint.remote, endpoint.local.ip, sizeof endpoint.local.ip);
  return path;
}

bool sticks(const session::Endpoint& endpoint) { return !endpoint.relayed() && endpoint.local.known(); }

}  // namespace

void forget_moved_sources(session::SessionTable& sessions, const udp::RouteWatch::Moved& moved) {
  std::vector<session::Endpoint> sticky;
  sessions.for_each([&](session::Peer& peer) {
    if (const session::Endpoint endpoint = peer.endpoint(); sticks(endpoint)) sticky.push_back(endpoint);
  });
  // The kernel is asked without the session table's lock.
  std::set<Path> gone;
  for (const session::Endpoint& endpoint : sticky)
    if (moved(endpoint.remote, endpoint.local)) gone.insert(path_of(endpoint));
  if (gone.empty()) return;
  sessions.for_each([&](session::Peer& peer) {
    const session::Endpoint endpoint = peer.endpoint();
    if (sticks(endpoint) && gone.contains(path_of(endpoint))) peer.forget_source(endpoint);
  });
}

}  // namespace omerta::engine
