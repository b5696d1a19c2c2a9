// SPDX-License-Identifier: Apache-2.0
// The receiving half of a connection: the stream put together from segments in any order, the window offered
// for more (RFC 9293 3.8.6), what is told of pieces that lie further on (RFC 2018) or came twice (RFC 2883),
// and when an acknowledgment is due (RFC 9293 3.8.6.3, RFC 5681 4.2).
//
// What comes in order goes to whoever takes it straight from where it lies. Only what is not taken at once,
// or lies further on, is copied into the ring.
#pragma once

#include <vector>

#include "stack/rack.h"
#include "stack/ring.h"
#include "stack/segment.h"

namespace omerta::stack {

/// Takes a stream as it comes.
class Sink {
 public:
  virtual ~Sink() = default;
  /// @returns how many of the first bytes were taken; the others are kept.
  virtual size_t take(const Scattered& bytes) = 0;
};

class ReceiveSide {
 public:
  /// Pieces further on at most: a sender that leaves many holes has no more looked after.
  static constexpr size_t kMaxPieces = 512;

  /// limit: bytes of window at most.
  ReceiveSide(Budget& budget, uint32_t limit) : ring_(budget), budget_(budget), limit_(limit) {}

  /// first: of the stream, IRS + 1; shift: of the window as it is told.
  void begin(Sequence first, uint8_t shift, uint32_t mss);
  /// Bytes that may come: of the window told last.
  uint32_t window() const { return before(next_, edge_) ? edge_ - next_ : 0; }
  Sequence next() const { return next_; }
  Sequence edge() const { return edge_; }

  /// Text within the window, from `begin` on. false: there was no memory for it, as if it had been lost.
  bool text(Sequence begin, Scattered bytes, size_t segment_size, Sink& sink, Nanoseconds now);
  /// The end of the stream is at `at`, and everything before it that came has been taken in.
  void fin(Sequence at);
  /// The end has been reached: the sender's half is closed.
  bool ended() const { return has_fin_ && next_ == fin_ + 1; }
  /// What waits goes to the sink again.
  void drain(Sink& sink);
  size_t waiting() const { return waiting_; }
  /// A segment that came whole before, or lies beyond the window.
  void repeated(Sequence begin, Sequence end);

  // --- what is told -------------------------------------------------------------------------------------
  /// The window for the next segment sent, in units of the shift.
  uint16_t offer();
  /// The same where it is not scaled: in a SYN.
  uint16_t offer_unscaled();
  /// @returns how many of `out` are set
  size_t sack_blocks(SackBlock* out, size_t most) const;
  /// A segment with the acknowledgment was sent.
  void acknowledged();
  void acknowledge_now() { now_ = true; }
  bool acknowledgment_due() const { return now_; }
  Nanoseconds deadline() const { return due_at_; }
  void expired(Nanoseconds now) {
    if (due_at_ <= now) now_ = true;
  }
  /// What was acknowledged last: Last.ACK.sent of RFC 7323.
  Sequence last_acknowledged() const { return acknowledged_; }

 private:
  /// Beyond next_, and not next to another.
  struct Piece {
    Sequence begin;
    Sequence end;
    uint64_t heard;  ///< the larger, the later something of it came
  };

  void in_order(Scattered bytes, Sink& sink);
  bool keep(Sequence begin, const Scattered& bytes);
  void add_piece(Sequence begin, Sequence end);
  void join_first();
  void step_over_fin();
  uint32_t largest_offer() const;

  Ring ring_;  ///< begins with what waits
  Budget& budget_;
  const uint32_t limit_;
  uint8_t shift_ = 0;
  uint32_t mss_ = 536;  ///< of what comes
  Sequence next_ = 0;   ///< RCV.NXT
  Sequence edge_ = 0;   ///< right edge of the window told: it never goes back
  size_t waiting_ = 0;  ///< in order, and not taken yet
  std::vector<Piece> pieces_;
  uint64_t heard_ = 0;
  bool has_fin_ = false;
  Sequence fin_ = 0;
  std::optional<SackBlock> twice_;

  Sequence acknowledged_ = 0;
  size_t unacknowledged_ = 0;  ///< bytes since
  unsigned quick_ = 0;         ///< acknowledgments that are not delayed
  bool now_ = false;
  Nanoseconds due_at_ = kNever;
};

}  // namespace omerta::stack
