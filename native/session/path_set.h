// SPDX-License-Identifier: Apache-2.0
// The ways to one peer (ts/contract/path-control.ts): which is used, what went by which, who has to be told.
//
//   PathSet    which paths there are; never changed, but replaced as a whole: workers read it without a lock
//              and hold it until they are quiescent (common/qsbr.h)
//   PathUse    what went by one path; a path that stays takes it along into the next set
//   PathState  what is the peer's, not a path's; every set of the peer has the same
//
// Both are atomics: a peer's packets are sent and opened by any worker.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/clock.h"
#include "ratelimit/token_bucket.h"
#include "session/allowed_ips.h"
#include "session/constants.h"
#include "session/endpoint.h"
#include "session/path_frame.h"

namespace omerta::session {

inline constexpr size_t kMaxPaths = 8;
/// So many reports may come within a round trip, for the silence to be found whatever that is.
inline constexpr size_t kMaxMarks = 32;

/// A path as it is asked for. `ends.local`: all zero lets routing choose what it is sent from.
struct PathEnds {
  uint8_t id = 0;  ///< 1–255
  Endpoint ends;
  size_t plpmtu = 0;   ///< bytes of UDP payload that it takes (RFC 8899); 0: whatever is sent
  uint32_t share = 0;  ///< of the data, in proportion to the others'; 0 of all but one: nothing is split
};

/// When the active path counts as silent, and how often the peer is told what came (PathTimes there).
struct PathTiming {
  Nanoseconds silent_after = 0;            ///< 0: the active path is never taken for silent
  Nanoseconds least_round_trip = 0;        ///< no report is of data sent less than so long before
  Nanoseconds silent_between_reports = 0;  ///< while data flows; 0: `silent_after` alone counts
  Nanoseconds report_every = 0;            ///< 0: the peer is not told what came by which path
};

/// What becomes of probes that came straight from there to this address (ProbeRule there).
struct ProbeRule {
  uint8_t local[16]{};  ///< all zero: whichever it came to
  Prefix from{};        ///< of family 0: wherever it came from
  bool answered = false;
};

/// What is set for a peer. The first path is active, the second the standby, the others are listened to.
struct PathSettings {
  Key32 peer{};
  bool answers = true;  ///< false: path frames of the peer are dropped, and there are no paths
  std::vector<PathEnds> paths{};
  PathTiming timing{};
  std::vector<ProbeRule> probe_rules{};  ///< the first that is of a probe counts
  uint8_t control = 0;                   ///< id of the path the control plane has; 0: the active one
};

/// Of a datagram by these ends, in front of its message.
inline size_t framing_of(const Endpoint& ends) { return ends.relayed() ? OMERTA_FRAME_HEADER_SIZE : 0; }

struct PathUse {
  std::atomic<uint64_t> sent_packets{0};
  std::atomic<uint64_t> sent_bytes{0};
  std::atomic<uint64_t> received_packets{0};
  std::atomic<uint64_t> received_bytes{0};
  std::atomic<uint64_t> split{0};  ///< bytes of data sent by it, as many times as its share is less
  std::atomic<Nanoseconds> last_received{0};     ///< anything authentic
  std::atomic<Nanoseconds> unanswered_since{0};  ///< first data sent by it since it was answered last
  std::atomic<Nanoseconds> report_at{0};         ///< when a report on it is due; 0: there is nothing to tell
  std::atomic<Nanoseconds> reported_at{0};
  std::atomic<Nanoseconds> told_at{0};      ///< when the control plane last heard of a report of the peer's
  std::atomic<Nanoseconds> answered_at{0};  ///< when a report or an answer came last
  /// First data after each of those before, as `unanswered_since`; the oldest are overwritten.
  std::array<std::atomic<Nanoseconds>, kMaxMarks> marks{};
  std::atomic<size_t> mark_count{0};

  void sent(size_t packets, size_t bytes) {
    sent_packets.fetch_add(packets, std::memory_order_relaxed);
    sent_bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  void answered(Nanoseconds now);
  void forget_sent();
  /// The first data sent by it after `begin`, as far as marks tell; 0: none.
  Nanoseconds sent_since(Nanoseconds begin) const;
};

struct PathState {
  /// Of a peer's probes that are answered, and of its answers that are told.
  TokenBucket probes{kControlFramesPerSecond, 2 * kControlFramesPerSecond};
  TokenBucket answers{kControlFramesPerSecond, 2 * kControlFramesPerSecond};
  TokenBucket strange_probes{kPathEventsPerSecond, kPathEventsPerSecond};
  TokenBucket arrivals{kPathEventsPerSecond, kPathEventsPerSecond};
  std::atomic<uint8_t> arrival{0};  ///< the path its data came by when that was last told; 0: another way
  std::atomic<bool> silent{false};  ///< the active path is, and all goes by the standby too
  /// When the timers of the set are looked at next, whatever happens until then.
  std::atomic<Nanoseconds> looked_at{kNever};
};

class PathSet {
 public:
  struct Path {
    uint8_t id;
    Endpoint ends;
    size_t plpmtu;  ///< as it was asked for
    uint32_t share;
    std::shared_ptr<PathUse> use;
  };

  /// `before`: the set this one replaces; nullptr: the peer had none.
  PathSet(const PathSettings& settings, const PathSet* before);

  const PathTiming timing;
  const std::vector<ProbeRule> probe_rules;

  std::span<const Path> paths() const { return {paths_.data(), count_}; }
  /// What the peer is sent by; nullptr: it roams.
  const Path* active() const { return count_ == 0 ? nullptr : &paths_[0]; }
  /// What the peer is sent by beside the active path, as long as that is silent; nullptr: nothing.
  const Path* duplicates_by() const {
    return count_ > 1 && state_->silent.load(std::memory_order_relaxed) ? &paths_[1] : nullptr;
  }
  /// What messages of the control plane go by instead of the active path; nullptr: by that.
  const Path* control() const { return control_ == 0 ? nullptr : &paths_[control_]; }
  /// The longest packet that a message to the peer has room for; SIZE_MAX: any is sent.
  size_t inner_limit() const { return inner_limit_; }
  /// The longest that padding may make one: as long as what is sent goes by the standby too, of both.
  /// `by`: the path it goes by, if that is not the active one.
  size_t padding_limit(const Path* by = nullptr) const {
    const Path* standby = duplicates_by();
    const size_t limit = by == nullptr ? inner_limit_ : std::min(inner_limit_, inner_limit_of(*by));
    return standby == nullptr ? limit : std::min(limit, inner_limit_of(*standby));
  }
  /// Whether data goes by several paths at once.
  bool splits() const { return splits_; }
  /// Of a set that splits: the path that is furthest behind its share, for these bytes of data. Packets of
  /// one call stay in their order; those of others may overtake them.
  const Path& split(size_t bytes) const;
  /// The path that what came from there came by, and what is sent there goes by; nullptr: none.
  const Path* at(const Endpoint& ends) const;
  PathState& state() const { return *state_; }

  /// Whether no rule says that a probe by these ends is not answered.
  bool answers_probe(const Endpoint& from) const;

  /// Transport messages were sent to where the peer is reached.
  void sent(size_t packets, size_t bytes) const {
    if (count_ != 0) paths_[0].use->sent(packets, bytes);
  }
  /// The same by these ends, of a set that splits. Whether they are the active path's.
  bool sent_by(const Endpoint& ends, size_t packets, size_t bytes) const {
    const Path* path = at(ends);
    if (path != nullptr) path->use->sent(packets, bytes);
    return path == active();
  }
  /// After data was sent by the active path. Whether the set's timers have to be armed for it.
  bool data_sent(Nanoseconds now) const;
  /// A report or an answer came by it: what is sent by it arrives. Whether it had been silent.
  bool answered(const Path& path, Nanoseconds now) const;
  /// When the active path is to be taken for silent, as things stand.
  Nanoseconds silent_at() const;
  /// Whether that is before the set's timers are looked at.
  bool silent_unseen() const { return silent_at() < state_->looked_at.load(std::memory_order_seq_cst); }
  /// When the first report is due; kNever: none is.
  Nanoseconds report_at() const;

 private:
  static size_t inner_limit_of(const Path& path);
  void begin_split(const PathSet* before);

  size_t count_ = 0;
  size_t control_ = 0;  ///< its place; 0: the active one's
  bool splits_ = false;
  size_t inner_limit_ = SIZE_MAX;
  std::array<Path, kMaxPaths> paths_{};
  std::shared_ptr<PathState> state_;
};

/// What a path set has to tell the control plane (ts/contract/path-control.ts, PathEvent).
struct PathEvent {
  enum class Kind : uint8_t { answered, strange_probe, arrival, silent, heard, report };
  Kind kind;
  uint8_t path = 0;   ///< 0: none of the set
  Endpoint ends{};    ///< of what came
  PathFrame frame{};  ///< that came
  int64_t rtt = 0;    ///< nanoseconds
  uint64_t sent = 0;  ///< by the path, when the report came
};

/// What went by a path, for those who show it.
struct PathCounts {
  uint8_t id = 0;
  uint64_t sent_packets = 0;
  uint64_t sent_bytes = 0;
  uint64_t received_packets = 0;
  uint64_t received_bytes = 0;
  Nanoseconds last_received = 0;  ///< 0: never
};

}  // namespace omerta::session
