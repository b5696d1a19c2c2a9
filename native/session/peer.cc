// SPDX-License-Identifier: Apache-2.0
#include "session/peer.h"

namespace omerta::session {

bool Peer::set_endpoint(const Endpoint& endpoint) {
  if (pinned()) return false;
  endpoint_lock_.lock();
  const bool changed = !pinned() && !endpoint_.read().same_path(endpoint);
  if (!pinned()) endpoint_.write(endpoint);
  endpoint_lock_.unlock();
  return changed;
}

void Peer::reach(const Endpoint& endpoint, bool pinned) {
  endpoint_lock_.lock();
  pinned_.store(pinned, std::memory_order_relaxed);
  endpoint_.write(endpoint);
  endpoint_lock_.unlock();
}

void Peer::pin(const Endpoint& endpoint) { reach(endpoint, true); }

void Peer::let_go(const Endpoint& endpoint) { reach(endpoint, false); }

void Peer::forget_source(const Endpoint& endpoint) {
  if (pinned()) return;
  endpoint_lock_.lock();
  Endpoint present = endpoint_.read();
  if (!pinned() && present.same_path(endpoint)) {
    present.local = {};
    endpoint_.write(present);
  }
  endpoint_lock_.unlock();
}

}  // namespace omerta::session
