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

/// When two initiations cross, both sides would become responders and wait for each other until the
/// retry. One of them goes on as initiator instead: the one with the lower key, if its own message
/// is young enough to be still on its way.
constexpr Nanoseconds kCrossingTime = 500 * kMillisecond;

/// Bytes of a transport packet's plaintext: padded to 16 (whitepaper 5.4.6), but not past the MTU.
size_t padded(size_t size, size_t inner_mtu) {
  return std::max(size, std::min((size + 15) & ~size_t{15}, inner_mtu));
}

/// At once when nothing was sent or heard yet, however short the clock has been running.
Nanoseconds persistent_keepalive_due(const Peer& peer) {
  const Nanoseconds last = std::max(peer.last_sent.load(std::memory_order_relaxed),
                                    peer.last_received.load(std::memory_order_relaxed));
  return last == 0 ? 0 : last + peer.persistent_keepalive;
}

/// The next whitened timestamp: a peer takes none that is not later than the last, and two initiations may
/// fall into one step of 16.8 ms, or the clock may have been set back.
Timestamp step_after(const Timestamp& last) {
  constexpr uint32_t kStep = 1U << 24;
  uint64_t seconds = __builtin_bswap64(load<uint64_t>(last.data()));
  uint32_t nanoseconds = __builtin_bswap32(load<uint32_t>(last.data() + 8)) + kStep;
  if (nanoseconds >= 1'000'000'000) {
    seconds++;
    nanoseconds = 0;
  }
  Timestamp next;
  store(next.data(), __builtin_bswap64(seconds));
  store(next.data() + 8, __builtin_bswap32(nanoseconds));
  return next;
}

}  // namespace

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
      aead_(environment_.aead),
      qsbr_(workers),
      routes_(qsbr_),
      indices_(qsbr_),
      handshake_budget_(kHandshakesPerSecond, kHandshakeBurst),
      source_budget_(kSourceHandshakesPerSecond, kSourceHandshakeBurst, {32, 64}, random_key(environment_)) {}

SessionTable::~SessionTable() {
  for (auto& [key, peer] : peers_) drop_keys(*peer);
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

// ---- configuration --------------------------------------------------------------------------------

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
  auto created = std::make_unique<Peer>(local_, key);
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
    change.remove ? routes_.remove(change.prefix, peer) : routes_.insert(change.prefix, peer);
  if (settings.replace_allowed_ips) routes_.end_replacement(peer);
  const bool was_kept_alive = peer.persistent_keepalive != 0;
  peer.persistent_keepalive = settings.persistent_keepalive.value_or(peer.persistent_keepalive);
  if (settings.endpoint.has_value()) {
    peer.set_endpoint(*settings.endpoint);
    flush_staged(peer, now, out);
    if (peer.handshake_wanted || !peer.staged.empty()) want_handshake(peer, now, out);
  }
  if (!was_kept_alive && peer.persistent_keepalive != 0) send_persistent_keepalive(peer, now, out);
  arm(peer, now);
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
  routes_.clear(peer);
  timers_.cancel(peer);
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
  }
  qsbr_.reclaim();
}

void SessionTable::resume(Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  suspended_ = false;
  for (auto& [key, peer] : peers_) arm(*peer, now);
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

void SessionTable::mirror_indices(uint64_t* words) {
  const std::lock_guard lock(mutex_);
  indices_.mirror(words, static_cast<uint32_t>(index_slots() - 1));
}

void SessionTable::release_handshake_index(Peer& peer) {
  if (peer.handshake.local_index != 0) indices_.release(peer.handshake.local_index);
  peer.handshake.local_index = 0;
}

/// The end of a session: its first pair, and the second if there is one.
void SessionTable::discard(Keypair* keypair) {
  if (keypair == nullptr) return;
  const SuiteNegotiation& negotiation = keypair->negotiation;
  if (negotiation.keypair != nullptr)
    indices_.remove(*negotiation.keypair);
  else if (negotiation.offer.local_index != 0)
    indices_.release(negotiation.offer.local_index);
  indices_.remove(*keypair);
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
  TransportKeys keys = derive_transport_keys(peer.handshake, initiator);
  auto* keypair = new Keypair(peer, crypto::Suite::chacha20_poly1305, keys,
                              {next_keypair_id_++, peer.handshake.local_index, peer.handshake.remote_index,
                               now, initiator, kStandardWindow});
  keys.wipe();
  if (environment_.suites != 0) {
    keypair->suite_secret = derive_suite_secret(peer.handshake);
    keypair->next_offer.store(0, std::memory_order_relaxed);
  }
  indices_.promote(*keypair);
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
  arm(peer, now);
}

// ---- sending --------------------------------------------------------------------------------------

/// Seals one packet and sends it; false when the key may not be used (any more).
bool SessionTable::send_under(Keypair& keypair, Bytes packet, Nanoseconds now, SessionOutput& out) {
  if (suspended_) return false;
  Peer& peer = keypair.peer;
  const Endpoint endpoint = peer.endpoint();
  if (!endpoint.known()) return false;
  const CounterRange counter = keypair.take_counters(1, now);
  if (counter.count == 0) return false;
  const size_t size = padded(packet.size(), out.inner_mtu());
  std::vector<uint8_t> message(kTransportOverhead + size);
  store(message.data(), kTransportType);
  store(message.data() + 4, keypair.remote_index);
  store(message.data() + 8, counter.first);
  if (!packet.empty()) std::memcpy(message.data() + kTransportHeaderSize, packet.data(), packet.size());
  crypto::AeadJob job{&keypair.send_key, counter.first, message.data() + kTransportHeaderSize, size, false};
  aead_.seal(std::span(&job, 1));
  if (!job.ok) return false;
  out.send(endpoint, message, packet.size() < 2 ? kNotEct : ecn_of(packet.data()));
  peer.tx_bytes.fetch_add(message.size(), std::memory_order_relaxed);
  peer.last_sent.store(now, std::memory_order_relaxed);
  peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
  const bool worn = keypair.worn_by(message.size());
  if (worn || (keypair.initiator && now - keypair.created >= kRekeyAfterTime)) want_handshake(peer, now, out);
  return true;
}

bool SessionTable::send_packet(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out) {
  Keypair* keypair = peer.sending();
  const Nanoseconds previous = peer.last_sent.load(std::memory_order_relaxed);
  if (keypair == nullptr || !send_under(*keypair, packet, now, out)) return false;
  if (packet.empty()) {
    keepalives_sent_.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  if (peer.unanswered_since.load(std::memory_order_relaxed) == 0)
    peer.unanswered_since.store(now, std::memory_order_relaxed);
  if (offer_due(*keypair, previous, now)) offer_suites(*keypair, now, out);
  return true;
}

void SessionTable::send_persistent_keepalive(Peer& peer, Nanoseconds now, SessionOutput& out) {
  if (peer.endpoint().known() && !send_packet(peer, {}, now, out) && !peer.retry_armed)
    want_handshake(peer, now, out);
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
  const Nanoseconds previous = peer.last_sent.load(std::memory_order_relaxed);
  peer.tx_bytes.fetch_add(bytes, std::memory_order_relaxed);
  peer.last_sent.store(now, std::memory_order_relaxed);
  if (peer.keepalive_owed_since.load(std::memory_order_relaxed) != 0)
    peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
  if (peer.unanswered_since.load(std::memory_order_relaxed) == 0)
    peer.unanswered_since.store(now, std::memory_order_relaxed);
  const bool worn = keypair.worn_by(bytes);
  const bool old = worn || (keypair.initiator && now - keypair.created >= kRekeyAfterTime);
  if (offer_due(keypair, previous, now)) {
    const std::lock_guard lock(mutex_);
    if (!peer.removed) offer_suites(keypair, now, out);
  }
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
      peer.last_handshake_wall = environment_.wall_clock();
      out.session_established(peer);
      flush_staged(peer, now, out);
      arm(peer, now);
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
  if (suspended_ || !has_identity_) return;
  Endpoint endpoint = peer.endpoint();
  if (!endpoint.known()) {
    peer.handshake_wanted = true;
    if (peer.last_path_needed == 0 || now - peer.last_path_needed >= kPathNeededInterval) {
      peer.last_path_needed = now;
      out.path_needed(peer);
    }
    return arm(peer, now);
  }
  peer.handshake_wanted = false;
  if (retry) {
    // No answer: the source address we stick to may be the reason.
    endpoint.local = {};
    peer.set_endpoint(endpoint);
  } else if (!peer.retry_armed) {
    peer.attempts_since = now;
  }
  release_handshake_index(peer);
  Key32 ephemeral{};
  environment_.random(ephemeral);
  Initiation message;
  peer.sent_timestamp = std::max(environment_.timestamp(), step_after(peer.sent_timestamp));
  const bool made = create_initiation(local_, peer.remote, ephemeral, peer.sent_timestamp,
                                      indices_.allocate(peer, environment_.random), peer.handshake, message);
  sodium_memzero(ephemeral.data(), ephemeral.size());
  peer.last_initiation.store(now, std::memory_order_relaxed);
  if (!made) {
    release_handshake_index(peer);
    return;
  }
  peer.initiation_pending = true;
  peer.retry_armed = true;
  peer.jitter = random_jitter();
  arm(peer, now);
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
  const bool made = create_response(local_, peer->remote, ephemeral,
                                    indices_.allocate(*peer, environment_.random), peer->handshake, response);
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
  Peer* peer = indices_.handshake(message.receiver);
  if (peer == nullptr || !peer->initiation_pending ||
      peer->handshake.local_index != message.receiver)  // else it waits for a session's second pair
    return Outcome::unknown_index;
  if (!consume_response(local_, peer->remote, message, peer->handshake)) return Outcome::bad_handshake;
  begin_session(*peer, true, now);
  peer->rx_bytes.fetch_add(sizeof message, std::memory_order_relaxed);
  peer->last_received.store(now, std::memory_order_relaxed);
  peer->unanswered_since.store(0, std::memory_order_relaxed);
  peer->last_handshake_wall = environment_.wall_clock();
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
  Peer* peer = indices_.handshake(message.receiver);
  if (Keypair* keypair = find(message.receiver); peer == nullptr && keypair != nullptr) peer = &keypair->peer;
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
  while (Peer* peer = timers_.take_due(now)) {
    check_timers(*peer, now, out);
    arm(*peer, now);
  }
  qsbr_.reclaim();
}

/// Sets the peer's timer to the earliest moment at which check_timers may find something to do. What
/// packets start without the mutex is due KEEPALIVE_TIMEOUT after them at the earliest, so that a peer
/// with keys is looked at that often, and one without costs nothing.
void SessionTable::arm(Peer& peer, Nanoseconds now) {
  Nanoseconds due = UINT64_MAX;
  const auto at = [&due](Nanoseconds moment) { due = std::min(due, moment); };
  const Keypair* current = peer.current.load(std::memory_order_relaxed);
  const Nanoseconds last_initiation = peer.last_initiation.load(std::memory_order_relaxed);
  if (peer.retry_armed)
    at(last_initiation + kRekeyTimeout + peer.jitter);
  else if (peer.handshake_wanted)
    at(peer.last_path_needed + kPathNeededInterval);
  if (const Nanoseconds unanswered = peer.unanswered_since.load(std::memory_order_relaxed); unanswered != 0)
    at(unanswered + kNewHandshakeTimeout + peer.jitter);
  if (const Nanoseconds owed = peer.keepalive_owed_since.load(std::memory_order_relaxed); owed != 0)
    at(owed + kKeepaliveTimeout);
  if (current != nullptr) at(next_negotiation_step(current->negotiation));
  if (peer.persistent_keepalive != 0 && peer.endpoint().known() && has_identity_) {
    const bool usable = current != nullptr && !current->expired(now);
    if (usable)
      at(persistent_keepalive_due(peer));
    else if (!peer.retry_armed)
      at(std::max(persistent_keepalive_due(peer),
                  last_initiation == 0 ? 0 : last_initiation + kRekeyTimeout));
  }
  if (current != nullptr || peer.previous.load(std::memory_order_relaxed) != nullptr ||
      peer.next.load(std::memory_order_relaxed) != nullptr) {
    at(now + kKeepaliveTimeout);
    at(peer.last_handshake.load(std::memory_order_relaxed) + kZeroKeysTime);
  }
  if (suspended_ || due == UINT64_MAX)
    timers_.cancel(peer);
  else
    timers_.set(peer, std::max(due, now + 1));
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

  drive_negotiation(peer, now, out);

  const Nanoseconds owed = peer.keepalive_owed_since.load(std::memory_order_relaxed);
  if (owed != 0 && now > owed && now - owed >= kKeepaliveTimeout) {
    peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
    send_packet(peer, {}, now, out);
  }

  if (peer.persistent_keepalive != 0 && now >= persistent_keepalive_due(peer))
    send_persistent_keepalive(peer, now, out);

  const Nanoseconds last_handshake = peer.last_handshake.load(std::memory_order_relaxed);
  if (last_handshake != 0 && now - last_handshake >= kZeroKeysTime &&
      (peer.current.load(std::memory_order_relaxed) != nullptr ||
       peer.previous.load(std::memory_order_relaxed) != nullptr ||
       peer.next.load(std::memory_order_relaxed) != nullptr))
    drop_keys(peer);
}

}  // namespace omerta::session
