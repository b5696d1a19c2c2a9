// SPDX-License-Identifier: Apache-2.0
// The timers of a peer (whitepaper section 6). None is started or stopped: what happened is kept in the peer,
// and from that a timer's row tells when it is due. So the heap of deadlines needs one entry for each peer,
// the earliest of its rows, and packets start timers by storing a number, without the mutex.
#include <algorithm>

#include "session/session_table.h"

namespace omerta::session {
namespace {

Nanoseconds read(const std::atomic<Nanoseconds>& moment) { return moment.load(std::memory_order_relaxed); }

/// When `time` has passed since a moment; kNever while that is 0, which means that it has not come.
Nanoseconds after(const std::atomic<Nanoseconds>& moment, Nanoseconds time) {
  const Nanoseconds since = read(moment);
  return since == 0 ? kNever : since + time;
}

bool has_keys(const Peer& peer) {
  return peer.current.load(std::memory_order_relaxed) != nullptr ||
         peer.previous.load(std::memory_order_relaxed) != nullptr ||
         peer.next.load(std::memory_order_relaxed) != nullptr;
}

/// At once when nothing was sent or heard yet, however short the clock has been running.
Nanoseconds persistent_keepalive_due(const Peer& peer) {
  const Nanoseconds last = std::max(read(peer.last_sent), read(peer.last_received));
  return last == 0 ? 0 : last + peer.persistent_keepalive;
}

}  // namespace

/// One timer: when it is due as things stand, kNever when it is not running, and what is done then. Having
/// done it, a row is due later or not at all.
struct SessionTable::PeerTimer {
  Nanoseconds (*due)(const SessionTable& table, const Peer& peer, Nanoseconds now);
  void (*fired)(SessionTable& table, Peer& peer, Nanoseconds now, SessionOutput& out);
};

/// Looked through from top to bottom: what an upper row does counts for when the lower ones are due.
const SessionTable::PeerTimer SessionTable::kPeerTimers[] = {
    // No session came of an initiation: another one, or the end of the attempts.
    {.due =
         [](const SessionTable&, const Peer& peer, Nanoseconds) {
           return peer.retry_armed ? read(peer.last_initiation) + kRekeyTimeout + peer.jitter : kNever;
         },
     .fired =
         [](SessionTable& table, Peer& peer, Nanoseconds now, SessionOutput& out) {
           if (now - peer.attempts_since < kRekeyAttemptTime) return table.initiate(peer, now, out, true);
           table.abandon_handshake(peer);
           peer.staged.clear();
           peer.unanswered_since.store(0, std::memory_order_relaxed);
           out.session_lost(peer);
         }},
    // A handshake waits for an endpoint: the control plane is asked again.
    {.due =
         [](const SessionTable&, const Peer& peer, Nanoseconds) {
           return peer.handshake_wanted && !peer.retry_armed ? peer.last_path_needed + kPathNeededInterval
                                                             : kNever;
         },
     .fired = [](SessionTable& table, Peer& peer, Nanoseconds now,
                 SessionOutput& out) { table.initiate(peer, now, out, false); }},
    // Data was sent and nothing came back, not even a keepalive: the session may be gone at the other end.
    {.due = [](const SessionTable&, const Peer& peer,
               Nanoseconds) { return after(peer.unanswered_since, kNewHandshakeTimeout + peer.jitter); },
     .fired =
         [](SessionTable& table, Peer& peer, Nanoseconds now, SessionOutput& out) {
           peer.unanswered_since.store(0, std::memory_order_relaxed);
           if (!peer.retry_armed) table.initiate(peer, now, out, true);
         }},
    // An offer or proof of suites was not answered.
    {.due =
         [](const SessionTable&, const Peer& peer, Nanoseconds) {
           const Keypair* current = peer.current.load(std::memory_order_relaxed);
           return current == nullptr ? kNever : next_negotiation_step(current->negotiation);
         },
     .fired = [](SessionTable& table, Peer& peer, Nanoseconds now,
                 SessionOutput& out) { table.drive_negotiation(peer, now, out); }},
    // Data was received and nothing sent back: a keepalive answers it.
    {.due = [](const SessionTable&, const Peer& peer,
               Nanoseconds) { return after(peer.keepalive_owed_since, kKeepaliveTimeout); },
     .fired =
         [](SessionTable& table, Peer& peer, Nanoseconds now, SessionOutput& out) {
           peer.keepalive_owed_since.store(0, std::memory_order_relaxed);
           table.send_packet(peer, {}, now, out);
         }},
    // Nothing authenticated went either way for the time that was configured. Without a session it is a
    // handshake that is due, but not while one is under way.
    {.due =
         [](const SessionTable& table, const Peer& peer, Nanoseconds now) {
           if (peer.persistent_keepalive == 0 || !peer.endpoint().known() || !table.has_identity_)
             return kNever;
           const Keypair* current = peer.current.load(std::memory_order_relaxed);
           if (current != nullptr && !current->expired(now)) return persistent_keepalive_due(peer);
           if (peer.retry_armed) return kNever;
           const Nanoseconds last = read(peer.last_initiation);
           return std::max(persistent_keepalive_due(peer), last == 0 ? 0 : last + kRekeyTimeout);
         },
     .fired = [](SessionTable& table, Peer& peer, Nanoseconds now,
                 SessionOutput& out) { table.send_persistent_keepalive(peer, now, out); }},
    // It has moved again soon after that was told.
    {.due =
         [](const SessionTable&, const Peer& peer, Nanoseconds) {
           return peer.endpoint_untold.load(std::memory_order_relaxed)
                      ? read(peer.endpoint_told) + kEndpointInterval
                      : kNever;
         },
     .fired =
         [](SessionTable&, Peer& peer, Nanoseconds now, SessionOutput& out) {
           peer.endpoint_untold.store(false, std::memory_order_relaxed);
           peer.endpoint_told.store(now, std::memory_order_relaxed);
           out.endpoint_changed(peer);
         }},
    // No new keys for three lifetimes of a key: all are erased.
    {.due = [](const SessionTable&, const Peer& peer,
               Nanoseconds) { return has_keys(peer) ? after(peer.last_handshake, kZeroKeysTime) : kNever; },
     .fired = [](SessionTable& table, Peer& peer, Nanoseconds, SessionOutput&) { table.drop_keys(peer); }},
};

void SessionTable::handle_timers(Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  while (Peer* peer = timers_.take_due(now)) {
    for (const PeerTimer& timer : kPeerTimers)
      if (timer.due(*this, *peer, now) <= now) timer.fired(*this, *peer, now, out);
    arm(*peer, now);
  }
  serve_paths(now, out);
  qsbr_.reclaim();
}

// ---- paths ----------------------------------------------------------------------------------------
// Their timers are due to the millisecond, while those of peers are looked at whenever a worker runs: so they
// have a heap of their own, and wake a sleeping worker.

const SessionTable::PeerTimer SessionTable::kPathTimers[] = {
    // Data was sent by the active path, and by it came neither a report nor an answer.
    {.due = [](const SessionTable&, const Peer& peer,
               Nanoseconds) { return peer.paths.load(std::memory_order_acquire)->silent_at(); },
     .fired = [](SessionTable& table, Peer& peer, Nanoseconds,
                 SessionOutput& out) { table.find_silence(peer, out); }},
    // Data came by a path, and the peer was not told.
    {.due = [](const SessionTable&, const Peer& peer,
               Nanoseconds) { return peer.paths.load(std::memory_order_acquire)->report_at(); },
     .fired = [](SessionTable& table, Peer& peer, Nanoseconds now,
                 SessionOutput& out) { table.send_due_reports(peer, now, out); }},
};

void SessionTable::handle_path_timers(Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  serve_paths(now, out);
}

void SessionTable::serve_paths(Nanoseconds now, SessionOutput& out) {
  while (Peer* peer = path_timers_.take_due(now)) {
    for (const PeerTimer& timer : kPathTimers)
      if (timer.due(*this, *peer, now) <= now) timer.fired(*this, *peer, now, out);
    set_path_timer(*peer, now);
  }
  wake_for_paths();
}

void SessionTable::set_path_timer(Peer& peer, Nanoseconds now) {
  const PathSet* set = peer.paths.load(std::memory_order_acquire);
  if (set == nullptr || suspended_) return path_timers_.cancel(peer);
  // First of all: a packet that starts a timer from here on either finds that nobody looks, or is seen below.
  set->state().looked_at.store(kNever, std::memory_order_seq_cst);
  Nanoseconds due = kNever;
  for (const PeerTimer& timer : kPathTimers) due = std::min(due, timer.due(*this, peer, now));
  if (due == kNever) return path_timers_.cancel(peer);
  path_timers_.set(peer, std::max(due, now + 1));
  set->state().looked_at.store(due, std::memory_order_seq_cst);
}

void SessionTable::arm_paths(Peer& peer, Nanoseconds now) {
  set_path_timer(peer, now);
  wake_for_paths();
}

void SessionTable::arm_paths_unlocked(Peer& peer, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  if (!peer.removed) arm_paths(peer, now);
}

void SessionTable::cancel_path_timer(Peer& peer) {
  path_timers_.cancel(peer);
  wake_for_paths();
}

void SessionTable::wake_for_paths() {
  if (path_timers_.next() == wake_at_) return;
  wake_at_ = path_timers_.next();
  environment_.wake_at(wake_at_);
}

/// The peer is looked at again when the first of its timers is due. A packet may start one without the mutex
/// meanwhile, and then it is due KEEPALIVE_TIMEOUT later at the earliest: a peer with keys is looked at that
/// often. One without keys costs nothing.
void SessionTable::arm(Peer& peer, Nanoseconds now) {
  Nanoseconds due = has_keys(peer) ? now + kKeepaliveTimeout : kNever;
  for (const PeerTimer& timer : kPeerTimers) due = std::min(due, timer.due(*this, peer, now));
  if (suspended_ || due == kNever)
    timers_.cancel(peer);
  else
    timers_.set(peer, std::max(due, now + 1));
}

}  // namespace omerta::session
