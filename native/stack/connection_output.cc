// SPDX-License-Identifier: Apache-2.0
// What a connection sends.
#include <utility>

#include "common/ecn.h"
#include "stack/connection.h"

namespace omerta::stack {
namespace {

/// A super-packet's payload at most.
constexpr size_t kMostPayload = 65535 - kMaxSegmentHeaders;
constexpr Nanoseconds kFirstHandshakeTimeout = kSecond;  // RFC 6298 2.1

}  // namespace

Segment Connection::header(uint8_t flags) const {
  Segment segment;
  segment.flow = flow_;
  segment.flags = flags;
  if ((flags & kAck) != 0) segment.acknowledgment = receive_.next();
  if (timestamps_ || state_ == State::syn_sent)
    segment.timestamps = Timestamps{timestamp(), (flags & kAck) != 0 ? recent_ : 0};
  return segment;
}

/// SYN, or SYN-ACK.
Connection::Outgoing Connection::handshake() {
  const bool first = state_ == State::syn_sent;
  const Settings& settings = around_.settings();
  Outgoing out;
  out.segment = header(first ? kSyn : kSyn | kAck);
  out.segment.sequence = iss_;
  out.segment.mss =
      static_cast<uint16_t>(std::min<size_t>(settings.mtu - flow_.ip_header() - 20, UINT16_MAX));
  uint8_t shift = 0;
  while (settings.receive_window >> shift > UINT16_MAX) shift++;
  if (first || peer_shift_.has_value()) out.segment.window_shift = std::min(shift, kMaxWindowShift);
  out.segment.sack_permitted = first || sack_;
  out.segment.window = receive_.offer_unscaled();
  if (first && settings.ecn && syn_tries_ == 0) out.segment.flags |= kEce | kCwr;
  if (!first && ecn_) out.segment.flags |= kEce;
  syn_due_ = false;
  syn_sent_at_ = around_.now();
  syn_at_ = syn_sent_at_ + (kFirstHandshakeTimeout << std::min(syn_tries_, 6U));
  syn_tries_++;
  if (!first) receive_.acknowledged();
  return out;
}

/// Everything but the stream: acknowledgment, window, what lies further on, ECN-Echo.
void Connection::finish_header(Segment& segment) {
  segment.window = receive_.offer();
  if (tell_congestion_) segment.flags |= kEce;
  if (sack_) segment.sack_count = receive_.sack_blocks(segment.sacks, timestamps_ ? 3 : 4);
  receive_.acknowledged();
}

std::optional<Connection::Outgoing> Connection::bare(Sequence sequence) {
  Outgoing out;
  out.segment = header(kAck);
  out.segment.sequence = sequence;
  finish_header(out.segment);
  return out;
}

std::optional<Connection::Outgoing> Connection::next() {
  if (gone() || state_ == State::asked) return std::nullopt;
  if (state_ == State::syn_sent || state_ == State::syn_received)
    return syn_due_ ? std::optional(handshake()) : std::nullopt;
  // Blocks in the header leave less room for the text.
  SackBlock blocks[kMaxSackBlocks];
  const size_t block_count = sack_ ? receive_.sack_blocks(blocks, timestamps_ ? 3 : 4) : 0;
  const uint32_t mss = base_mss() - static_cast<uint32_t>(block_count == 0 ? 0 : 4 + 8 * block_count);
  const size_t most =
      around_.settings().super_packets ? std::max<size_t>(kMostPayload / mss * mss, mss) : mss;
  const auto piece = send_.next(mss, most, around_.now());
  if (piece.has_value() && !piece->window_probe) {
    Outgoing out;
    out.segment = header(kAck);
    out.segment.sequence = piece->begin;
    if (piece->fin) out.segment.flags |= kFin;
    if (piece->push && piece->size != 0) out.segment.flags |= kPsh;
    if (piece->reduced) out.segment.flags |= kCwr;
    finish_header(out.segment);
    // What is sent again does not say that it may be marked (RFC 3168 6.1.5).
    if (ecn_ && !piece->retransmission && piece->size != 0) out.segment.ecn = kEct0;
    out.payload = piece->size;
    out.mss = mss;
    out.count = send_.parts(piece->begin, piece->size, out.parts);
    return out;
  }
  if (piece.has_value()) return bare(piece->begin);
  if (std::exchange(keepalive_due_, false)) return bare(send_.una() - 1);  // RFC 9293 3.8.4
  if (receive_.acknowledgment_due()) return bare(send_.next_sequence());
  return std::nullopt;
}

}  // namespace omerta::stack
