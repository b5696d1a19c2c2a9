// SPDX-License-Identifier: Apache-2.0
#include "session/session_table.h"

#include "session/witness.h"

#include <algorithm>

namespace omerta::session {
namespace {

PrefixBuckets::SecretKey random_key(const SessionEnvironment& environment) {
  PrefixBuckets::SecretKey key{};
  environment.random(std::span(reinterpret_cast<uint8_t*>(&key), sizeof key));
  return key;
}

}  // namespace

SessionTable::SessionTable(const Key32& private_key, size_t max_peers, size_t workers,
                           SessionEnvironment environment)
    : local_(private_key),
      max_peers_(max_peers),
      environment_(std::move(environment)),
      aead_(environment_.aead),
      qsbr_(workers),
      routes_(qsbr_),
      exit_rules_(new ExitRules({})),
      indices_(qsbr_),
      handshake_budget_(kHandshakesPerSecond, kHandshakeBurst),
      source_budget_(kSourceHandshakesPerSecond, kSourceHandshakeBurst, {32, 64}, random_key(environment_)) {}

SessionTable::~SessionTable() {
  for (auto& [key, peer] : peers_) drop_keys(*peer);
  delete exit_rules_.load(std::memory_order_relaxed);
}

Peer* SessionTable::find_peer(const Key32& key) {
  const auto found = peers_.find(key);
  return found == peers_.end() ? nullptr : found->second.get();
}

size_t SessionTable::size() {
  const std::lock_guard lock(mutex_);
  return peers_.size();
}

bool SessionTable::has_peer(const Key32& key) {
  const std::lock_guard lock(mutex_);
  return find_peer(key) != nullptr;
}

void SessionTable::for_each(const std::function<void(Peer&)>& visit) {
  const std::lock_guard lock(mutex_);
  std::vector<Peer*> ordered;
  ordered.reserve(peers_.size());
  for (auto& [key, peer] : peers_) ordered.push_back(peer.get());
  std::ranges::sort(ordered, {}, &Peer::sequence);
  for (Peer* peer : ordered) visit(*peer);
}

void SessionTable::reclaim() {
  const std::lock_guard lock(mutex_);
  qsbr_.reclaim();
}

void SessionTable::use_aead(const crypto::AeadChoice& choice) {
  const std::lock_guard lock(mutex_);
  aead_ = crypto::Aead(choice);
}

std::optional<Nanoseconds> SessionTable::last_handshake(const Key32& key) {
  const std::lock_guard lock(mutex_);
  const Peer* peer = find_peer(key);
  if (peer == nullptr) return std::nullopt;
  return peer->last_handshake.load(std::memory_order_relaxed);
}

std::optional<SessionTable::LostBursts> SessionTable::give_up_bursts(const Key32& key, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  Peer* peer = find_peer(key);
  if (peer == nullptr) return std::nullopt;
  return LostBursts{witness_of(peer->endpoint(), key), peer->bursts.give_up(now)};
}

void SessionTable::mirror_indices(uint64_t* words) {
  const std::lock_guard lock(mutex_);
  indices_.mirror(words, static_cast<uint32_t>(index_slots() - 1));
}

/// Tells that the peer has moved, or has it told when that was told a moment ago: whoever lets packets come
/// from here and there in turns causes no event for each. false: the peer's timers are to be armed for it.
bool SessionTable::tell_moved(Peer& peer, Nanoseconds now, SessionOutput& out) {
  Nanoseconds told = peer.endpoint_told.load(std::memory_order_relaxed);
  if ((told == 0 || now >= told + kEndpointInterval) &&
      peer.endpoint_told.compare_exchange_strong(told, now, std::memory_order_relaxed)) {
    out.endpoint_changed(peer);
    return true;
  }
  return peer.endpoint_untold.exchange(true, std::memory_order_relaxed);
}

/// The first packet under the keys of a handshake this node answered: they are sent with from now on.
void SessionTable::confirm(Keypair& keypair, const Endpoint& from, Nanoseconds now, SessionOutput& out) {
  Peer& peer = keypair.peer;
  const std::lock_guard lock(mutex_);
  if (peer.next.load(std::memory_order_relaxed) != &keypair) return;
  const Keypair* current = peer.current.load(std::memory_order_relaxed);
  if (current != nullptr && current->id > keypair.id) {
    // A handshake of this node's was complete meanwhile: its keys are the newer ones.
    discard(peer.previous.exchange(&keypair));
    peer.next.store(nullptr, std::memory_order_release);
    return;
  }
  discard(peer.previous.exchange(peer.current.exchange(&keypair)));
  peer.next.store(nullptr, std::memory_order_release);
  peer.retry_armed = false;
  peer.last_handshake_wall = environment_.wall_clock();
  out.session_established(peer, peer.pinned() ? from : peer.endpoint());
  flush_staged(peer, now, out);
  arm(peer, now);
}

void SessionTable::authenticated(Keypair& keypair, const Endpoint& from, Nanoseconds now,
                                 SessionOutput& out) {
  Peer& peer = keypair.peer;
  note_received(peer, now);
  const bool moved = !peer.endpoint().same_path(from) && peer.set_endpoint(from);
  if (peer.next.load(std::memory_order_acquire) == &keypair) confirm(keypair, from, now, out);
  if (moved && !tell_moved(peer, now, out)) {
    const std::lock_guard lock(mutex_);
    if (!peer.removed) arm(peer, now);
  }
  if (keypair.initiator && now - keypair.created >= kRekeyAfterTimeReceiving) renew(peer, now, out);
}

}  // namespace omerta::session
