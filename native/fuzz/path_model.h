// SPDX-License-Identifier: Apache-2.0
// The ways to one peer, told once more for fuzz_path_set: plain values and one thread, where the session
// table has atomics, sets that are replaced and timers that packets start without a lock. Each function takes
// one thing that happens and adds to `told` what the control plane is to hear, and to `reports` what the peer
// is.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "ratelimit/token_bucket.h"
#include "session/constants.h"
#include "session/messages.h"
#include "session/session_table.h"

namespace omerta::fuzz {

using session::ControlKind;
using session::Endpoint;
using session::kNever;
using session::PathEnds;
using session::PathEvent;
using session::PathFrame;

/// An event by its kind and path.
using Told = std::pair<PathEvent::Kind, uint8_t>;

class PathModel {
 public:
  struct Path {
    PathEnds given;
    uint64_t sent_packets = 0;
    uint64_t sent_bytes = 0;
    uint64_t received_packets = 0;
    uint64_t received_bytes = 0;
    Nanoseconds last_received = 0;
    Nanoseconds answered_at = 0;
    Nanoseconds unanswered_since = 0;
    std::vector<Nanoseconds> marks{};
    Nanoseconds report_at = 0;
    Nanoseconds reported_at = 0;
    Nanoseconds told_at = 0;
    uint64_t split = 0;  ///< bytes of data by it, over its share
  };

  bool there() const { return budgets_ != nullptr; }
  bool pinned() const { return !paths_.empty(); }
  const std::vector<Path>& paths() const { return paths_; }
  /// Where data goes as long as the active path is silent, beside that; nullptr: nowhere.
  const Path* duplicates_by() const { return silent_ && paths_.size() > 1 ? &paths_[1] : nullptr; }

  /// Where messages of the control plane go instead of by the active path; nullptr: nowhere else.
  const Path* control() const { return control_ == 0 ? nullptr : &paths_[control_]; }

  bool splits() const {
    return std::ranges::count_if(paths_, [](const Path& path) { return path.given.share != 0; }) > 1;
  }
  /// Of the path in use, or while data is split of all it goes by.
  size_t inner_limit() const {
    size_t limit = inner_limit(paths_[0].given);
    if (splits())
      for (const Path& path : paths_)
        if (path.given.share != 0) limit = std::min(limit, inner_limit(path.given));
    return limit;
  }

  void replace(const session::PathSettings& settings) {
    const bool split_before = splits();
    const std::vector<Path> before = std::move(paths_);
    paths_.clear();
    if (!settings.answers) return forget();
    if (!there()) budgets_ = std::make_unique<Budgets>();
    timing_ = settings.timing;
    probe_rules_ = settings.probe_rules;
    control_ = 0;
    for (const PathEnds& given : settings.paths) {
      if (paths_.size() == session::kMaxPaths) break;
      Path path{.given = given};
      for (const Path& known : before)
        if (known.given.id == given.id && same_way(known.given.ends, given.ends)) path = known;
      path.given = given;
      if (given.id == settings.control) control_ = paths_.size();
      paths_.push_back(path);
    }
    if (splits()) begin_split(split_before ? before : std::vector<Path>{});
    const uint8_t was = before.empty() ? 0 : before.front().given.id;
    if (was == (paths_.empty() ? 0 : paths_.front().given.id)) return;
    silent_ = false;
    for (Path& path : paths_) {
      path.unanswered_since = 0;
      path.marks.clear();
    }
  }

  /// The peer is another one, that nothing is known of.
  void forget() {
    paths_.clear();
    budgets_.reset();
    silent_ = false;
    control_ = 0;
    arrival_ = 0;
  }

  /// Legs lead elsewhere, or (nullopt) nowhere: those stay as they are.
  void lead(const std::map<uint32_t, std::optional<Endpoint>>& changed) {
    session::PathSettings settings{.timing = timing_,
                                   .probe_rules = probe_rules_,
                                   .control = control() == nullptr ? uint8_t{0} : control()->given.id};
    bool any = false;
    for (const Path& path : paths_) {
      settings.paths.push_back(path.given);
      const auto found = changed.find(path.given.ends.receive_leg);
      if (found == changed.end() || !found->second.has_value()) continue;
      settings.paths.back().ends = *found->second;
      any = true;
    }
    if (any) replace(settings);
  }

  // ---- what is sent -----------------------------------------------------------------------------

  /// A transport message went there; `again`: it had gone elsewhere already; `control`: the control plane's.
  void sent(const Endpoint& to, size_t bytes, bool again, bool control) {
    Path* path = again ? &paths_[1] : control && control_ != 0 ? &paths_[control_] : by(to);
    if (path == nullptr) return;
    path->sent_packets++;
    path->sent_bytes += bytes;
  }
  /// Data goes by the path that is furthest behind its share: the first of those. Which that is.
  uint8_t split(size_t bytes) {
    Path* next = nullptr;
    for (Path& path : paths_)
      if (path.given.share != 0 && (next == nullptr || path.split < next->split)) next = &path;
    next->split += bytes * 1024 / next->given.share;
    return next->given.id;
  }
  /// It held data.
  void data_sent(Nanoseconds now, bool control) {
    if (control && control_ != 0) return;
    if (!paths_.empty() && paths_[0].unanswered_since == 0) paths_[0].unanswered_since = now;
  }

  // ---- what comes in ----------------------------------------------------------------------------

  /// What is no path frame. Returns whether a report goes out for it at once.
  void received(const Endpoint& from, size_t bytes, bool data, Nanoseconds now) {
    if (!there()) return;
    Path* path = by(from);
    if (path != nullptr) path->last_received = now;
    if (data && !paths_.empty()) {
      const uint8_t id = path == nullptr ? 0 : path->given.id;
      if ((id == 0 || arrival_ != id) && budgets_->arrivals.take(now)) {
        arrival_ = id;
        told.emplace_back(PathEvent::Kind::arrival, id);
      }
    }
    if (path == nullptr) return;
    count(*path, bytes);
    if (!data || timing_.report_every == 0 || path->report_at != 0) return;
    if (path->reported_at == 0 || path->reported_at + timing_.report_every <= now) {
      path->reported_at = now;
      report(*path);
    } else {
      path->report_at = path->reported_at + timing_.report_every;
    }
  }

  /// A path frame, nullopt: malformed. What becomes of it.
  session::PathFrameOutcome received_frame(const std::optional<PathFrame>& frame, const Endpoint& from,
                                           size_t bytes, Nanoseconds now) {
    using Outcome = session::PathFrameOutcome;
    if (!there()) return Outcome::dropped;
    Path* path = by(from);
    if (path != nullptr) {
      path->last_received = now;
      count(*path, bytes);
    }
    if (!frame.has_value()) return Outcome::dropped;
    if (path != nullptr && frame->kind != ControlKind::probe) {
      path->answered_at = now;
      if (path->unanswered_since != 0) path->marks.push_back(path->unanswered_since);
      if (path->marks.size() > session::kMaxMarks) path->marks.erase(path->marks.begin());
      path->unanswered_since = 0;
      if (path == &paths_[0] && silent_) {
        silent_ = false;
        told.emplace_back(PathEvent::Kind::heard, path->given.id);
      }
    }
    if (frame->kind == ControlKind::probe) {
      if (!answers(from)) return Outcome::dropped;
      if (!budgets_->probes.take(now)) return Outcome::over_rate;
      if (path == nullptr && budgets_->strange_probes.take(now))
        told.emplace_back(PathEvent::Kind::strange_probe, 0);
      return Outcome::answered;
    }
    if (frame->kind == ControlKind::probe_answer) {
      if (!budgets_->answers.take(now)) return Outcome::over_rate;
      told.emplace_back(PathEvent::Kind::answered, 0);
    } else if (path != nullptr &&
               (path->told_at == 0 || now - path->told_at >= session::kPathReportInterval)) {
      path->told_at = now;
      told.emplace_back(PathEvent::Kind::report, path->given.id);
    }
    return Outcome::taken;
  }

  // ---- time -------------------------------------------------------------------------------------

  /// When somebody has to look next.
  Nanoseconds due() const {
    Nanoseconds first = silent_at();
    for (const Path& path : paths_)
      if (path.report_at != 0) first = std::min(first, path.report_at);
    return first;
  }
  void look(Nanoseconds now) {
    if (silent_at() <= now) {
      silent_ = true;
      told.emplace_back(PathEvent::Kind::silent, paths_[0].given.id);
    }
    for (Path& path : paths_) {
      if (path.report_at == 0 || path.report_at > now) continue;
      path.reported_at = now;
      path.report_at = 0;
      report(path);
    }
  }

  struct Report {
    Endpoint to;
    uint64_t received;
  };
  std::vector<Told> told;
  std::vector<Report> reports;

 private:
  struct Budgets {
    TokenBucket probes{session::kControlFramesPerSecond, 2 * session::kControlFramesPerSecond};
    TokenBucket answers{session::kControlFramesPerSecond, 2 * session::kControlFramesPerSecond};
    TokenBucket strange_probes{session::kPathEventsPerSecond, session::kPathEventsPerSecond};
    TokenBucket arrivals{session::kPathEventsPerSecond, session::kPathEventsPerSecond};
  };

  /// Paths by which data was not split by these shares before make up for nothing.
  void begin_split(const std::vector<Path>& before) {
    uint64_t furthest = 0;
    for (const Path& path : paths_) furthest = std::max(furthest, path.split);
    for (Path& path : paths_)
      if (path.given.share != 0 && std::ranges::none_of(before, [&](const Path& known) {
            return known.given.id == path.given.id && known.given.share == path.given.share &&
                   same_way(known.given.ends, path.given.ends);
          }))
        path.split = furthest;
  }
  static size_t inner_limit(const PathEnds& path) {
    const size_t around = session::kTransportOverhead + session::framing_of(path.ends);
    if (path.plpmtu == 0) return SIZE_MAX;
    return path.plpmtu <= around ? 0 : path.plpmtu - around;
  }
  static bool same_ip(const uint8_t* a, const uint8_t* b) { return std::memcmp(a, b, 16) == 0; }
  static bool same_remote(const Endpoint& a, const Endpoint& b) {
    if (a.receive_leg != 0 || b.receive_leg != 0) return a.receive_leg == b.receive_leg;
    return a.remote.port == b.remote.port && same_ip(a.remote.ip, b.remote.ip);
  }
  static bool same_way(const Endpoint& a, const Endpoint& b) {
    return same_remote(a, b) && same_ip(a.local.ip, b.local.ip) && a.local.leaves_by == b.local.leaves_by;
  }
  /// Whether the first rule that is of a probe lets it be answered. All come from 10.0.0.0/30.
  bool answers(const Endpoint& from) const {
    for (const session::ProbeRule& rule : probe_rules_) {
      if (from.receive_leg != 0 || rule.from.family == 6) continue;
      if (rule.local[15] != 0 && rule.local[15] != from.local.ip[15]) continue;
      if (rule.from.family == 4 &&
          (from.remote.ip[15] ^ rule.from.address[3]) >> (32 - rule.from.length) != 0)
        continue;
      return rule.answered;
    }
    return true;
  }
  /// The first that leads there, from that address if it is of one.
  Path* by(const Endpoint& ends) {
    for (Path& path : paths_) {
      const Endpoint& own = path.given.ends;
      if (same_remote(own, ends) && (!own.local.known() || same_ip(own.local.ip, ends.local.ip)))
        return &path;
    }
    return nullptr;
  }
  static void count(Path& path, size_t bytes) {
    path.received_packets++;
    path.received_bytes += bytes;
  }
  void report(const Path& path) { reports.push_back({path.given.ends, path.received_packets}); }
  Nanoseconds silent_at() const {
    if (paths_.empty() || timing_.silent_after == 0 || silent_) return kNever;
    const Path& active = paths_[0];
    const Nanoseconds begin = active.answered_at - std::min(active.answered_at, timing_.least_round_trip);
    const auto mark = std::ranges::find_if(active.marks, [begin](Nanoseconds at) { return at > begin; });
    const Nanoseconds first = mark == active.marks.end() ? active.unanswered_since : *mark;
    if (first == 0) return kNever;
    if (timing_.silent_between_reports == 0 || active.answered_at == 0 ||
        first - begin > timing_.report_every)
      return first + timing_.silent_after;
    return active.answered_at + timing_.silent_between_reports;
  }

  std::vector<Path> paths_;
  std::unique_ptr<Budgets> budgets_;  ///< nullptr: the peer has no set
  session::PathTiming timing_{};
  std::vector<session::ProbeRule> probe_rules_{};
  bool silent_ = false;
  size_t control_ = 0;  ///< place of the path of the control plane; 0: the active one's
  uint8_t arrival_ = 0;
};

}  // namespace omerta::fuzz
