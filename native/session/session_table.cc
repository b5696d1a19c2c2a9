// SPDX-License-Identifier: Apache-2.0
#include "session/session_table.h"

#include <sodium.h>

#include <algorithm>

#include "common/ecn.h"
#include "crypto/blake2s.h"

namespace omerta::session {
namespace {

/// Handshakes answered per second without asking for a cookie. One costs about 0.3 ms of CPU.
constexpr uint64_t kHandshakesPerSecond = 1000;
constexpr uint64_t kHandshakeBurst = 200;
constexpr Nanoseconds kUnderLoadTime = kSecond;
/// Under load, handshakes of one address that proved itself by a cookie (WIREGUARD checklist 4).
constexpr uint64_t kSourceHandshakesPerSecond = 20;
constexpr uint64_t kSourceHandshakeBurst = 5;
/// An explicit request may repeat an initiation sooner than REKEY_TIMEOUT, but not in a tight loop.
constexpr Nanoseconds kForcedHandshakeInterval = 200 * kMillisecond;

PrefixBuckets::SecretKey random_key(const SessionEnvironment& environment) {
  PrefixBuckets::SecretKey key{};
  environment.random(std::span(reinterpret_cast<uint8_t*>(&key), sizeof key));
  return key;
}

size_t slot_count(size_t max_peers) {
  // Three keypairs and a handshake for each peer, at most half full.
  return std::bit_ceil(std::max<size_t>(max_peers * 8, 1024));
}

/// When two initiations cross, both sides would become responders and wait for each other until the
/// retry. One of them goes on as initiator instead: the one with the lower key, if its own message
/// is young enough to be still on its way.
constexpr Nanoseconds kCrossingTime = 500 * kMillisecond;

/// Bytes of a transport packet's plaintext: padded to 16 (whitepaper 5.4.6), but not past the MTU.
size_t padded(size_t size, size_t inner_mtu) {
  return std::max(size, std::min((size + 15) & ~size_t{15}, inner_mtu));
}

}  // namespace

Keypair::Keypair(uint64_t id_, Peer& peer_, const HandshakeState& state, bool initiator_, Nanoseconds now)
    : id(id_),
      peer(peer_),
      keys(derive_transport_keys(state, initiator_)),
      local_index(state.local_index),
      remote_index(state.remote_index),
      created(now),
      initiator(initiator_) {}

Keypair::~Keypair() { sodium_memzero(const_cast<TransportKeys*>(&keys), sizeof keys); }

bool Peer::set_endpoint(const Endpoint& endpoint) {
  endpoint_lock_.lock();
  const bool changed = !endpoint_.read().same_path(endpoint);
  endpoint_.write(endpoint);
  endpoint_lock_.unlock();
  return changed;
}

SessionTable::SessionTable(const Key32& private_key, size_t max_peers, size_t workers,
                           SessionEnvironment environment)
    : local_(private_key),
      max_peers_(max_peers),
      environment_(std::move(environment)),
      qsbr_(workers),
      routes_(new AllowedIps),
      slots_(new Slot[slot_count(max_peers)]),
      slot_mask_(static_cast<uint32_t>(slot_count(max_peers) - 1)),
      handshake_budget_(kHandshakesPerSecond, kHandshakeBurst),
      source_budget_(kSourceHandshakesPerSecond, kSourceHandshakeBurst, {32, 64}, random_key(environment_)) {}

SessionTable::~SessionTable() {
  for (auto& [key, peer] : peers_) drop_keys(*peer);
  delete routes_.load();
}

Peer* SessionTable::find_peer(const Key32& key) {
  const auto found = peers_.find(key);
  return found == peers_.end() ? nullptr : found->second.get();
}

size_t SessionTable::size() {
  const std::lock_guard lock(mutex_);
  return peers_.size();
}

void SessionTable::for_each(const std::function<void(Peer&)>& visit) {
  const std::lock_guard lock(mutex_);
  for (auto& [key, peer] : peers_) visit(*peer);
}

void SessionTable::reclaim() {
  const std::lock_guard lock(mutex_);
  qsbr_.reclaim();
}

// ---- configuration --------------------------------------------------------------------------------

bool SessionTable::set_peers(const std::vector<PeerSettings>& settings, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  size_t added = 0;
  for (const PeerSettings& s : settings) added += find_peer(s.public_key) == nullptr ? 1 : 0;
  if (peers_.size() + added > max_peers_) return false;
  bool routes_changed = false;
  for (const PeerSettings& s : settings) {
    Peer* peer = find_peer(s.public_key);
    if (peer == nullptr) {
      auto created = std::make_unique<Peer>(local_, s.public_key);
      peer = created.get();
      peers_.emplace(s.public_key, std::move(created));
    }
    const Key32 preshared = s.preshared_key.value_or(Key32{});
    if (sodium_memcmp(preshared.data(), peer->remote.preshared_key.data(), preshared.size()) != 0) {
      peer->remote.preshared_key = preshared;
      if (!s.keep_session_on_new_psk) drop_keys(*peer);
    }
    if (peer->allowed_ips != s.allowed_ips) {
      assign_prefixes(*peer, s.allowed_ips);
      routes_changed = true;
    }
    peer->persistent_keepalive = s.persistent_keepalive;
    if (s.endpoint.has_value()) {
      peer->set_endpoint(*s.endpoint);
      flush_staged(*peer, now, out);
      if (peer->handshake_wanted || !peer->staged.empty()) want_handshake(*peer, now, out);
    }
  }
  if (routes_changed) rebuild_routes();
  return true;
}

void SessionTable::remove_peers(const std::vector<Key32>& keys) {
  const std::lock_guard lock(mutex_);
  std::vector<Peer*> removed;
  for (const Key32& key : keys) {
    const auto found = peers_.find(key);
    if (found == peers_.end()) continue;
    Peer* peer = found->second.release();
    peers_.erase(found);
    drop_keys(*peer);
    assign_prefixes(*peer, {});
    peer->removed = true;
    removed.push_back(peer);
  }
  if (removed.empty()) return;
  rebuild_routes();  // before they are retired: the old routes still lead to them
  for (Peer* peer : removed) qsbr_.retire([peer] { delete peer; });
}

/// A prefix belongs to the peer it was given to last.
void SessionTable::assign_prefixes(Peer& peer, const std::vector<Prefix>& prefixes) {
  for (const Prefix& prefix : peer.allowed_ips) prefix_owner_.erase(prefix);
  for (const Prefix& prefix : prefixes) {
    Peer*& owner = prefix_owner_[prefix];
    if (owner != nullptr && owner != &peer) std::erase(owner->allowed_ips, prefix);
    owner = &peer;
  }
  peer.allowed_ips = prefixes;
}

void SessionTable::rebuild_routes() {
  std::vector<AllowedIps::Route> routes;
  routes.reserve(prefix_owner_.size());
  for (const auto& [prefix, peer] : prefix_owner_) routes.push_back({prefix, peer});
  const AllowedIps* old = routes_.exchange(new AllowedIps(routes), std::memory_order_acq_rel);
  qsbr_.retire([old] { delete old; });
}

bool SessionTable::start_handshake(const Key32& key, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  Peer* peer = find_peer(key);
  if (peer == nullptr) return false;
  const Nanoseconds last = peer->last_initiation.load(std::memory_order_relaxed);
  if (last == 0 || now - last >= kForcedHandshakeInterval) initiate(*peer, now, out, false);
  return true;
}

std::optional<Nanoseconds> SessionTable::last_handshake(const Key32& key) {
  const std::lock_guard lock(mutex_);
  const Peer* peer = find_peer(key);
  if (peer == nullptr) return std::nullopt;
  return peer->last_handshake.load(std::memory_order_relaxed);
}

bool SessionTable::send_inside(const Key32& key, Bytes packet, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  Peer* peer = find_peer(key);
  if (peer == nullptr) return false;
  if (!send_packet(*peer, packet, now, out)) {
    if (peer->staged.size() >= kMaxStagedPackets) peer->staged.pop_front();
    peer->staged.emplace_back(packet.begin(), packet.end());
    want_handshake(*peer, now, out);
  }
  return true;
}

// ---- keys and indices -----------------------------------------------------------------------------

uint32_t SessionTable::allocate_index(Peer& peer) {
  for (;;) {
    uint32_t index = 0;
    environment_.random(std::span(reinterpret_cast<uint8_t*>(&index), sizeof index));
    Slot& slot = slots_[index & slot_mask_];
    if (index == 0 || slot.handshake != nullptr || slot.keypair.load(std::memory_order_relaxed) != nullptr)
      continue;
    slot.handshake = &peer;
    slot.handshake_index = index;
    return index;
  }
}

void SessionTable::release_handshake_index(Peer& peer) {
  const uint32_t index = peer.handshake.local_index;
  if (index == 0) return;
  Slot& slot = slots_[index & slot_mask_];
  if (slot.handshake == &peer && slot.handshake_index == index) slot.handshake = nullptr;
  peer.handshake.local_index = 0;
}

void SessionTable::discard(Keypair* keypair) {
  if (keypair == nullptr) return;
  Slot& slot = slots_[keypair->local_index & slot_mask_];
  if (slot.keypair.load(std::memory_order_relaxed) == keypair)
    slot.keypair.store(nullptr, std::memory_order_release);
  qsbr_.retire([keypair] { delete keypair; });
}

void SessionTable::drop_keys(Peer& peer) {
  discard(peer.current.exchange(nullptr));
  discard(peer.previous.exchange(nullptr));
  discard(peer.next.exchange(nullptr));
  release_handshake_index(peer);
  peer.handshake.wipe();
  peer.initiation_pending = false;
  peer.retry_armed = false;
  peer.last_initiation.store(0, std::memory_order_relaxed);
}

/// Turns the finished handshake into a keypair and gives it its place (Linux noise.c,
/// add_new_keypair): the initiator uses it at once, the responder only after it heard it used.
void SessionTable::begin_session(Peer& peer, bool initiator, Nanoseconds now) {
  auto* keypair = new Keypair(next_keypair_id_++, peer, peer.handshake, initiator, now);
  Slot& slot = slots_[keypair->local_index & slot_mask_];
  slot.handshake = nullptr;
  slot.keypair.store(keypair, std::memory_order_release);
  peer.handshake.wipe();
  peer.initiation_pending = false;
  if (initiator) {
    peer.retry_armed = false;
    if (Keypair* unconfirmed = peer.next.exchange(nullptr); unconfirmed != nullptr) {
      discard(peer.previous.exchange(unconfirmed));
      discard(peer.current.exchange(keypair));
    } else {
      discard(peer.previous.exchange(peer.current.exchange(keypair)));
    }
  } else {
    discard(peer.next.exchange(keypair));
    discard(peer.previous.exchange(nullptr));
  }
  peer.last_handshake.store(now, std::memory_order_relaxed);
}

// ---- sending --------------------------------------------------------------------------------------

bool SessionTable::send_packet(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out) {
  Keypair* keypair = peer.current.load(std::memory_order_acquire);
  const Endpoint endpoint = peer.endpoint();
  if (keypair == nullptr || !endpoint.known()) return false;
  const CounterRange counter = keypair->take_counters(1, now);
  if (counter.count == 0) return false;
  const size_t size = padded(packet.size(), out.inner_mtu());
  std::vector<uint8_t> message(kTransportOverhead + size);
  store(message.data(), kTransportType);
  store(message.data() + 4, keypair->remote_index);
  store(message.data() + 8, counter.first);
  if (!packet.empty()) std::memcpy(message.data() + kTransportHeaderSize, packet.data(), packet.size());
  uint8_t nonce[12] = {};
  store(nonce + 4, counter.first);
  crypto_aead_chacha20poly1305_ietf_encrypt(message.data() + kTransportHeaderSize, nullptr,
                                            message.data() + kTransportHeaderSize, size, nullptr, 0, nullptr,
                                            nonce, keypair->keys.send.data());
  out.send(endpoint, message, packet.size() < 2 ? kNotEct : ecn_of(packet.data()));
  peer.tx_bytes.fetch_add(message.size(), std::memory_order_relaxed);
  peer.last_sent.store(now, std::memory_order_relaxed);
  peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
  if (!packet.empty() && peer.unanswered_since.load(std::memory_order_relaxed) == 0)
    peer.unanswered_since.store(now, std::memory_order_relaxed);
  if (packet.empty()) keepalives_sent_.fetch_add(1, std::memory_order_relaxed);
  if ((keypair->initiator && now - keypair->created >= kRekeyAfterTime) ||
      counter.first >= kRekeyAfterMessages)
    want_handshake(peer, now, out);
  return true;
}

void SessionTable::flush_staged(Peer& peer, Nanoseconds now, SessionOutput& out) {
  while (!peer.staged.empty() && send_packet(peer, peer.staged.front(), now, out)) peer.staged.pop_front();
}

size_t SessionTable::stage(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  if (peer.removed) return 1;
  size_t dropped = 0;
  if (peer.staged.size() >= kMaxStagedPackets) {
    peer.staged.pop_front();
    dropped = 1;
  }
  peer.staged.emplace_back(packet.begin(), packet.end());
  // The key may have arrived between the caller's look and our lock.
  flush_staged(peer, now, out);
  if (!peer.staged.empty()) want_handshake(peer, now, out);
  return dropped;
}

void SessionTable::data_sent(Keypair& keypair, size_t bytes, Nanoseconds now, SessionOutput& out) {
  Peer& peer = keypair.peer;
  peer.tx_bytes.fetch_add(bytes, std::memory_order_relaxed);
  peer.last_sent.store(now, std::memory_order_relaxed);
  if (peer.keepalive_owed_since.load(std::memory_order_relaxed) != 0)
    peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
  if (peer.unanswered_since.load(std::memory_order_relaxed) == 0)
    peer.unanswered_since.store(now, std::memory_order_relaxed);
  const bool old = (keypair.initiator && now - keypair.created >= kRekeyAfterTime) ||
                   keypair.sent() >= kRekeyAfterMessages;
  if (old && now - peer.last_initiation.load(std::memory_order_relaxed) >= kRekeyTimeout) {
    const std::lock_guard lock(mutex_);
    if (!peer.removed) want_handshake(peer, now, out);
  }
}

void SessionTable::authenticated(Keypair& keypair, const Endpoint& from, Nanoseconds now,
                                 SessionOutput& out) {
  Peer& peer = keypair.peer;
  peer.last_received.store(now, std::memory_order_relaxed);
  if (peer.unanswered_since.load(std::memory_order_relaxed) != 0)
    peer.unanswered_since.store(0, std::memory_order_relaxed);
  const bool moved = !peer.endpoint().same_path(from) && peer.set_endpoint(from);
  if (peer.next.load(std::memory_order_acquire) == &keypair) {
    const std::lock_guard lock(mutex_);
    if (peer.next.load(std::memory_order_relaxed) == &keypair) {
      discard(peer.previous.exchange(peer.current.exchange(&keypair)));
      peer.next.store(nullptr, std::memory_order_release);
      peer.retry_armed = false;
      out.session_established(peer);
      flush_staged(peer, now, out);
    }
  }
  if (moved) out.endpoint_changed(peer);
  if (keypair.initiator && now - keypair.created >= kRekeyAfterTimeReceiving &&
      now - peer.last_initiation.load(std::memory_order_relaxed) >= kRekeyTimeout) {
    const std::lock_guard lock(mutex_);
    if (!peer.removed) want_handshake(peer, now, out);
  }
}

// ---- handshakes -----------------------------------------------------------------------------------

Nanoseconds SessionTable::random_jitter() {
  uint32_t value = 0;
  environment_.random(std::span(reinterpret_cast<uint8_t*>(&value), sizeof value));
  return value % (kRekeyTimeoutJitter + 1);
}

/// A handshake is due: starts one unless one was sent less than REKEY_TIMEOUT ago.
void SessionTable::want_handshake(Peer& peer, Nanoseconds now, SessionOutput& out) {
  const Nanoseconds last = peer.last_initiation.load(std::memory_order_relaxed);
  if (last != 0 && now - last < kRekeyTimeout) return;
  initiate(peer, now, out, false);
}

void SessionTable::initiate(Peer& peer, Nanoseconds now, SessionOutput& out, bool retry) {
  Endpoint endpoint = peer.endpoint();
  if (!endpoint.known()) {
    peer.handshake_wanted = true;
    if (peer.last_path_needed == 0 || now - peer.last_path_needed >= kPathNeededInterval) {
      peer.last_path_needed = now;
      out.path_needed(peer);
    }
    return;
  }
  peer.handshake_wanted = false;
  if (retry) {
    // No answer: the source address we stick to may be the reason.
    std::memset(endpoint.local_ip, 0, sizeof endpoint.local_ip);
    endpoint.local_interface = 0;
    peer.set_endpoint(endpoint);
  } else if (!peer.retry_armed) {
    peer.attempts_since = now;
  }
  release_handshake_index(peer);
  Key32 ephemeral{};
  environment_.random(ephemeral);
  Initiation message;
  const bool made = create_initiation(local_, peer.remote, ephemeral, environment_.timestamp(),
                                      allocate_index(peer), peer.handshake, message);
  sodium_memzero(ephemeral.data(), ephemeral.size());
  peer.last_initiation.store(now, std::memory_order_relaxed);
  if (!made) {
    release_handshake_index(peer);
    return;
  }
  peer.initiation_pending = true;
  peer.retry_armed = true;
  peer.jitter = random_jitter();
  add_macs(peer, reinterpret_cast<uint8_t*>(&message), sizeof message, now);
  peer.tx_bytes.fetch_add(sizeof message, std::memory_order_relaxed);
  initiations_sent_.fetch_add(1, std::memory_order_relaxed);
  out.send(endpoint, Bytes(reinterpret_cast<const uint8_t*>(&message), sizeof message),
           kHandshakeTrafficClass);
}

/// Appends mac1, and mac2 while a cookie is fresh (whitepaper 5.4.4).
void SessionTable::add_macs(Peer& peer, uint8_t* message, size_t size, Nanoseconds now) {
  const Mac16 mac1 = crypto::blake2s_mac(peer.remote.mac1_key, {Bytes(message, size - 32)});
  std::memcpy(message + size - 32, mac1.data(), mac1.size());
  peer.last_mac1 = mac1;
  peer.has_last_mac1 = true;
  if (peer.has_cookie && now - peer.cookie_born < kCookieUseTime) {
    const Mac16 mac2 = crypto::blake2s_mac(peer.cookie, {Bytes(message, size - 16)});
    std::memcpy(message + size - 16, mac2.data(), mac2.size());
  }
}

Outcome SessionTable::check_macs(Bytes before1, const Mac16& mac1, Bytes before2, const Mac16& mac2,
                                 uint32_t sender, const Endpoint& from, Nanoseconds now, SessionOutput& out) {
  const Mac16 expected = crypto::blake2s_mac(local_.mac1_key, {before1});
  if (sodium_memcmp(expected.data(), mac1.data(), expected.size()) != 0) return Outcome::bad_mac1;
  if (!handshake_budget_.take(now)) under_load_until_ = now + kUnderLoadTime;
  if (now >= under_load_until_) return Outcome::accepted;
  if (cookies_.verify(before2, mac2, from.remote, now, environment_.random))
    return source_budget_.take(from.remote, now) ? Outcome::accepted : Outcome::over_rate;
  const Cookie cookie = cookies_.cookie_for(from.remote, now, environment_.random);
  const CookieReply reply = make_cookie_reply(local_.cookie_key, sender, mac1, cookie, environment_.random);
  out.send(from, Bytes(reinterpret_cast<const uint8_t*>(&reply), sizeof reply), 0);
  return Outcome::cookie_sent;
}

Outcome SessionTable::handle_initiation(const Initiation& message, const Endpoint& from, Nanoseconds now,
                                        SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  const Outcome macs = check_macs(before_mac1(message), message.mac1, before_mac2(message), message.mac2,
                                  message.sender, from, now, out);
  if (macs != Outcome::accepted) return macs;
  std::optional<ReceivedInitiation> received = open_initiation_static(local_, message);
  if (!received.has_value()) return Outcome::bad_handshake;
  Peer* peer = find_peer(received->static_key);
  if (peer == nullptr) {
    received->state.wipe();
    return Outcome::unknown_peer;
  }
  const std::optional<Timestamp> timestamp = open_initiation_timestamp(peer->remote, *received, message);
  if (!timestamp.has_value()) {
    received->state.wipe();
    return Outcome::bad_handshake;
  }
  const bool too_soon =
      peer->last_initiation_consumed != 0 && now - peer->last_initiation_consumed < kInitiationInterval;
  if (*timestamp <= peer->greatest_timestamp || too_soon) {
    received->state.wipe();
    return too_soon ? Outcome::over_rate : Outcome::replayed_initiation;
  }
  if (peer->initiation_pending && local_.public_key < peer->remote.public_key &&
      now - peer->last_initiation.load(std::memory_order_relaxed) < kCrossingTime) {
    received->state.wipe();
    return Outcome::crossed;
  }
  peer->greatest_timestamp = *timestamp;
  peer->last_initiation_consumed = now;
  release_handshake_index(*peer);  // our own unanswered initiation gives way
  peer->initiation_pending = false;
  peer->handshake = received->state;
  received->state.wipe();
  peer->rx_bytes.fetch_add(sizeof message, std::memory_order_relaxed);
  peer->last_received.store(now, std::memory_order_relaxed);
  if (peer->set_endpoint(from)) out.endpoint_changed(*peer);

  Key32 ephemeral{};
  environment_.random(ephemeral);
  Response response;
  const bool made =
      create_response(local_, peer->remote, ephemeral, allocate_index(*peer), peer->handshake, response);
  sodium_memzero(ephemeral.data(), ephemeral.size());
  if (!made) {
    release_handshake_index(*peer);
    peer->handshake.wipe();
    return Outcome::bad_handshake;
  }
  add_macs(*peer, reinterpret_cast<uint8_t*>(&response), sizeof response, now);
  begin_session(*peer, false, now);
  peer->tx_bytes.fetch_add(sizeof response, std::memory_order_relaxed);
  peer->last_sent.store(now, std::memory_order_relaxed);
  out.send(from, Bytes(reinterpret_cast<const uint8_t*>(&response), sizeof response), kHandshakeTrafficClass);
  return Outcome::accepted;
}

Outcome SessionTable::handle_response(const Response& message, const Endpoint& from, Nanoseconds now,
                                      SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  const Outcome macs = check_macs(before_mac1(message), message.mac1, before_mac2(message), message.mac2,
                                  message.sender, from, now, out);
  if (macs != Outcome::accepted) return macs;
  Slot& slot = slots_[message.receiver & slot_mask_];
  Peer* peer = slot.handshake;
  if (peer == nullptr || slot.handshake_index != message.receiver || !peer->initiation_pending)
    return Outcome::unknown_index;
  if (!consume_response(local_, peer->remote, message, peer->handshake)) return Outcome::bad_handshake;
  begin_session(*peer, true, now);
  peer->rx_bytes.fetch_add(sizeof message, std::memory_order_relaxed);
  peer->last_received.store(now, std::memory_order_relaxed);
  peer->unanswered_since.store(0, std::memory_order_relaxed);
  const bool moved = peer->set_endpoint(from);
  out.session_established(*peer);
  if (moved) out.endpoint_changed(*peer);
  // The responder may send only after it heard the new key: confirm it at once.
  if (peer->staged.empty())
    send_packet(*peer, {}, now, out);
  else
    flush_staged(*peer, now, out);
  return Outcome::accepted;
}

Outcome SessionTable::handle_cookie_reply(const CookieReply& message, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  Slot& slot = slots_[message.receiver & slot_mask_];
  Peer* peer = nullptr;
  if (slot.handshake != nullptr && slot.handshake_index == message.receiver)
    peer = slot.handshake;
  else if (Keypair* keypair = find(message.receiver); keypair != nullptr)
    peer = &keypair->peer;
  if (peer == nullptr || !peer->has_last_mac1) return Outcome::unknown_index;
  Cookie cookie;
  if (!open_cookie_reply(peer->remote.cookie_key, message, peer->last_mac1, cookie))
    return Outcome::bad_handshake;
  // Kept for the next attempt, which the timer makes: no retry at once, and no roaming.
  peer->cookie = cookie;
  peer->cookie_born = now;
  peer->has_cookie = true;
  peer->has_last_mac1 = false;
  return Outcome::accepted;
}

// ---- timers (whitepaper 6; WIREGUARD checklist 6) -------------------------------------------------

void SessionTable::handle_timers(Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  for (auto& [key, peer] : peers_) check_timers(*peer, now, out);
  qsbr_.reclaim();
}

void SessionTable::check_timers(Peer& peer, Nanoseconds now, SessionOutput& out) {
  const Nanoseconds last_initiation = peer.last_initiation.load(std::memory_order_relaxed);
  if (peer.retry_armed && now - last_initiation >= kRekeyTimeout + peer.jitter) {
    if (now - peer.attempts_since >= kRekeyAttemptTime) {
      release_handshake_index(peer);
      peer.handshake.wipe();
      peer.initiation_pending = false;
      peer.retry_armed = false;
      peer.staged.clear();
      peer.unanswered_since.store(0, std::memory_order_relaxed);
      out.session_lost(peer);
    } else {
      initiate(peer, now, out, true);
    }
  } else if (peer.handshake_wanted) {
    initiate(peer, now, out, false);
  }

  const Nanoseconds unanswered = peer.unanswered_since.load(std::memory_order_relaxed);
  if (unanswered != 0 && now > unanswered && now - unanswered >= kNewHandshakeTimeout + peer.jitter) {
    peer.unanswered_since.store(0, std::memory_order_relaxed);
    if (!peer.retry_armed) initiate(peer, now, out, true);
  }

  const Nanoseconds owed = peer.keepalive_owed_since.load(std::memory_order_relaxed);
  if (owed != 0 && now > owed && now - owed >= kKeepaliveTimeout) {
    peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
    send_packet(peer, {}, now, out);
  }

  if (peer.persistent_keepalive != 0 && peer.endpoint().known()) {
    const Nanoseconds last = std::max(peer.last_sent.load(std::memory_order_relaxed),
                                      peer.last_received.load(std::memory_order_relaxed));
    if (now > last && now - last >= peer.persistent_keepalive && !send_packet(peer, {}, now, out) &&
        !peer.retry_armed)
      want_handshake(peer, now, out);
  }

  const Nanoseconds last_handshake = peer.last_handshake.load(std::memory_order_relaxed);
  if (last_handshake != 0 && now - last_handshake >= kZeroKeysTime &&
      (peer.current.load(std::memory_order_relaxed) != nullptr ||
       peer.previous.load(std::memory_order_relaxed) != nullptr ||
       peer.next.load(std::memory_order_relaxed) != nullptr))
    drop_keys(peer);
}

}  // namespace omerta::session
