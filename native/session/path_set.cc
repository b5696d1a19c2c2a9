// SPDX-License-Identifier: Apache-2.0
#include "session/path_set.h"

#include <algorithm>

#include "session/messages.h"

namespace omerta::session {
namespace {

bool same_local(const LocalAddress& a, const LocalAddress& b) {
  return a.port == b.port && std::memcmp(a.ip, b.ip, sizeof a.ip) == 0;
}

/// Whether they are the same place at the peer's end. A leg is known by its number: its way back may change.
bool same_remote(const Endpoint& a, const Endpoint& b) {
  if (a.relayed() || b.relayed()) return a.receive_leg == b.receive_leg;
  return a.remote.port == b.remote.port && std::memcmp(a.remote.ip, b.remote.ip, sizeof a.remote.ip) == 0;
}

bool same_path(const PathSet::Path& a, const PathEnds& b) {
  return a.id == b.id && same_remote(a.ends, b.ends) && same_local(a.ends.local, b.ends.local) &&
         a.ends.local.leaves_by == b.ends.local.leaves_by;
}

bool contains(const Prefix& prefix, const omerta_address& address) {
  if (prefix.family == 0) return true;
  constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  const bool v4 = std::memcmp(address.ip, kMapped, sizeof kMapped) == 0;
  if (v4 != (prefix.family == 4)) return false;
  const uint8_t* ip = address.ip + (v4 ? sizeof kMapped : 0);
  const size_t whole = prefix.length / 8, rest = prefix.length % 8;
  return std::memcmp(ip, prefix.address, whole) == 0 &&
         (rest == 0 || (ip[whole] ^ prefix.address[whole]) >> (8 - rest) == 0);
}

bool is_of(const ProbeRule& rule, const Endpoint& from) {
  constexpr uint8_t kAny[16]{};
  return (std::memcmp(rule.local, kAny, sizeof kAny) == 0 ||
          std::memcmp(rule.local, from.local.ip, sizeof rule.local) == 0) &&
         contains(rule.from, from.remote);
}

}  // namespace

void PathUse::answered(Nanoseconds now) {
  // A mark is in one place or the other for whoever looks at both in the opposite order (PathSet::silent_at).
  if (const Nanoseconds since = unanswered_since.load(std::memory_order_relaxed); since != 0) {
    marks[mark_count.fetch_add(1, std::memory_order_relaxed) % kMaxMarks].store(since,
                                                                                std::memory_order_relaxed);
    unanswered_since.store(0, std::memory_order_release);
  }
  answered_at.store(now, std::memory_order_relaxed);
}

void PathUse::forget_sent() {
  unanswered_since.store(0, std::memory_order_relaxed);
  for (std::atomic<Nanoseconds>& mark : marks) mark.store(0, std::memory_order_relaxed);
}

Nanoseconds PathUse::sent_since(Nanoseconds begin) const {
  Nanoseconds first = unanswered_since.load(std::memory_order_seq_cst);
  for (const std::atomic<Nanoseconds>& each : marks) {
    const Nanoseconds mark = each.load(std::memory_order_relaxed);
    if (mark > begin && (first == 0 || mark < first)) first = mark;
  }
  return first;
}

PathSet::PathSet(const PathSettings& settings, const PathSet* before)
    : timing(settings.timing),
      probe_rules(settings.probe_rules),
      count_(std::min(settings.paths.size(), kMaxPaths)),
      state_(before == nullptr ? std::make_shared<PathState>() : before->state_) {
  for (size_t i = 0; i < count_; i++) {
    const PathEnds& wanted = settings.paths[i];
    paths_[i] = {wanted.id, wanted.ends, wanted.plpmtu, wanted.share, nullptr};
    if (before != nullptr)
      for (const Path& known : before->paths())
        if (same_path(known, wanted)) paths_[i].use = known.use;
    if (paths_[i].use == nullptr) paths_[i].use = std::make_shared<PathUse>();
    if (wanted.id == settings.control) control_ = i;
  }
  if (count_ != 0) inner_limit_ = inner_limit_of(paths_[0]);
  begin_split(before);
  const Path* was = before == nullptr ? nullptr : before->active();
  if ((was == nullptr ? 0 : was->id) == (count_ == 0 ? 0 : paths_[0].id)) return;
  // Another path is active: what was sent by it before is no question of its silence.
  state_->silent.store(false, std::memory_order_relaxed);
  for (const Path& path : paths()) path.use->forget_sent();
}

/// A path that was not split by until now begins where the others are, and makes up for nothing.
void PathSet::begin_split(const PathSet* before) {
  splits_ = std::ranges::count_if(paths(), [](const Path& path) { return path.share != 0; }) > 1;
  if (!splits_) return;
  uint64_t furthest = 0;
  for (const Path& path : paths())
    furthest = std::max(furthest, path.use->split.load(std::memory_order_relaxed));
  for (const Path& path : paths()) {
    if (path.share == 0) continue;
    inner_limit_ = std::min(inner_limit_, inner_limit_of(path));
    const bool split =
        before != nullptr && before->splits() && std::ranges::any_of(before->paths(), [&](const Path& known) {
          return known.use == path.use && known.share == path.share;
        });
    if (!split) path.use->split.store(furthest, std::memory_order_relaxed);
  }
}

const PathSet::Path& PathSet::split(size_t bytes) const {
  const Path* next = nullptr;
  uint64_t least = UINT64_MAX;
  for (const Path& path : paths()) {
    if (path.share == 0) continue;
    const uint64_t at = path.use->split.load(std::memory_order_relaxed);
    if (next != nullptr && at >= least) continue;
    next = &path;
    least = at;
  }
  next->use->split.fetch_add((static_cast<uint64_t>(bytes) << 10) / next->share, std::memory_order_relaxed);
  return *next;
}

size_t PathSet::inner_limit_of(const Path& path) {
  if (path.plpmtu == 0) return SIZE_MAX;
  return path.plpmtu - std::min(path.plpmtu, kTransportOverhead + framing_of(path.ends));
}

const PathSet::Path* PathSet::at(const Endpoint& ends) const {
  for (const Path& path : paths())
    if (same_remote(path.ends, ends) &&
        (path.ends.local.known() ? same_local(path.ends.local, ends.local) : ends.local.port == 0))
      return &path;
  return nullptr;
}

bool PathSet::answers_probe(const Endpoint& from) const {
  if (from.relayed()) return true;
  for (const ProbeRule& rule : probe_rules)
    if (is_of(rule, from)) return rule.answered;
  return true;
}

bool PathSet::data_sent(Nanoseconds now) const {
  if (count_ == 0) return false;
  PathUse& use = *paths_[0].use;
  if (use.unanswered_since.load(std::memory_order_relaxed) != 0) return false;
  // In one order with what arms the timers (SessionTable::arm_paths): either that sees this moment, or this
  // sees that nobody will look.
  use.unanswered_since.store(now, std::memory_order_seq_cst);
  return timing.silent_after != 0 && silent_unseen();
}

bool PathSet::answered(const Path& path, Nanoseconds now) const {
  path.use->answered(now);
  return &path == active() && state_->silent.load(std::memory_order_relaxed) &&
         state_->silent.exchange(false, std::memory_order_relaxed);
}

Nanoseconds PathSet::silent_at() const {
  if (count_ == 0 || timing.silent_after == 0 || state_->silent.load(std::memory_order_relaxed))
    return kNever;
  const PathUse& use = *paths_[0].use;
  const Nanoseconds answered_at = use.answered_at.load(std::memory_order_relaxed);
  // What was sent before may have been reported on.
  const Nanoseconds begin = answered_at - std::min(answered_at, timing.least_round_trip);
  const Nanoseconds since = use.sent_since(begin);
  if (since == 0) return kNever;
  const bool flows =
      timing.silent_between_reports != 0 && answered_at != 0 && since <= begin + timing.report_every;
  return flows ? answered_at + timing.silent_between_reports : since + timing.silent_after;
}

Nanoseconds PathSet::report_at() const {
  Nanoseconds first = kNever;
  for (const Path& path : paths())
    if (const Nanoseconds at = path.use->report_at.load(std::memory_order_seq_cst); at != 0)
      first = std::min(first, at);
  return first;
}

}  // namespace omerta::session
