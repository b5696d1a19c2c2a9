// SPDX-License-Identifier: Apache-2.0
#include "session/peer.h"

namespace omerta::session {

bool Peer::set_endpoint(const Endpoint& endpoint) {
  endpoint_lock_.lock();
  const bool changed = !endpoint_.read().same_path(endpoint);
  endpoint_.write(endpoint);
  endpoint_lock_.unlock();
  return changed;
}

void Peer::forget_source(const Endpoint& endpoint) {
  endpoint_lock_.lock();
  Endpoint present = endpoint_.read();
  if (present.same_path(endpoint)) {
    present.local = {};
    endpoint_.write(present);
  }
  endpoint_lock_.unlock();
}

}  // namespace omerta::session
