// SPDX-License-Identifier: Apache-2.0
// What workers and the control thread do alike when the session table asks something of them:
// wrap a message for a leg, count, and tell the control plane.
#pragma once

#include "engine/path_events.h"
#include "engine/shared.h"

namespace omerta::engine {

/// Writes the header of a forward frame whose `size` bytes (header included) start at `frame`; the
/// payload must be in place already, because the tag covers its first 16 bytes.
inline void write_frame_header(uint8_t* frame, size_t size, const session::Endpoint& to) {
  frame[0] = OMERTA_FRAME_MAGIC;
  frame[1] = OMERTA_KIND_FORWARD;
  frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
  frame[3] = static_cast<uint8_t>(to.send_epoch);
  store(frame + 4, to.send_leg);
  store(frame + 8, omerta_frame_tag(to.send_key, frame, static_cast<__u32>(size)));
}

/// The endpoint that a `deliver` leg leads back to.
inline session::Endpoint endpoint_of(const omerta_leg& leg) {
  session::Endpoint endpoint;
  std::memcpy(endpoint.remote.ip, leg.next_ip, 16);
  endpoint.remote.port = leg.next_port;
  endpoint.receive_leg = leg.leg_id;
  endpoint.send_leg = leg.next_leg_id;
  endpoint.send_epoch = leg.next_key_epoch;
  std::memcpy(endpoint.send_key, leg.next_key, sizeof leg.next_key);
  return endpoint;
}

class EventOutput : public session::SessionOutput {
 public:
  EventOutput(Shared& shared, CounterRow& counters) : shared_(shared), counters_(counters) {}

  Shared& shared() { return shared_; }
  CounterRow& counters() { return counters_; }
  /// Frames, headers included, that leave by a leg.
  void count_sent(const session::Endpoint& to, size_t frames, size_t bytes) {
    if (to.relayed()) shared_.sent.add(to.receive_leg, frames, bytes);
  }
  /// A datagram that did not wait for its turn.
  void charge(const session::Endpoint& to, size_t size) {
    if (shared_.egress.limits()) [[unlikely]]
      shared_.egress.charge(to, size, boot_clock());
  }
  void emit(EventType type, std::initializer_list<Bytes> parts) {
    counters_.add(shared_.events.write(type, parts) ? Counter::events_queued : Counter::drop_event_ring_full);
  }

  size_t inner_mtu() const override { return shared_.inner_mtu.load(std::memory_order_relaxed); }
  void session_established(session::Peer& peer, const session::Endpoint& at) override {
    counters_.add(Counter::handshakes_completed);
    know(at);
    with_endpoint(EventType::session, peer, at);
  }
  void endpoint_changed(session::Peer& peer) override {
    const session::Endpoint at = peer.endpoint();
    counters_.add(Counter::endpoint_changes);
    know(at);
    with_endpoint(EventType::endpoint, peer, at);
  }
  void path_needed(session::Peer& peer) override { emit(EventType::path_needed, {peer.remote.public_key}); }
  void session_lost(session::Peer& peer) override { emit(EventType::session_lost, {peer.remote.public_key}); }
  void suite_step(session::SuiteStep step) override {
    constexpr Counter kCounters[] = {Counter::suite_offers_sent, Counter::suite_offers_received,
                                     Counter::suites_settled, Counter::suites_given_up};
    counters_.add(kCounters[static_cast<size_t>(step)]);
  }
  void path_event(session::Peer& peer, const session::PathEvent& event) override {
    const PathRecord record = record_of(event);
    emit(record.type, {peer.remote.public_key, record.bytes()});
  }
  void path_duplicate() override { counters_.add(Counter::path_duplicates_sent); }
  void initiation_sent() override { counters_.add(Counter::handshake_initiations_sent); }
  void keepalive_sent() override { counters_.add(Counter::keepalives_sent); }
  void padding_left_out() override { counters_.add(Counter::padding_over_budget); }

 protected:
  Shared& shared_;
  CounterRow& counters_;

 private:
  /// The peer's address is known from now on, unless that is a relay's.
  void know(const session::Endpoint& at) {
    if (!at.relayed()) shared_.stranger_budgets.know(at.remote.ip, boot_clock());
  }
  void with_endpoint(EventType type, const session::Peer& peer, const session::Endpoint& endpoint) {
    uint8_t where[24] = {};
    std::memcpy(where, endpoint.remote.ip, 16);
    store(where + 16, __builtin_bswap16(endpoint.remote.port));
    store(where + 20, endpoint.receive_leg);
    emit(type, {peer.remote.public_key, where});
  }
};

}  // namespace omerta::engine
