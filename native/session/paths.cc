// SPDX-License-Identifier: Apache-2.0
// Several ways to one peer (session/path_set.h; ts/contract/path-control.ts): how sets are replaced, what is
// sent and received by a path, and what becomes of path frames. Frames are answered by whoever received them,
// without the mutex.
#include <algorithm>

#include "session/session_table.h"

namespace omerta::session {
namespace {

/// Of a session that may be sent in; nullptr: there is none.
Keypair* usable(const Peer& peer, Nanoseconds now) {
  Keypair* keypair = peer.sending();
  return keypair != nullptr && !keypair->expired(now) ? keypair : nullptr;
}

}  // namespace

// ---- configuration --------------------------------------------------------------------------------

void SessionTable::set_paths(const std::vector<PathSettings>& sets, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  for (const PathSettings& settings : sets)
    if (Peer* peer = find_peer(settings.peer); peer != nullptr) replace_paths(*peer, settings, now, out);
  qsbr_.reclaim();
}

void SessionTable::replace_paths(Peer& peer, const PathSettings& settings, Nanoseconds now,
                                 SessionOutput& out) {
  PathSet* before = peer.paths.load(std::memory_order_relaxed);
  PathSet* after = settings.answers ? new PathSet(settings, before) : nullptr;
  const PathSet::Path* active = after == nullptr ? nullptr : after->active();
  if (active != nullptr && !peer.pinned()) {
    peer.endpoint_without_paths = peer.given_endpoint.value_or(peer.endpoint());
    peer.given_endpoint.reset();
    peer.given_endpoint_tried = false;
    peer.endpoint_untold.store(false, std::memory_order_relaxed);
  }
  peer.paths.store(after, std::memory_order_release);
  if (active != nullptr) {
    peer.pin(active->ends);
  } else if (peer.pinned()) {
    // Reached where it was until it is heard elsewhere.
    const Endpoint& known = peer.endpoint_without_paths;
    peer.let_go(known.known() ? known : peer.endpoint());
  }
  retire_paths(before);
  arm_paths(peer, now);
  if (active == nullptr || (!peer.handshake_wanted && peer.staged.empty())) return;
  flush_staged(peer, now, out);
  if (peer.handshake_wanted || !peer.staged.empty()) want_handshake(peer, now, out);
}

void SessionTable::retire_paths(PathSet* set) {
  if (set != nullptr) qsbr_.retire([set] { delete set; });
}

/// The legs of a peer's paths lead back another way. One that is gone stays as it was: what is sent by it
/// arrives nowhere, which is what the silence of a path is for.
void SessionTable::change_path_legs(Peer& peer, const WaysBack& changed) {
  if (const auto found = changed.find(peer.endpoint_without_paths.receive_leg);
      found != changed.end() && peer.endpoint_without_paths.relayed())
    peer.endpoint_without_paths = found->second.value_or(Endpoint{});
  PathSet* before = peer.paths.load(std::memory_order_relaxed);
  if (before == nullptr) return;
  const PathSet::Path* control = before->control();
  PathSettings settings{.timing = before->timing,
                        .probe_rules = before->probe_rules,
                        .control = control == nullptr ? uint8_t{0} : control->id};
  bool any = false;
  for (const PathSet::Path& path : before->paths()) {
    const auto found = path.ends.relayed() ? changed.find(path.ends.receive_leg) : changed.end();
    const bool leads_elsewhere = found != changed.end() && found->second.has_value();
    settings.paths.push_back(
        {path.id, leads_elsewhere ? *found->second : path.ends, path.plpmtu, path.share});
    any |= leads_elsewhere;
  }
  if (!any) return;
  auto* after = new PathSet(settings, before);
  peer.paths.store(after, std::memory_order_release);
  peer.pin(after->active()->ends);
  retire_paths(before);
}

bool SessionTable::send_probe(const PathProbe& probe, Nanoseconds now, SessionOutput& out) {
  const std::lock_guard lock(mutex_);
  const Peer* peer = find_peer(probe.peer);
  Keypair* keypair = peer == nullptr || suspended_ ? nullptr : usable(*peer, now);
  if (keypair == nullptr) return false;
  std::vector<uint8_t> payload(probe_payload_size(probe.size, framing_of(probe.to)));
  write_probe(payload, probe.token, now);
  return send_by(aead_, *keypair, probe.to, payload, now, out, probe.size != 0);
}

std::vector<PathCounts> SessionTable::path_counts(const Key32& key) {
  const std::lock_guard lock(mutex_);
  std::vector<PathCounts> counts;
  const Peer* peer = find_peer(key);
  const PathSet* set = peer == nullptr ? nullptr : peer->paths.load(std::memory_order_relaxed);
  if (set == nullptr) return counts;
  const auto read = [](const auto& value) { return value.load(std::memory_order_relaxed); };
  for (const PathSet::Path& path : set->paths()) {
    const PathUse& use = *path.use;
    counts.push_back({path.id, read(use.sent_packets), read(use.sent_bytes), read(use.received_packets),
                      read(use.received_bytes), read(use.last_received)});
  }
  return counts;
}

// ---- what comes in --------------------------------------------------------------------------------

const PathSet::Path* SessionTable::heard_by_path(const PathSet& set, const Endpoint& from, Nanoseconds now) {
  const PathSet::Path* path = set.at(from);
  if (path != nullptr) path->use->last_received.store(now, std::memory_order_relaxed);
  return path;
}

void SessionTable::data_by_path(Peer& peer, const PathSet& set, const PathSet::Path* path,
                                const Endpoint& from, Nanoseconds now, SessionOutput& out) {
  std::atomic<uint8_t>& told = set.state().arrival;
  const uint8_t id = path == nullptr ? 0 : path->id;
  if (set.active() == nullptr || (id != 0 && told.load(std::memory_order_relaxed) == id)) return;
  if (!set.state().arrivals.take(now)) return;
  told.store(id, std::memory_order_relaxed);
  out.path_event(peer, {.kind = PathEvent::Kind::arrival, .path = id, .ends = from});
}

void SessionTable::received_by_path(Peer& peer, const PathSet& set, const PathSet::Path& path, size_t packets,
                                    size_t bytes, bool data, Nanoseconds now, crypto::Aead& aead,
                                    SessionOutput& out) {
  PathUse& use = *path.use;
  use.received_packets.fetch_add(packets, std::memory_order_relaxed);
  use.received_bytes.fetch_add(bytes, std::memory_order_relaxed);
  if (!data || set.timing.report_every == 0 || use.report_at.load(std::memory_order_acquire) != 0) return;
  Nanoseconds reported = use.reported_at.load(std::memory_order_acquire);
  Nanoseconds untold = 0;
  const Nanoseconds due = reported + set.timing.report_every;
  if (reported == 0 || due <= now) {
    if (use.reported_at.compare_exchange_strong(reported, now, std::memory_order_acq_rel))
      return send_report(aead, peer, path, now, out);
  } else if (use.report_at.compare_exchange_strong(untold, due, std::memory_order_seq_cst) &&
             due < set.state().looked_at.load(std::memory_order_seq_cst)) {
    arm_paths_unlocked(peer, now);
  }
}

PathFrameOutcome SessionTable::handle_path_frame(Keypair& keypair, Bytes payload, const Endpoint& from,
                                                 Nanoseconds now, crypto::Aead& aead, SessionOutput& out) {
  Peer& peer = keypair.peer;
  note_received(peer, now);
  if (peer.next.load(std::memory_order_acquire) == &keypair) confirm(keypair, from, now, out);
  const PathSet* set = peer.paths.load(std::memory_order_acquire);
  if (set == nullptr) return PathFrameOutcome::dropped;
  const PathSet::Path* path = heard_by_path(*set, from, now);
  if (path != nullptr)
    received_by_path(peer, *set, *path, 1, payload.size() + kTransportOverhead, false, now, aead, out);
  const std::optional<PathFrame> frame = decode_path_frame(payload);
  if (!frame.has_value()) return PathFrameOutcome::dropped;
  PathState& state = set->state();
  if (path != nullptr && frame->kind != ControlKind::probe) {
    if (set->answered(*path, now)) out.path_event(peer, {.kind = PathEvent::Kind::heard, .path = path->id});
    if (set->silent_unseen()) arm_paths_unlocked(peer, now);
  }
  switch (frame->kind) {
    case ControlKind::probe: {
      if (!set->answers_probe(from)) return PathFrameOutcome::dropped;
      if (!state.probes.take(now)) return PathFrameOutcome::over_rate;
      const size_t size = payload.size() + kTransportOverhead + framing_of(from);
      const ProbeFrame answer = encode_probe_answer(*frame, from.relayed() ? omerta_address{} : from.remote,
                                                    static_cast<uint16_t>(size));
      Keypair* under = usable(peer, now);
      if (!send_by(aead, under == nullptr ? keypair : *under, from, answer, now, out))
        return PathFrameOutcome::taken;
      if (path == nullptr && state.strange_probes.take(now))
        out.path_event(peer, {.kind = PathEvent::Kind::strange_probe, .ends = from});
      return PathFrameOutcome::answered;
    }
    case ControlKind::probe_answer:
      if (!state.answers.take(now)) return PathFrameOutcome::over_rate;
      out.path_event(peer, {.kind = PathEvent::Kind::answered,
                            .ends = from,
                            .frame = *frame,
                            .rtt = static_cast<int64_t>(now - frame->stamp)});
      return PathFrameOutcome::taken;
    case ControlKind::path_report: {
      if (path == nullptr) return PathFrameOutcome::taken;
      Nanoseconds told = path->use->told_at.load(std::memory_order_relaxed);
      if ((told == 0 || now - told >= kPathReportInterval) &&
          path->use->told_at.compare_exchange_strong(told, now, std::memory_order_relaxed))
        out.path_event(peer, {.kind = PathEvent::Kind::report,
                              .path = path->id,
                              .frame = *frame,
                              .sent = path->use->sent_packets.load(std::memory_order_relaxed)});
      return PathFrameOutcome::taken;
    }
    default:
      return PathFrameOutcome::dropped;
  }
}

// ---- timers ---------------------------------------------------------------------------------------

/// The active path has fallen silent: all goes by the standby too from here on.
void SessionTable::find_silence(Peer& peer, SessionOutput& out) {
  const PathSet& set = *peer.paths.load(std::memory_order_relaxed);
  set.state().silent.store(true, std::memory_order_relaxed);
  out.path_event(peer, {.kind = PathEvent::Kind::silent, .path = set.active()->id});
}

void SessionTable::send_due_reports(Peer& peer, Nanoseconds now, SessionOutput& out) {
  const PathSet& set = *peer.paths.load(std::memory_order_relaxed);
  for (const PathSet::Path& path : set.paths()) {
    const Nanoseconds due = path.use->report_at.load(std::memory_order_relaxed);
    if (due == 0 || due > now) continue;
    path.use->reported_at.store(now, std::memory_order_release);
    path.use->report_at.store(0, std::memory_order_release);
    send_report(aead_, peer, path, now, out);
  }
}

void SessionTable::send_report(crypto::Aead& aead, Peer& peer, const PathSet::Path& path, Nanoseconds now,
                               SessionOutput& out) {
  Keypair* keypair = usable(peer, now);
  if (keypair == nullptr) return;
  const ReportFrame report = encode_path_report(path.use->received_packets.load(std::memory_order_relaxed));
  send_by(aead, *keypair, path.ends, report, now, out);
}

}  // namespace omerta::session
