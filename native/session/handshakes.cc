// SPDX-License-Identifier: Apache-2.0
// Handshakes (whitepaper 5.4): initiations sent and repeated, messages received, cookies under load, and the
// sessions that come of them.
#include <sodium.h>

#include <algorithm>
#include <utility>

#include "crypto/blake2s.h"
#include "session/session_table.h"

namespace omerta::session {
namespace {

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

// ---- starting ------------------------------------------------------------------------------------

bool SessionTable::start_handshake(const Key32& key, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  Peer* peer = find_peer(key);
  if (peer == nullptr) return false;
  const Nanoseconds last = peer->last_initiation.load(std::memory_order_relaxed);
  if (last == 0 || now - last >= kForcedHandshakeInterval) initiate(*peer, now, out, false);
  return true;
}

Nanoseconds SessionTable::random_jitter() {
  uint32_t value = 0;
  environment_.random(std::span(reinterpret_cast<uint8_t*>(&value), sizeof value));
  return value % (kRekeyTimeoutJitter + 1);
}

/// A handshake is due: starts one unless one was sent less than REKEY_TIMEOUT ago. Without an endpoint it is
/// that which is asked for.
void SessionTable::want_handshake(Peer& peer, Nanoseconds now, SessionOutput& out) {
  const Nanoseconds last = peer.last_initiation.load(std::memory_order_relaxed);
  if (last != 0 && now - last < kRekeyTimeout && peer.endpoint().known()) return;
  initiate(peer, now, out, false);
}

/// For the packet path: the key in use is old. Whether it is too soon is told without the mutex.
void SessionTable::renew(Peer& peer, Nanoseconds now, SessionOutput& out) {
  if (now - peer.last_initiation.load(std::memory_order_relaxed) < kRekeyTimeout) return;
  const std::lock_guard lock(mutex_);
  if (!peer.removed) want_handshake(peer, now, out);
}

/// Where an initiation goes. An endpoint that was given while a session ran comes first; it may be wrong, and
/// then it must not cost the session: repetitions go there and to the session's own in turns.
Endpoint SessionTable::choose_endpoint(Peer& peer, bool retry, Nanoseconds now) {
  if (!peer.given_endpoint.has_value()) return peer.endpoint();
  if (!peer.has_session(now)) {
    peer.set_endpoint(*std::exchange(peer.given_endpoint, std::nullopt));
    peer.given_endpoint_tried = false;
    return peer.endpoint();
  }
  peer.given_endpoint_tried = !retry || !peer.given_endpoint_tried;
  return peer.given_endpoint_tried ? *peer.given_endpoint : peer.endpoint();
}

/// Sends an initiation, or asks for an endpoint to send it to. `retry`: the last one was not answered.
void SessionTable::initiate(Peer& peer, Nanoseconds now, SessionOutput& out, bool retry) {
  if (suspended_ || !has_identity_) return;
  Endpoint endpoint = choose_endpoint(peer, retry, now);
  if (!endpoint.known()) {
    peer.handshake_wanted = true;
    if (peer.last_path_needed == 0 || now - peer.last_path_needed >= kPathNeededInterval) {
      peer.last_path_needed = now;
      out.path_needed(peer);
    }
    return arm(peer, now);
  }
  peer.handshake_wanted = false;
  if (retry && !peer.pinned()) {
    // The reason may be the source address we stick to: the kernel chooses again.
    endpoint.local = {};
    if (!peer.given_endpoint_tried) peer.set_endpoint(endpoint);
  } else if (!retry && !peer.retry_armed) {
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
  out.initiation_sent();
  transmit(peer, endpoint, Bytes(reinterpret_cast<const uint8_t*>(&message), sizeof message),
           kHandshakeTrafficClass, out);
}

// ---- messages -------------------------------------------------------------------------------------

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

/// Of an initiation or a response. Under load a cookie has to prove its source (whitepaper 5.4.7), which then
/// has a budget.
template <class Message>
Outcome SessionTable::check_macs(const Message& message, const Endpoint& from, Nanoseconds now,
                                 SessionOutput& out) {
  const Mac16 expected = crypto::blake2s_mac(local_.mac1_key, {before_mac1(message)});
  if (sodium_memcmp(expected.data(), message.mac1.data(), expected.size()) != 0) return Outcome::bad_mac1;
  if (!handshake_budget_.take(now)) under_load_until_ = now + kUnderLoadTime;
  if (now >= under_load_until_) return Outcome::accepted;
  const omerta_address source = from.source();
  if (cookies_.verify(before_mac2(message), message.mac2, source, now, environment_.random))
    return source_budget_.take(source, now) ? Outcome::accepted : Outcome::over_rate;
  const Cookie cookie = cookies_.cookie_for(source, now, environment_.random);
  const CookieReply reply =
      make_cookie_reply(local_.cookie_key, message.sender, message.mac1, cookie, environment_.random);
  out.send(from, Bytes(reinterpret_cast<const uint8_t*>(&reply), sizeof reply), 0);
  return Outcome::cookie_sent;
}

Outcome SessionTable::handle_initiation(const Initiation& message, const Endpoint& from, Nanoseconds now,
                                        SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  if (const Outcome macs = check_macs(message, from, now, out); macs != Outcome::accepted) return macs;
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
  release_handshake_index(*peer);  // our own initiation, not answered yet, gives way
  peer->initiation_pending = false;
  peer->handshake = received->state;
  received->state.wipe();
  peer->rx_bytes.fetch_add(sizeof message, std::memory_order_relaxed);
  peer->last_received.store(now, std::memory_order_relaxed);
  if (peer->set_endpoint(from)) tell_moved(*peer, now, out);  // begin_session arms its timers

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
  if (const Outcome macs = check_macs(message, from, now, out); macs != Outcome::accepted) return macs;
  Peer* peer = indices_.handshake(message.receiver);
  if (peer == nullptr || !peer->initiation_pending ||
      peer->handshake.local_index != message.receiver)  // else it is kept for a session's second pair
    return Outcome::unknown_index;
  if (!consume_response(local_, peer->remote, message, peer->handshake)) return Outcome::bad_handshake;
  begin_session(*peer, true, now);
  peer->rx_bytes.fetch_add(sizeof message, std::memory_order_relaxed);
  peer->last_received.store(now, std::memory_order_relaxed);
  peer->unanswered_since.store(0, std::memory_order_relaxed);
  peer->last_handshake_wall = environment_.wall_clock();
  const bool moved = peer->set_endpoint(from);
  out.session_established(*peer, from);
  if (moved && !tell_moved(*peer, now, out)) arm(*peer, now);
  // The responder may send only after it heard the new key: confirm it at once. By the way its response came,
  // for the peer's paths may lead elsewhere, or nowhere any more.
  if (peer->pinned()) {
    if (send_by(aead_, *peer->sending(), from, {}, now, out)) count_keepalive(out);
  } else if (peer->staged.empty()) {
    send_packet(*peer, {}, now, out);
  }
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

// ---- keys and indices -----------------------------------------------------------------------------

void SessionTable::release_handshake_index(Peer& peer) {
  if (peer.handshake.local_index != 0) indices_.release(peer.handshake.local_index);
  peer.handshake.local_index = 0;
}

/// No session comes of the handshake under way, and it is not tried again.
void SessionTable::abandon_handshake(Peer& peer) {
  release_handshake_index(peer);
  peer.handshake.wipe();
  peer.initiation_pending = false;
  peer.retry_armed = false;
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
  abandon_handshake(peer);
  peer.last_initiation.store(0, std::memory_order_relaxed);
}

/// Turns the finished handshake into a keypair and gives it its place: the initiator uses it at once, the
/// responder only after it heard it used. Unlike Linux (noise.c, add_new_keypair) this drops no keys that the
/// peer may still send with, however fast one handshake follows another: they go when a packet came under
/// newer ones.
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
  peer.given_endpoint.reset();
  peer.given_endpoint_tried = false;
  if (initiator) {
    peer.retry_armed = false;
    discard(peer.previous.exchange(peer.current.exchange(keypair)));
  } else {
    discard(peer.next.exchange(keypair));
  }
  peer.last_handshake.store(now, std::memory_order_relaxed);
  arm(peer, now);
}

}  // namespace omerta::session
