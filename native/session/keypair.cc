// SPDX-License-Identifier: Apache-2.0
#include "session/keypair.h"

#include <sodium.h>

namespace omerta::session {

Keypair::Keypair(Peer& peer_, crypto::Suite suite_, const TransportKeys& keys, const Origin& origin,
                 Keypair* first_)
    : id(origin.id),
      peer(peer_),
      send_key(suite_, keys.send, origin.id),
      receive_key(suite_, keys.receive, origin.id),
      local_index(origin.local_index),
      remote_index(origin.remote_index),
      created(origin.created),
      initiator(origin.initiator),
      first_pair(first_ != nullptr ? *first_ : *this),
      window_(origin.window) {}

Keypair::~Keypair() { sodium_memzero(suite_secret.data(), suite_secret.size()); }

bool Keypair::worn_by(size_t bytes) {
  if (suite() != crypto::Suite::aes_256_gcm) return sent() >= kRekeyAfterMessages;
  const uint64_t total = sealed_bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (total >= kRejectAfterGcmBytes) first_pair.upgrade(nullptr);
  return total >= kRekeyAfterGcmBytes;
}

}  // namespace omerta::session
