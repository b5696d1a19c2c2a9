// SPDX-License-Identifier: Apache-2.0
// Who the peers are and what is set for them; who this node is; the interface going down and up.
#include <sodium.h>

#include <algorithm>
#include <utility>

#include "session/session_table.h"

namespace omerta::session {

bool SessionTable::fits(const std::vector<PeerSettings>& settings, bool replace) {
  size_t count = replace ? 0 : peers_.size();
  std::unordered_map<Key32, bool, KeyHash> present;  // of those the change names
  for (const PeerSettings& s : settings) {
    bool& there =
        present.try_emplace(s.public_key, !replace && find_peer(s.public_key) != nullptr).first->second;
    const bool after = !s.remove && (there || !s.update_only);
    count = count + (after ? 1 : 0) - (there ? 1 : 0);
    there = after;
  }
  return count <= max_peers_;
}

bool SessionTable::has_room(const std::vector<PeerSettings>& peers, bool replace) {
  const std::lock_guard lock(mutex_);
  return fits(peers, replace);
}

bool SessionTable::set_peers(const std::vector<PeerSettings>& settings, Nanoseconds now, SessionOutput& out,
                             bool replace) {
  const std::lock_guard lock(mutex_);
  if (!fits(settings, replace)) return false;
  if (replace)
    while (!peers_.empty()) remove_peer(*peers_.begin()->second);
  for (const PeerSettings& s : settings) {
    Peer* peer = find_peer(s.public_key);
    if (s.remove) {
      if (peer != nullptr) remove_peer(*peer);
    } else if (peer != nullptr || !s.update_only) {
      change_peer(peer != nullptr ? *peer : add_peer(s.public_key), s, now, out);
    }
  }
  qsbr_.reclaim();
  return true;
}

Peer& SessionTable::add_peer(const Key32& key) {
  auto created = std::make_unique<Peer>(local_, key, environment_.control_frames_per_second);
  created->sent_timestamp = removed_timestamp_;
  created->sequence = next_sequence_++;
  return *peers_.emplace(key, std::move(created)).first->second;
}

void SessionTable::change_peer(Peer& peer, const PeerSettings& settings, Nanoseconds now,
                               SessionOutput& out) {
  if (settings.preshared_key.has_value()) {
    const Key32& preshared = *settings.preshared_key;
    if (sodium_memcmp(preshared.data(), peer.remote.preshared_key.data(), preshared.size()) != 0) {
      peer.remote.preshared_key = preshared;
      if (!settings.keep_session_on_new_psk) drop_keys(peer);
    }
  }
  if (settings.replace_allowed_ips) routes_.begin_replacement();
  for (const AllowedIpChange& change : settings.allowed_ips)
    change.remove ? routes_.remove(change.prefix, peer.allowed_ips)
                  : routes_.insert(change.prefix, peer.allowed_ips);
  if (settings.replace_allowed_ips) routes_.end_replacement(peer.allowed_ips);
  if (settings.transit.has_value()) peer.transit.store(*settings.transit, std::memory_order_relaxed);
  const bool was_kept_alive = peer.persistent_keepalive != 0;
  peer.persistent_keepalive = settings.persistent_keepalive.value_or(peer.persistent_keepalive);
  if (settings.endpoint.has_value()) {
    give_endpoint(peer, *settings.endpoint, settings.redirect, now);
    flush_staged(peer, now, out);
    if (peer.handshake_wanted || !peer.staged.empty()) want_handshake(peer, now, out);
  }
  if (!was_kept_alive && peer.persistent_keepalive != 0) send_persistent_keepalive(peer, now, out);
  arm(peer, now);
}

/// What a session proved is worth more than what somebody says: its packets are not sent to whoever is at a
/// given address before a handshake there completed, unless that is what is asked for.
void SessionTable::give_endpoint(Peer& peer, const Endpoint& endpoint, bool redirect, Nanoseconds now) {
  if (peer.pinned()) {
    peer.endpoint_without_paths = endpoint;
    return;
  }
  const Endpoint present = peer.endpoint();
  peer.given_endpoint.reset();
  peer.given_endpoint_tried = false;
  if (redirect || !present.known() || !peer.has_session(now))
    peer.set_endpoint(endpoint);
  else if (!present.same_place(endpoint))
    peer.given_endpoint = endpoint;
}

void SessionTable::change_ways_back(const WaysBack& changed, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  for (auto& [key, peer] : peers_) {
    change_path_legs(*peer, changed);
    if (peer->pinned()) continue;
    std::optional<Endpoint>& given = peer->given_endpoint;
    if (given.has_value())
      if (const auto found = changed.find(given->receive_leg); found != changed.end()) given = found->second;
    const auto found = changed.find(peer->endpoint().receive_leg);
    if (found == changed.end()) continue;
    if (found->second.has_value()) {
      peer->set_endpoint(*found->second);
      continue;
    }
    peer->set_endpoint(std::exchange(given, std::nullopt).value_or(Endpoint{}));
    peer->given_endpoint_tried = false;
    flush_staged(*peer, now, out);
    arm(*peer, now);
  }
}

void SessionTable::set_exit_rules(std::unique_ptr<const ExitRules> rules) {
  const std::lock_guard lock(mutex_);
  const ExitRules* former = exit_rules_.exchange(rules.release(), std::memory_order_acq_rel);
  qsbr_.retire([former] { delete former; });
  qsbr_.reclaim();
}

void SessionTable::set_shaping(const std::vector<ShapingSettings>& all) {
  const std::lock_guard lock(mutex_);
  for (const ShapingSettings& settings : all) {
    Peer* peer = find_peer(settings.peer);
    if (peer == nullptr) continue;
    const Shaping* before = peer->shaping.load(std::memory_order_relaxed);
    peer->shaping.store(settings.shapes() ? new Shaping(settings, before) : nullptr,
                        std::memory_order_release);
    if (before != nullptr) qsbr_.retire([before] { delete before; });
  }
  qsbr_.reclaim();
}

std::optional<ShapingCounts> SessionTable::shaping_counts(const Key32& key) {
  const std::lock_guard lock(mutex_);
  const Peer* peer = find_peer(key);
  const Shaping* shaping = peer == nullptr ? nullptr : peer->shaping.load(std::memory_order_relaxed);
  if (shaping == nullptr) return std::nullopt;
  const auto read = [](const auto& value) { return value.load(std::memory_order_relaxed); };
  const ShapingUse& use = *shaping->use;
  return ShapingCounts{read(use.data_bytes), read(use.padding_bytes), read(use.unpadded_packets),
                       read(use.covers), read(use.covers_left_out)};
}

void SessionTable::remove_peers(const std::vector<Key32>& keys) {
  const std::lock_guard lock(mutex_);
  for (const Key32& key : keys)
    if (Peer* peer = find_peer(key); peer != nullptr) remove_peer(*peer);
  qsbr_.reclaim();
}

void SessionTable::remove_peer(Peer& peer) {
  removed_timestamp_ = std::max(removed_timestamp_, peer.sent_timestamp);
  drop_keys(peer);
  routes_.clear(peer.allowed_ips);
  timers_.cancel(peer);
  cancel_path_timer(peer);
  peer.removed = true;
  const auto found = peers_.find(peer.remote.public_key);
  Peer* removed = found->second.release();
  peers_.erase(found);
  qsbr_.retire([removed] { delete removed; });
}

void SessionTable::set_private_key(const std::optional<Key32>& key, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  Key32 nobody{};
  if (!key.has_value()) environment_.random(nobody);
  local_ = LocalIdentity(key.value_or(nobody));
  sodium_memzero(nobody.data(), nobody.size());
  has_identity_ = key.has_value();
  for (auto& [public_key, peer] : peers_) {
    peer->remote.meet(local_);
    drop_keys(*peer);
    arm(*peer, now);
  }
  qsbr_.reclaim();
}

Key32 SessionTable::mac1_key() {
  const std::lock_guard lock(mutex_);
  return local_.mac1_key;
}

void SessionTable::suspend() {
  const std::lock_guard lock(mutex_);
  suspended_ = true;
  for (auto& [key, peer] : peers_) {
    drop_keys(*peer);
    peer->staged.clear();
    peer->handshake_wanted = false;
    peer->last_sent.store(0, std::memory_order_relaxed);
    peer->last_received.store(0, std::memory_order_relaxed);
    peer->unanswered_since.store(0, std::memory_order_relaxed);
    peer->keepalive_owed_since.store(0, std::memory_order_relaxed);
    timers_.cancel(*peer);
    cancel_path_timer(*peer);
  }
  qsbr_.reclaim();
}

void SessionTable::resume(Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  suspended_ = false;
  for (auto& [key, peer] : peers_) {
    arm(*peer, now);
    arm_paths(*peer, now);
  }
}

}  // namespace omerta::session
