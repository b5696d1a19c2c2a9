// SPDX-License-Identifier: Apache-2.0
// How a session gets its second keypair (docs/protocol.md, "Suites"). Runs under the table's mutex, but
// for a look at each batch sent.
//
//   initiator or responder                          the other
//     offer  ── under the first keys ──►  keys made
//     keys made  ◄── first keys ── offer, "have"
//     proof  ── second keys ──►  opened
//     opened, settled  ◄── second keys ── proof, "opened"
//     proof, "settled"  ── second keys ──►  settled
//
// A side sends data under the second keys when it is settled: it then knows that each opened something of
// the other's, and both keep opening both pairs until the session ends. So no step can lose a packet, and
// a message that never arrives leaves the session as it was. A session makes its second pair at most once:
// its counter cannot start again under the same key.
#include <sodium.h>

#include "session/session_table.h"

namespace omerta::session {

/// Whether an offer may follow the packet just sent. A peer that does not know suites takes the offer for
/// data, which it answers with a keepalive and which keeps a silent session awake. So an offer goes out only
/// behind data that did both already, and only within a burst.
bool SessionTable::offer_due(const Keypair& keypair, Nanoseconds previous, Nanoseconds now) {
  return now >= keypair.next_offer.load(std::memory_order_relaxed) && keypair.sent() >= kOfferAfterMessages &&
         now - previous <= kOfferBurst;
}

void SessionTable::make_offer(Keypair& first) {
  SuiteOffer& offer = first.negotiation.offer;
  if (offer.local_index != 0) return;
  offer = {environment_.suites, indices_.allocate(first.peer, environment_.random),
           static_cast<uint32_t>(environment_.window)};
}

void SessionTable::offer_suites(Keypair& first, Nanoseconds now, SessionOutput& out) {
  SuiteNegotiation& negotiation = first.negotiation;
  // Another worker may have been here between offer_due and the mutex.
  if (first.peer.current.load(std::memory_order_relaxed) != &first ||
      now < first.next_offer.load(std::memory_order_relaxed))
    return;
  make_offer(first);
  negotiation.offers_sent++;
  negotiation.last_sent = now;
  first.next_offer.store(negotiation.offers_sent < kOffersPerSession ? now + kOfferInterval : kNever,
                         std::memory_order_relaxed);
  if (send_under(first, encode_offer(negotiation.offer, false), now, out)) out.suite_step(SuiteStep::offered);
  arm(first.peer, now);
}

bool SessionTable::handle_suite_frame(Keypair& keypair, Bytes payload, Nanoseconds now, SessionOutput& out) {
  Keypair& first = keypair.first_pair;
  const std::optional<ReceivedOffer> offer = decode_offer(payload);
  const std::optional<ProofState> proof = decode_proof(payload);
  if (!offer.has_value() && !proof.has_value()) return false;
  if (environment_.suites == 0) return true;
  if (first.suite_frames_received.fetch_add(1, std::memory_order_relaxed) >= kSuiteFramesPerSession)
    return true;
  const std::lock_guard lock(mutex_);
  // A session that was renewed meanwhile gets no second pair any more.
  if (first.peer.removed || first.peer.current.load(std::memory_order_relaxed) != &first) return true;
  const bool under_first = &keypair == &first;
  if (offer.has_value() && under_first) handle_offer(first, *offer, now, out);
  if (proof.has_value() && !under_first) handle_proof(first, *proof, now, out);
  arm(first.peer, now);
  return true;
}

void SessionTable::handle_offer(Keypair& first, const ReceivedOffer& received, Nanoseconds now,
                                SessionOutput& out) {
  SuiteNegotiation& negotiation = first.negotiation;
  out.suite_step(SuiteStep::offer_received);
  if (negotiation.keypair == nullptr) {
    const std::optional<crypto::Suite> suite = common_suite(environment_.suites, received.offer.suites);
    if (!suite.has_value()) return;
    make_offer(first);
    const SuiteOffer& ours = negotiation.offer;
    TransportKeys keys = derive_suite_keys(first.suite_secret, *suite,  //
                                           first.initiator ? ours : received.offer,
                                           first.initiator ? received.offer : ours, first.initiator);
    sodium_memzero(first.suite_secret.data(), first.suite_secret.size());
    negotiation.peers_offer = received.offer;
    negotiation.keypair = std::make_unique<Keypair>(
        first.peer, *suite, keys,
        Keypair::Origin{next_keypair_id_++, ours.local_index, received.offer.local_index, first.created,
                        first.initiator, environment_.window},
        &first);
    keys.wipe();
    indices_.promote(*negotiation.keypair);
    first.next_offer.store(kNever, std::memory_order_relaxed);
    negotiation.last_sent = now;
  } else if (received.offer != negotiation.peers_offer) {
    return;  // another offer than the one the keys were made of: the first holds for the session
  }
  if (!received.have)
    send_under(first, encode_offer(negotiation.offer, true), now, out);
  else if (!negotiation.settled)
    send_proof(first, now, out);
}

void SessionTable::handle_proof(Keypair& first, ProofState state, Nanoseconds now, SessionOutput& out) {
  SuiteNegotiation& negotiation = first.negotiation;
  negotiation.opened = true;
  if (state != ProofState::made && !negotiation.settled) {
    negotiation.settled = true;
    first.upgrade(negotiation.keypair.get());
    out.suite_step(SuiteStep::settled);
  }
  if (state != ProofState::settled) send_proof(first, now, out);
}

void SessionTable::send_proof(Keypair& first, Nanoseconds now, SessionOutput& out) {
  SuiteNegotiation& negotiation = first.negotiation;
  const ProofState state = negotiation.settled  ? ProofState::settled
                           : negotiation.opened ? ProofState::opened
                                                : ProofState::made;
  negotiation.last_sent = now;
  send_under(*negotiation.keypair, encode_proof(state), now, out);
}

/// When drive_negotiation is to be called. Not for an offer that may be repeated: it waits for data to ride
/// behind (offer_due).
Nanoseconds SessionTable::next_negotiation_step(const SuiteNegotiation& negotiation) {
  const bool made = negotiation.keypair != nullptr;
  if (negotiation.offer.local_index == 0 || negotiation.settled || negotiation.given_up ||
      (!made && negotiation.offers_sent < kOffersPerSession))
    return kNever;
  return negotiation.last_sent + (made ? kSuiteRepeatInterval : kOfferInterval);
}

/// The last message was not answered in time: it is repeated, or the session goes on as it is.
void SessionTable::drive_negotiation(Peer& peer, Nanoseconds now, SessionOutput& out) {
  Keypair* first = peer.current.load(std::memory_order_relaxed);
  SuiteNegotiation& negotiation = first->negotiation;
  const bool made = negotiation.keypair != nullptr;
  if (made && negotiation.repeats < kSuiteRepeats) {
    negotiation.repeats++;
    negotiation.last_sent = now;
    // As long as nothing of the peer's opened, it may not have our offer: that is repeated, and answered by
    // a proof.
    if (negotiation.opened)
      send_proof(*first, now, out);
    else
      send_under(*first, encode_offer(negotiation.offer, true), now, out);
  } else {
    negotiation.given_up = true;
    out.suite_step(SuiteStep::given_up);
  }
}

}  // namespace omerta::session
