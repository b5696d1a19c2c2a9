// SPDX-License-Identifier: Apache-2.0
// Which of what was sent is lost: RACK (RFC 8985 6). Time decides, not how many acknowledgments came: what
// was sent a while before something that has arrived, and is not acknowledged itself, is lost.
#pragma once

#include "stack/rtt.h"
#include "stack/scoreboard.h"

namespace omerta::stack {

inline constexpr Nanoseconds kNever = UINT64_MAX;

class Rack {
 public:
  /// The receiver has this (steps 2 and 3). `doubtful`: it was sent more than once, and its acknowledgment
  /// came sooner than one of the last time it was sent could.
  void delivered(const Sent& record, Nanoseconds now, bool doubtful);
  /// The receiver told that it had something twice (step 4): the window for reordering was too small. `una`
  /// and `next`: SND.UNA and SND.NXT; counted once a round.
  void duplicate(Sequence una, Sequence next);
  struct Condition {
    bool recovering;  ///< in fast or timeout recovery
    bool ended;       ///< recovery has just ended
    Sequence una;
    uint32_t mss;
  };
  /// Marks what is lost (step 5). @returns when to look again; kNever: nothing waits for it.
  Nanoseconds detect(Scoreboard& sent, const RoundTripTime& rtt, const Condition& condition, Nanoseconds now);
  /// What is lost when a timeout expires (6.3): the first segment, and what has been under way for long.
  void timeout(Scoreboard& sent, const RoundTripTime& rtt, uint32_t mss, Nanoseconds now);

 private:
  Nanoseconds window(const Scoreboard& sent, const RoundTripTime& rtt, const Condition& condition);

  static constexpr uint8_t kPersist = 16;  ///< recoveries a larger window is kept for
  static constexpr uint32_t kDuplicates = 3;

  bool any_ = false;
  Nanoseconds at_ = 0;  ///< RACK.xmit_ts
  Sequence end_ = 0;    ///< RACK.end_seq
  Nanoseconds rtt_ = 0;
  Sequence highest_ = 0;  ///< RACK.fack
  bool reordering_ = false;
  uint8_t multiplier_ = 1;
  uint8_t persist_ = kPersist;
  bool in_round_ = false;
  Sequence round_ = 0;  ///< RACK.dsack_round
};

}  // namespace omerta::stack
