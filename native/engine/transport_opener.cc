// SPDX-License-Identifier: Apache-2.0
#include "engine/transport_opener.h"

#include "common/ecn.h"
#include "session/ping_frame.h"
#include "session/witness.h"

namespace omerta::engine {
namespace {

/// A transport payload is an IP packet by its first nibble, or else a control frame (docs/protocol.md).
bool is_ip(const uint8_t* payload) { return payload[0] >> 4 == 4 || payload[0] >> 4 == 6; }

/// Where a packet came from and to, the latter even if nothing is sent from there (ReturnAddresses::avoids).
session::Endpoint ends_of(const session::Endpoint& from, const udp::Message& message) {
  session::Endpoint ends = from;
  if (!ends.relayed()) ends.local = message.local;
  return ends;
}

}  // namespace

TransportOpener::TransportOpener(Sender& out, crypto::Aead& aead, AcceleratorWatch& watch,
                                 inner::Coalescing* coalescing)
    : out_(out),
      shared_(out.shared()),
      counters_(out.counters()),
      aead_(aead),
      watch_(watch),
      coalescing_(coalescing),
      openings_(new Opening[kJobs]),
      jobs_(new crypto::AeadJob[kJobs]),
      sources_(new session::Endpoint[kJobs + 1]) {}

session::Endpoint& TransportOpener::new_source() {
  if (sources_count_ > kJobs) finish();
  source_message_ = nullptr;
  source_leg_ = 0;
  return sources_[sources_count_++] = {};
}

const session::Endpoint* TransportOpener::source(uint32_t leg_id) {
  if (source_leg_ != leg_id) {
    omerta_leg leg;
    if (!shared_.legs.find(leg_id, leg)) return nullptr;
    new_source() = endpoint_of(leg);
    source_leg_ = leg_id;
  }
  return &sources_[sources_count_ - 1];
}

void TransportOpener::finish() {
  if (count_ != 0) {
    aead_.open(std::span(jobs_.get(), count_));
    for (size_t i = 0; i < count_; i++) opened(openings_[i], jobs_[i]);
    end_run();
    count_ = 0;
  }
  forget_sources();
}

void TransportOpener::clear() {
  count_ = 0;
  run_ = {};
  forget_sources();
}

/// Packets of one session from one place are counted in the peer, which workers share, together.
void TransportOpener::end_run() {
  if (run_.keypair != nullptr) {
    session::Peer& peer = run_.keypair->peer;
    peer.rx_bytes.fetch_add(run_.bytes, std::memory_order_relaxed);
    if (run_.path != nullptr) [[unlikely]]
      shared_.sessions->received_by_path(peer, *run_.paths, *run_.path, run_.packets, run_.bytes, run_.data,
                                         now_, aead_, out_);
  }
  run_ = {};
}

void TransportOpener::begin_run(const Opening& opening) {
  end_run();
  session::Keypair& keypair = *opening.keypair;
  shared_.sessions->authenticated(keypair, *opening.from, now_, out_);
  if (!opening.from->relayed()) shared_.proven_remotes.learn(opening.from->remote, opening.from->local);
  keypair.peer.bursts.received(now_);
  run_ = {&keypair, opening.from};
  run_.paths = keypair.peer.paths.load(std::memory_order_acquire);
  if (run_.paths != nullptr) [[unlikely]]
    run_.path =
        session::SessionTable::heard_by_path(*run_.paths, ends_of(*opening.from, *opening.message), now_);
}

/// The first packet with data of a run whose peer has a path set.
void TransportOpener::begin_path_data(const Opening& opening) {
  run_.data = true;
  session::SessionTable::data_by_path(opening.keypair->peer, *run_.paths, run_.path,
                                      ends_of(*opening.from, *opening.message), now_, out_);
}

/// A path frame: wherever it came from, the peer's endpoint stays where it is.
void TransportOpener::path_frame(const Opening& opening, Bytes payload) {
  end_run();
  opening.keypair->peer.rx_bytes.fetch_add(payload.size() + session::kTransportOverhead,
                                           std::memory_order_relaxed);
  switch (shared_.sessions->handle_path_frame(*opening.keypair, payload,
                                              ends_of(*opening.from, *opening.message), now_, aead_, out_)) {
    case session::PathFrameOutcome::taken:
      return;
    case session::PathFrameOutcome::answered:
      return counters_.add(Counter::path_probes_answered);
    case session::PathFrameOutcome::dropped:
      return counters_.add(Counter::drop_path_frame);
    case session::PathFrameOutcome::over_rate:
      return counters_.add(Counter::drop_path_rate);
  }
}

/// Whether a packet may go where it is for, of a peer that may not send everywhere; counted if not.
bool TransportOpener::may_pass(session::Transit transit, const uint8_t* packet, const inner::IpView& ip) {
  const session::ExitRules& rules = shared_.sessions->exit_rules();
  if (rules.is_own(ip.family, ip.destination)) return true;
  if (transit == session::Transit::none) {
    counters_.add(Counter::drop_no_exit_right);
    return false;
  }
  if (transit != session::Transit::exit && rules.permits_lan(ip.family, ip.destination)) return true;
  if (transit != session::Transit::lan && rules.permits(ip.family, ip.destination) &&
      !inner::is_mail(packet, ip))
    return true;
  counters_.add(Counter::drop_exit_denied);
  return false;
}

/// A suite frame or a cover, which are no data. false: it is something else.
bool TransportOpener::engine_frame(session::Keypair& keypair, Bytes payload) {
  if (session::is_cover(payload)) {
    counters_.add(Counter::covers_received);
    return true;
  }
  if (!session::is_suite_frame(payload)) return false;
  if (!shared_.sessions->handle_suite_frame(keypair, payload, now_, out_))
    counters_.add(Counter::drop_inner_malformed);
  return true;
}

void TransportOpener::opened(const Opening& opening, const crypto::AeadJob& job) {
  const bool coalesced = opening.message->segment < opening.message->size;
  if (!job.ok) {
    const session::Peer& peer = opening.keypair->peer;
    if (peer.endpoint().same_path(*opening.from))
      watch_.received_bad(coalesced, session::witness_of(*opening.from, peer.remote.public_key));
    return counters_.add(Counter::drop_decrypt_failed);
  }
  watch_.received_good(coalesced);
  session::Keypair& keypair = *opening.keypair;
  if (!keypair.accept(job.counter)) return counters_.add(Counter::drop_replayed);
  counters_.add(Counter::transport_received);
  const Bytes payload(job.text, job.size);
  const bool control = session::is_control_frame(payload);
  if (control && session::is_path_frame(payload)) return path_frame(opening, payload);
  if (run_.keypair != &keypair || (run_.from != opening.from && !run_.from->same_path(*opening.from)))
    begin_run(opening);
  run_.bytes += job.size + session::kTransportOverhead;
  run_.packets++;
  if (job.size == 0) return counters_.add(Counter::keepalives_received);
  if (control && engine_frame(keypair, payload)) return;
  session::SessionTable::data_received(keypair.peer, now_);
  if (run_.paths != nullptr && !run_.data) [[unlikely]]
    begin_path_data(opening);
  if (!is_ip(job.text)) {
    if (!keypair.peer.control_budget.take(now_)) return counters_.add(Counter::drop_peer_control_rate);
    if (session::is_ping(Bytes(job.text, job.size))) {
      if (shared_.sessions->answer_ping(keypair.peer, Bytes(job.text, job.size), now_, out_))
        counters_.add(Counter::pings_answered);
      return;
    }
    counters_.add(Counter::control_messages);
    const auto length = static_cast<uint32_t>(job.size);
    out_.emit(EventType::control,
              {keypair.peer.remote.public_key, Bytes(reinterpret_cast<const uint8_t*>(&length), 4),
               Bytes(job.text, job.size)});
    return;
  }
  const inner::IpView ip = inner::parse_ip(job.text, job.size);
  if (ip.family == 0) return counters_.add(Counter::drop_inner_malformed);
  if (shared_.sessions->routes().lookup(ip.family, ip.source) != &keypair.peer)
    return counters_.add(Counter::drop_inner_source);
  if (!decapsulate_ecn(job.text, opening.message->ecn)) return counters_.add(Counter::drop_inner_ecn);
  if (coalescing_ == nullptr) return counters_.add(Counter::drop_no_tun);
  const session::Transit transit = keypair.peer.transit.load(std::memory_order_relaxed);
  if (transit != session::Transit::any && !may_pass(transit, job.text, ip)) return;
  coalescing_->add(job.text, ip, counters_);
}

}  // namespace omerta::engine
