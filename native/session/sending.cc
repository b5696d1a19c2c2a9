// SPDX-License-Identifier: Apache-2.0
// What is sent inside sessions: packets the table seals itself (keepalives, control messages, suite frames,
// packets that waited for a key), those that wait, and what sending does to a peer's timers.
#include "common/ecn.h"
#include "session/ping_frame.h"
#include "session/session_table.h"
#include "session/transport_message.h"

namespace omerta::session {
namespace {

/// A message of `bytes` was sealed and sent. Returns whether the key is so old or so much used that the
/// session is to be renewed. Inlined, because the packet path does it for each batch.
[[gnu::always_inline]] inline bool note_sent(Keypair& keypair, size_t bytes, Nanoseconds now) {
  Peer& peer = keypair.peer;
  peer.tx_bytes.fetch_add(bytes, std::memory_order_relaxed);
  peer.last_sent.store(now, std::memory_order_relaxed);
  if (peer.keepalive_owed_since.load(std::memory_order_relaxed) != 0)
    peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
  const bool worn = keypair.worn_by(bytes);
  return worn || (keypair.initiator && now - keypair.created >= kRekeyAfterTime);
}

/// Seals a packet, padded to `text_size` at least, into `message`, which has room for that and for
/// padded_size(packet.size(), inner_mtu); 0: the key may not be used (any more), else how many bytes the
/// message has.
size_t seal_one(crypto::Aead& aead, Keypair& keypair, Bytes packet, size_t inner_mtu, Nanoseconds now,
                std::span<uint8_t> message, size_t text_size = 0) {
  const CounterRange counter = keypair.take_counters(1, now);
  if (counter.count == 0) return 0;
  crypto::AeadJob job = write_transport(message.data(), keypair, counter.first, packet.size(), inner_mtu,
                                        [packet](uint8_t* text) {
                                          if (!packet.empty())
                                            std::memcpy(text, packet.data(), packet.size());
                                        });
  pad_to(job, text_size);
  aead.seal(std::span(&job, 1));
  return job.ok ? kTransportOverhead + job.size : 0;
}

/// Whether shaping pads it: IP packets and messages, whose lengths tell something. Keepalives, pings and what
/// engines say to each other have few lengths, whatever is said.
bool is_padded(Bytes packet) {
  return !packet.empty() &&
         (!is_control_frame(packet) || is_control_frame(packet, ControlKind::message, ControlKind::message));
}

/// Whether the control plane sends it, or pings: they may have a path of their own (PathSet::control).
bool is_control_plane(Bytes packet) {
  return is_control_frame(packet, ControlKind::message, ControlKind::pong);
}

/// It held data, which the peer answers at least with a keepalive.
void expect_answer(Peer& peer, Nanoseconds now) {
  if (peer.unanswered_since.load(std::memory_order_relaxed) == 0)
    peer.unanswered_since.store(now, std::memory_order_relaxed);
}

/// Keeps a packet until there is a key; of too many the oldest is dropped. How many were (0 or 1).
size_t keep(Peer& peer, Bytes packet) {
  size_t dropped = 0;
  if (peer.staged.size() >= kMaxStagedPackets) {
    peer.staged.pop_front();
    dropped = 1;
  }
  peer.staged.emplace_back(packet.begin(), packet.end());
  return dropped;
}

}  // namespace

/// Seals one packet and sends it; false when the key may not be used (any more).
bool SessionTable::send_under(Keypair& keypair, Bytes packet, Nanoseconds now, SessionOutput& out) {
  if (suspended_) return false;
  Peer& peer = keypair.peer;
  const Endpoint endpoint = peer.endpoint();
  if (!endpoint.known()) return false;
  const PathSet* set = peer.paths.load(std::memory_order_acquire);
  const PathSet::Path* by = set != nullptr && is_control_plane(packet) ? set->control() : nullptr;
  const size_t limit = set == nullptr ? out.inner_mtu() : std::min(out.inner_mtu(), set->inner_limit());
  size_t text_size = padded_size(packet.size(), limit);
  if (const Shaping* shaping = peer.shaping.load(std::memory_order_acquire);
      shaping != nullptr && is_padded(packet)) {
    const size_t padding_limit = set == nullptr ? limit : std::min(limit, set->padding_limit(by));
    const size_t wanted = std::max(text_size, shaping->text_size(packet.size(), padding_limit));
    if (shaping->afford(1, text_size, wanted - text_size))
      text_size = wanted;
    else
      out.padding_left_out();
  }
  std::vector<uint8_t> message(kTransportOverhead + text_size);
  if (seal_one(aead_, keypair, packet, limit, now, message, text_size) == 0) return false;
  if (by != nullptr)
    by->use->sent(1, message.size());
  else if (set != nullptr)
    set->sent(1, message.size());
  transmit(peer, by == nullptr ? endpoint : by->ends, message,
           packet.size() < 2 ? kNotEct : ecn_of(packet.data()), out, by);
  if (note_sent(keypair, message.size(), now)) want_handshake(peer, now, out);
  return true;
}

bool SessionTable::send_cover(const Key32& key, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  Peer* peer = find_peer(key);
  const Shaping* shaping = peer == nullptr ? nullptr : peer->shaping.load(std::memory_order_acquire);
  if (shaping == nullptr || suspended_) return false;
  Keypair* keypair = peer->sending();
  if (keypair == nullptr) return false;
  if (keypair->expired(now)) {
    // Whoever had a session is not to be seen to have nothing to say.
    want_handshake(*peer, now, out);
    return false;
  }
  const PathSet* set = peer->paths.load(std::memory_order_acquire);
  const size_t limit = set == nullptr ? out.inner_mtu() : std::min(out.inner_mtu(), set->padding_limit());
  std::vector<uint8_t> cover(shaping->text_size(kControlHeaderSize, limit));
  if (!shaping->afford_cover(cover.size())) return false;
  write_control_header(cover.data(), ControlKind::cover, cover.size() - kControlHeaderSize);
  return send_under(*keypair, cover, now, out);
}

/// To where the peer is reached, or by a path that is not the active one, and as long as that is silent by
/// the standby too.
void SessionTable::transmit(Peer& peer, const Endpoint& to, Bytes message, uint8_t traffic_class,
                            SessionOutput& out, const PathSet::Path* by) {
  out.send(to, message, traffic_class);
  const PathSet* set = peer.paths.load(std::memory_order_acquire);
  if (set == nullptr) return;
  const PathSet::Path* standby = set->duplicates_by();
  if (standby == nullptr || (by != nullptr && by->use == standby->use)) return;
  if (message[0] == kTransportType) standby->use->sent(1, message.size());
  out.send(standby->ends, message, traffic_class);
  out.path_duplicate();
}

/// Seals a small packet, or a probe, and sends it by these ends, wherever else the peer is reached. It is no
/// data and renews nothing. Needs no lock; false: the key may not be used (any more).
bool SessionTable::send_by(crypto::Aead& aead, Keypair& keypair, const Endpoint& to, Bytes packet,
                           Nanoseconds now, SessionOutput& out, bool unfragmented) {
  // What is to show a size has that size, and no padding of the message's beside its own.
  const size_t inner_mtu = unfragmented ? packet.size() : out.inner_mtu();
  std::array<uint8_t, kTransportOverhead + kProbeSize> small;
  std::vector<uint8_t> large;
  std::span<uint8_t> message = small;
  if (packet.size() > kProbeSize) {
    large.resize(kTransportOverhead + padded_size(packet.size(), inner_mtu));
    message = large;
  }
  const size_t size = seal_one(aead, keypair, packet, inner_mtu, now, message);
  if (size == 0) return false;
  const Bytes sealed = Bytes(message).first(size);
  if (const PathSet* set = keypair.peer.paths.load(std::memory_order_acquire); set != nullptr)
    if (const PathSet::Path* path = set->at(to); path != nullptr) path->use->sent(1, size);
  if (unfragmented)
    out.send_unfragmented(to, sealed);
  else
    out.send(to, sealed, 0);
  note_sent(keypair, size, now);
  return true;
}

bool SessionTable::send_packet(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out) {
  Keypair* keypair = peer.sending();
  const Nanoseconds previous = peer.last_sent.load(std::memory_order_relaxed);
  if (keypair == nullptr || !send_under(*keypair, packet, now, out)) return false;
  if (packet.empty()) {
    count_keepalive(out);
    return true;
  }
  expect_answer(peer, now);
  // What went by another path is no question of the active one's silence.
  if (const PathSet* set = peer.paths.load(std::memory_order_acquire);
      set != nullptr && !(is_control_plane(packet) && set->control() != nullptr) && set->data_sent(now))
    arm_paths(peer, now);
  if (offer_due(*keypair, previous, now)) offer_suites(*keypair, now, out);
  return true;
}

void SessionTable::send_persistent_keepalive(Peer& peer, Nanoseconds now, SessionOutput& out) {
  if (peer.endpoint().known() && !send_packet(peer, {}, now, out) && !peer.retry_armed)
    want_handshake(peer, now, out);
}

bool SessionTable::send_inside(const Key32& key, Bytes packet, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  Peer* peer = find_peer(key);
  if (peer == nullptr) return false;
  if (!send_packet(*peer, packet, now, out)) {
    keep(*peer, packet);
    want_handshake(*peer, now, out);
  }
  return true;
}

bool SessionTable::answer_ping(Peer& peer, Bytes ping, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  return !peer.removed && send_packet(peer, pong_to(ping), now, out);
}

void SessionTable::flush_staged(Peer& peer, Nanoseconds now, SessionOutput& out) {
  while (!peer.staged.empty() && send_packet(peer, peer.staged.front(), now, out)) peer.staged.pop_front();
}

size_t SessionTable::stage(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  if (peer.removed) return 1;
  const size_t dropped = keep(peer, packet);
  // The key may have arrived between the caller's look and our lock.
  flush_staged(peer, now, out);
  if (!peer.staged.empty()) want_handshake(peer, now, out);
  return dropped;
}

void SessionTable::data_sent(Keypair& keypair, size_t bytes, Nanoseconds now, SessionOutput& out,
                             bool by_active) {
  Peer& peer = keypair.peer;
  const Nanoseconds previous = peer.last_sent.load(std::memory_order_relaxed);
  expect_answer(peer, now);
  if (const PathSet* set = peer.paths.load(std::memory_order_acquire); set != nullptr) [[unlikely]]
    if (by_active && set->data_sent(now)) arm_paths_unlocked(peer, now);
  const bool old = note_sent(keypair, bytes, now);
  if (offer_due(keypair, previous, now)) {
    const std::lock_guard lock(mutex_);
    if (!peer.removed) offer_suites(keypair, now, out);
  }
  if (old) renew(peer, now, out);
}

}  // namespace omerta::session
