// SPDX-License-Identifier: Apache-2.0
// A TCP connection: the state machine of RFC 9293 3.10, with what each segment and each moment changes. It
// has no socket and no clock: segments and the time are passed in, and what is to be sent is asked for.
//
//   validity          sequence numbers (RFC 9293 3.10.7.4), timestamps (PAWS, RFC 7323 5), blind resets and
//                     injected data (RFC 5961), acknowledgments of what was never sent
//   the two halves    send_side.h, receive_side.h
//   ECN               RFC 3168 6.1
#pragma once

#include "session/timer_heap.h"
#include "stack/handler.h"
#include "stack/receive_side.h"
#include "stack/send_side.h"
#include "stack/settings.h"

namespace omerta::stack {

enum class State : uint8_t {
  asked,  ///< a SYN came, and the user has not said whether it is to be answered
  syn_sent,
  syn_received,
  established,
  fin_wait_1,
  fin_wait_2,
  close_wait,
  closing,
  last_ack,
  time_wait,
  closed,
};

/// What a connection is part of.
class Surroundings {
 public:
  virtual ~Surroundings() = default;
  virtual const Settings& settings() const = 0;
  virtual Handler& handler() = 0;
  virtual Nanoseconds now() const = 0;
  virtual Sequence initial_sequence(const Flow& flow) = 0;
  virtual uint32_t timestamp_offset(const Flow& flow) = 0;
  /// It has something to send, or its deadline may be another, or it has come to its end.
  virtual void changed(Connection& connection) = 0;
  virtual void no_longer_half_open(Connection& connection) = 0;
  /// Its user has more to write, and the budget no memory for it: it is told when there is some again.
  virtual void short_of_memory(Connection& connection) = 0;
  /// A segment without a text that is not part of its stream of segments.
  virtual void send_alone(const Segment& segment) = 0;
};

class Connection final : private Sink {
 public:
  Connection(Surroundings& surroundings, const Flow& flow, Budget& budget);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // --- the user -----------------------------------------------------------------------------------------
  const Flow& flow() const { return flow_; }
  State state() const { return state_; }
  void* context = nullptr;  ///< the user's

  /// An answer to what Handler::asked told.
  void accept();
  void refuse();
  /// Memory for more to be sent, of at most `most` bytes; 0 parts: there is none now, and Handler::writable
  /// follows.
  size_t space(size_t most, iovec out[2]);
  /// So many bytes of it are filled, and are sent.
  void wrote(size_t size);
  /// Nothing more is sent: FIN follows what was written.
  void finish();
  /// Bytes written that are not acknowledged.
  size_t queued() const { return send_.queued(); }
  /// What Handler::data did not take is offered to it again.
  void resume();
  /// Bytes that wait for resume().
  size_t waiting() const { return receive_.waiting(); }
  /// Ends at once, with a reset.
  void abort();

  // --- the stack ----------------------------------------------------------------------------------------
  void connect();
  /// The SYN that asks for a connection.
  void asked(const Segment& syn);
  void segment(const Segment& segment);
  /// A router says that no more than this fits (RFC 1191, RFC 8201), of a segment that began there.
  void path_mtu(Sequence sequence, size_t mtu);

  struct Outgoing {
    Segment segment;
    uint32_t payload = 0;
    size_t mss = 0;
    iovec parts[2];
    size_t count = 0;
  };
  /// The next segment or super-packet. Its parts are the stream's memory until anything else is called.
  std::optional<Outgoing> next();
  Nanoseconds deadline() const;
  void expired();
  /// Nobody needs it any more.
  bool gone() const { return state_ == State::closed; }
  bool half_open() const { return state_ <= State::syn_received; }
  /// Whether a SYN that came in TIME-WAIT begins another connection (RFC 9293 3.6.1, RFC 6191).
  bool gives_way_to(const Segment& syn) const;
  /// Nothing is left of it but its end, which late segments are held against.
  bool lingers() const { return state_ == State::time_wait && told_closed_; }
  /// Its place is needed.
  void crowd_out() { end(Ended::crowded_out); }
  const SendSide& send_side() const { return send_; }

  session::Timer timer;
  bool in_line = false;   ///< to send
  bool is_short = false;  ///< of memory

 private:
  size_t take(const Scattered& bytes) override;

  // connection.cc
  void end(Ended why);
  void end_silently();
  void reset_peer();
  void challenge();
  uint32_t timestamp() const;
  uint32_t base_mss() const;
  void take_options(const Segment& syn);
  void establish(const Segment& first);
  void note_progress();

  // connection_input.cc
  void in_syn_sent(const Segment& segment);
  bool acceptable(const Segment& segment) const;
  bool passes_paws(const Segment& segment) const;
  void not_acceptable(const Segment& segment);
  bool acknowledgment(const Segment& segment);
  void update_window(const Segment& segment);
  void text(const Segment& segment);
  void congestion_marks(const Segment& segment);
  void after_fin();

  // connection_output.cc
  Segment header(uint8_t flags) const;
  Outgoing handshake();
  std::optional<Outgoing> bare(Sequence sequence);
  void finish_header(Segment& segment);

  Surroundings& around_;
  const Flow flow_;
  State state_ = State::closed;
  SendSide send_;
  ReceiveSide receive_;
  bool told_end_ = false;       ///< ended() was called
  bool told_closed_ = false;    ///< closed() was called
  bool finish_wanted_ = false;  ///< the user has, before there was a connection

  // Agreed on by the SYNs:
  Sequence iss_ = 0;
  uint16_t peer_mss_ = 0;
  size_t path_mtu_;
  std::optional<uint8_t> peer_shift_;  ///< windows are scaled
  uint16_t peer_window_ = 0;           ///< of a SYN that is not answered yet
  bool sack_ = false;
  bool timestamps_ = false;
  bool ecn_ = false;

  // The handshake:
  bool syn_due_ = false;
  unsigned syn_tries_ = 0;
  Nanoseconds syn_at_ = kNever;
  Nanoseconds syn_sent_at_ = 0;

  uint32_t timestamp_offset_ = 0;
  uint32_t recent_ = 0;  ///< TS.Recent
  Nanoseconds recent_at_ = 0;
  Sequence window_sequence_ = 0;        ///< SND.WL1
  Sequence window_acknowledgment_ = 0;  ///< SND.WL2
  Sequence window_edge_ = 0;            ///< SND.UNA + SND.WND
  bool tell_congestion_ = false;        ///< ECN-Echo until CWR comes

  Nanoseconds heard_ = 0;
  unsigned keepalives_ = 0;
  bool keepalive_due_ = false;
  Nanoseconds linger_at_ = kNever;
  Nanoseconds challenged_ = 0;  ///< begin of the period
  unsigned challenges_ = 0;
};

}  // namespace omerta::stack
