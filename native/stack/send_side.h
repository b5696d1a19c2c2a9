// SPDX-License-Identifier: Apache-2.0
// The sending half of a connection: the stream waiting to be sent and to be acknowledged, and what may be
// sent when.
//
//   how much          the receiver's window, the congestion window (cubic.h), silly windows avoided (RFC 9293
//                     3.8.6.2.1), probes of a window that is closed (3.8.6.1)
//   what again        RACK (rack.h), a tail loss probe (RFC 8985 7), the timeout (RFC 6298 5); without SACK
//                     three duplicates (RFC 5681 3.2) and partial acknowledgments (RFC 6582)
//   how fast then     proportional rate reduction (RFC 6937); a timeout without a reason is undone (RFC 3522)
#pragma once

#include <optional>

#include "stack/cubic.h"
#include "stack/rack.h"
#include "stack/ring.h"

namespace omerta::stack {

class SendSide {
 public:
  /// limit: bytes that wait and are under way at most.
  SendSide(Budget& budget, size_t limit) : ring_(budget), limit_(limit) {}

  struct Agreed {
    Sequence first;   ///< of the stream: ISS + 1
    uint32_t mss;     ///< payload of a full segment without SACK blocks
    uint32_t window;  ///< the peer's, bytes
    bool sack;
  };
  /// The connection is there.
  void begin(const Agreed& agreed, Nanoseconds now);
  void handshake_rtt(Nanoseconds rtt, Nanoseconds now) { rtt_.sample(rtt, now); }
  void handshake_retransmitted() { rtt_.without_handshake(); }
  /// The path takes less than it was thought to.
  void set_mss(uint32_t mss);

  // --- the stream -------------------------------------------------------------------------------------
  /// Whether more of it may wait here.
  bool has_room() const { return !finished_ && queued() < limit(); }
  /// Memory for more of it, at most `most` bytes; 0 parts: there is no room, or no memory.
  size_t space(size_t most, iovec out[2]);
  /// So many of them are filled.
  void wrote(size_t size);
  /// Nothing follows.
  void finish() { finished_ = true; }
  bool finished() const { return finished_; }
  /// Nothing waits, nothing is under way, and the end is acknowledged.
  bool end_acknowledged() const { return finished_ && una_ == end_ + 1; }
  size_t queued() const { return before(una_, end_) ? end_ - una_ : 0; }
  /// Memory of it; `size` bytes from `begin` on.
  size_t parts(Sequence begin, size_t size, iovec out[2]) const {
    return ring_.parts(begin - una_, size, out);
  }

  // --- what comes -------------------------------------------------------------------------------------
  struct Acknowledgment {
    Sequence number;  ///< between una() and next()
    std::span<const SackBlock> sacks;
    bool duplicate;                ///< nothing new in it (RFC 5681 2)
    bool congestion;               ///< ECN-Echo
    std::optional<uint32_t> echo;  ///< timestamp that it answers, ms of the clock
  };
  void acknowledged(const Acknowledgment& what, Nanoseconds now);
  void set_window(uint32_t window);

  // --- what goes --------------------------------------------------------------------------------------
  struct Piece {
    Sequence begin;
    uint32_t size = 0;  ///< bytes of the stream
    bool fin = false;
    bool retransmission = false;
    bool push = false;          ///< nothing waits behind it
    bool reduced = false;       ///< the first new one since the window was halved for ECN: CWR
    bool window_probe = false;  ///< nothing of the stream: only to be answered
  };
  /// The next to be sent. mss: payload of each segment of it; most: of it all.
  std::optional<Piece> next(uint32_t mss, size_t most, Nanoseconds now);

  // --- time -------------------------------------------------------------------------------------------
  Nanoseconds deadline() const {
    return std::min(std::min(reorder_at_, probe_at_), std::min(timeout_at_, persist_at_));
  }
  void expired(Nanoseconds now);
  /// Since when the peer has not acknowledged what was sent again and again; kNever: it has.
  Nanoseconds unanswered_since() const { return unanswered_since_; }

  Sequence una() const { return una_; }
  Sequence next_sequence() const { return next_; }
  uint32_t largest_window() const { return largest_window_; }
  const RoundTripTime& rtt() const { return rtt_; }
  const Scoreboard& sent() const { return sent_; }
  uint32_t congestion_window() const { return cubic_.window(); }

 private:
  enum class Recovery : uint8_t { none, fast, timeout };

  /// As timestamps have it.
  static uint32_t clock_of(Nanoseconds time) { return static_cast<uint32_t>(time / kMillisecond); }
  /// Twice what the network takes: one half is under way, the other follows at once.
  size_t limit() const {
    return std::min<size_t>(limit_, std::max<size_t>(256 * 1024, size_t{2} * cubic_.window()));
  }
  Sequence last() const { return end_ + (finished_ ? 1 : 0); }
  uint32_t in_flight() const;
  uint32_t usable() const { return before(next_, edge_) ? edge_ - next_ : 0; }
  bool take_sacks(const Acknowledgment& what, uint32_t& delivered, Nanoseconds& sampled, Nanoseconds now);
  void delivered(const Sent& record, const Acknowledgment& what, Nanoseconds& sampled, Nanoseconds now);
  void without_sack(bool progress, bool duplicate);
  void end_probe(const Acknowledgment& what, bool duplicate_told);
  void detect(bool ended, Nanoseconds now);
  void recover();
  void reduce_rate(uint32_t delivered);
  void undo_timeout(const Acknowledgment& what);
  void timed_out(Nanoseconds now);
  void arm(Nanoseconds now);
  Nanoseconds persist_interval() const;
  std::optional<Piece> retransmit(uint32_t mss, size_t most, Nanoseconds now);
  std::optional<Piece> probe_tail(uint32_t mss, Nanoseconds now);
  std::optional<Piece> send_new(uint32_t mss, size_t most, Nanoseconds now);
  std::optional<Piece> probe_window(Nanoseconds now);
  Piece piece(Sequence begin, uint32_t length, bool retransmission) const;
  Piece fresh(uint32_t length, Nanoseconds now);

  Ring ring_;
  const size_t limit_;
  uint32_t mss_ = kDefaultMss4;
  bool sack_ = false;
  Sequence una_ = 0;
  Sequence next_ = 0;
  Sequence end_ = 0;  ///< of the stream so far
  bool finished_ = false;
  Sequence edge_ = 0;  ///< the right one of the receiver's window
  uint32_t largest_window_ = 0;

  Scoreboard sent_;
  RoundTripTime rtt_;
  Rack rack_;
  Cubic cubic_;
  bool limited_ = false;  ///< the congestion window is what holds us back
  Nanoseconds sent_at_ = 0;

  Recovery recovery_ = Recovery::none;
  Sequence recovery_point_ = 0;
  uint32_t recovery_flight_ = 0;     ///< RecoverFS
  uint64_t recovery_delivered_ = 0;  ///< prr_delivered
  uint64_t recovery_out_ = 0;        ///< prr_out
  uint32_t duplicates_ = 0;          ///< without SACK
  bool forced_ = false;              ///< one segment is sent whatever the window says

  bool reduced_ = false;  ///< for ECN, until what was under way then is acknowledged
  Sequence reduced_point_ = 0;
  bool tell_reduced_ = false;

  bool probing_ = false;  ///< a tail loss probe is under way
  bool probe_due_ = false;
  bool probe_repeats_ = false;  ///< it was something sent before
  Sequence probe_end_ = 0;

  std::optional<Cubic::Memory> before_timeout_;
  uint32_t retransmitted_ms_ = 0;  ///< when, after the timeout, something was first sent again

  Nanoseconds reorder_at_ = kNever;
  Nanoseconds probe_at_ = kNever;
  Nanoseconds timeout_at_ = kNever;
  Nanoseconds persist_at_ = kNever;
  unsigned persisted_ = 0;
  bool persist_due_ = false;
  Nanoseconds unanswered_since_ = kNever;
};

}  // namespace omerta::stack
