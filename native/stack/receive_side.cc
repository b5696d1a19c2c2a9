// SPDX-License-Identifier: Apache-2.0
#include "stack/receive_side.h"

namespace omerta::stack {
namespace {

/// RFC 9293 3.8.6.3 allows half a second; so long a sender's timeout would not wait.
constexpr Nanoseconds kAckDelay = 40 * kMillisecond;
/// The first are told at once: a sender in slow start waits for them.
constexpr unsigned kQuick = 16;
/// Of what the budget has left, a connection is offered so much: a few that nobody reads do not take it all.
constexpr size_t kShareOfBudget = 8;
constexpr size_t kLeastOffer = 16 * 1024;

}  // namespace

void ReceiveSide::begin(Sequence first, uint8_t shift, uint32_t mss) {
  next_ = acknowledged_ = first;
  shift_ = shift;
  mss_ = mss;
  quick_ = kQuick;
  edge_ = first;
}

bool ReceiveSide::text(Sequence begin, Scattered bytes, size_t segment_size, Sink& sink, Nanoseconds now) {
  const size_t size = bytes.size();
  mss_ = std::max(
      mss_, static_cast<uint32_t>(segment_size == 0 ? std::min<size_t>(size, UINT16_MAX) : segment_size));
  const bool holes = !pieces_.empty();
  if (before(begin, next_)) {
    const Sequence end = earlier(next_, begin + static_cast<Sequence>(size));
    twice_ = SackBlock{begin, end};
    bytes.drop_front(end - begin);
    begin = end;
    now_ = true;
  }
  bool kept = true;
  if (begin == next_) {
    const Sequence first = next_;
    const auto whole = static_cast<Sequence>(bytes.size());
    in_order(bytes, sink);
    kept = !before(next_, first + whole);
  } else {
    kept = keep(begin, bytes);
  }
  unacknowledged_ += size;
  // RFC 5681 4.2: at once where there are holes, and for each second full segment.
  if (holes || !pieces_.empty() || !kept || unacknowledged_ >= 2 * mss_ || quick_ > 0)
    now_ = true;
  else if (due_at_ == kNever)
    due_at_ = now + kAckDelay;
  return kept;
}

void ReceiveSide::in_order(Scattered bytes, Sink& sink) {
  if (waiting_ == 0) {
    const size_t taken = sink.take(bytes);
    next_ += static_cast<Sequence>(taken);
    ring_.drop(taken);
    bytes.drop_front(taken);
  }
  if (!bytes.empty() && ring_.reserve(waiting_ + bytes.size())) {
    ring_.write(waiting_, bytes);
    waiting_ += bytes.size();
    next_ += static_cast<Sequence>(bytes.size());
  }
  const bool more = !pieces_.empty() && at_or_before(pieces_.front().begin, next_);
  join_first();
  step_over_fin();
  if (more) drain(sink);
}

/// Pieces that are next now are in order.
void ReceiveSide::join_first() {
  size_t joined = 0;
  for (; joined < pieces_.size() && at_or_before(pieces_[joined].begin, next_); joined++) {
    if (!before(next_, pieces_[joined].end)) continue;
    waiting_ += pieces_[joined].end - next_;
    next_ = pieces_[joined].end;
  }
  pieces_.erase(pieces_.begin(), pieces_.begin() + static_cast<std::ptrdiff_t>(joined));
}

bool ReceiveSide::keep(Sequence begin, const Scattered& bytes) {
  if (bytes.empty()) return true;
  const Sequence end = begin + static_cast<Sequence>(bytes.size());
  for (const Piece& piece : pieces_)
    if (at_or_before(piece.begin, begin) && at_or_before(end, piece.end)) twice_ = SackBlock{begin, end};
  const size_t offset = waiting_ + (begin - next_);
  if (pieces_.size() >= kMaxPieces || !ring_.reserve(offset + bytes.size())) return false;
  ring_.write(offset, bytes);
  add_piece(begin, end);
  return true;
}

void ReceiveSide::add_piece(Sequence begin, Sequence end) {
  size_t from = 0;
  while (from < pieces_.size() && before(pieces_[from].end, begin)) from++;
  size_t to = from;
  for (; to < pieces_.size() && at_or_before(pieces_[to].begin, end); to++) {
    begin = earlier(begin, pieces_[to].begin);
    end = later(end, pieces_[to].end);
  }
  const auto at = [this](size_t i) { return pieces_.begin() + static_cast<std::ptrdiff_t>(i); };
  const Piece piece{begin, end, ++heard_};
  if (to == from) {
    pieces_.insert(at(from), piece);
  } else {
    pieces_[from] = piece;
    pieces_.erase(at(from + 1), at(to));
  }
}

void ReceiveSide::fin(Sequence at) {
  has_fin_ = true;
  fin_ = at;
  now_ = true;
  step_over_fin();
}

void ReceiveSide::step_over_fin() {
  if (has_fin_ && next_ == fin_) next_++;
}

void ReceiveSide::drain(Sink& sink) {
  while (waiting_ != 0) {
    iovec parts[2];
    const size_t count = ring_.parts(0, waiting_, parts);
    const size_t taken = sink.take(Scattered({parts, count}, 0, waiting_));
    if (taken == 0) break;
    ring_.drop(taken);
    waiting_ -= taken;
  }
  if (ended()) return;  // nobody needs a window any more, and the peer may be gone
  // A window that opens is told when it is worth a segment (RFC 9293 3.8.6.2.2).
  const uint32_t more = largest_offer() - std::min(window(), largest_offer());
  if (window() < limit_ / 2 && more >= std::min(limit_ / 2, 2 * mss_)) now_ = true;
}

void ReceiveSide::repeated(Sequence begin, Sequence end) {
  now_ = true;
  // Only a part that was received (RFC 2883 4): what lies beyond the window was not.
  if (before(begin, end) && at_or_before(end, next_) && !before(end, next_ - limit_))
    twice_ = SackBlock{begin, end};
}

uint32_t ReceiveSide::largest_offer() const {
  const size_t free = waiting_ < limit_ ? limit_ - waiting_ : 0;
  // Memory that is there already is no new one.
  const size_t there = ring_.capacity() - std::min(ring_.capacity(), waiting_);
  // Whoever reads needs no memory here: without a budget, too, both directions of all connections go on.
  const size_t least = waiting_ == 0 ? kLeastOffer : 0;
  return static_cast<uint32_t>(
      std::min(free, std::max(std::max(budget_.left() / kShareOfBudget, there), least)));
}

uint16_t ReceiveSide::offer() {
  const Sequence edge = next_ + largest_offer();
  // In steps of a segment, or not at all (RFC 9293 3.8.6.2.2).
  if (before(edge_, edge) && edge - edge_ >= std::min(limit_ / 2, mss_)) edge_ = edge;
  const uint32_t unit = 1U << shift_;
  const uint32_t told = std::min<uint32_t>((window() + unit - 1) >> shift_, UINT16_MAX);
  edge_ = later(edge_, next_ + (told << shift_));  // rounded up, so that the edge does not go back
  return static_cast<uint16_t>(told);
}

uint16_t ReceiveSide::offer_unscaled() {
  const uint32_t told = std::min<uint32_t>(largest_offer(), UINT16_MAX);
  edge_ = later(edge_, next_ + told);
  return static_cast<uint16_t>(told);
}

size_t ReceiveSide::sack_blocks(SackBlock* out, size_t most) const {
  size_t count = 0;
  if (twice_.has_value() && most > 0) out[count++] = *twice_;
  // The piece of the segment that came last is first (RFC 2018 4), then those heard of before it.
  for (uint64_t below = UINT64_MAX; count < most;) {
    const Piece* latest = nullptr;
    for (const Piece& piece : pieces_)
      if (piece.heard < below && (latest == nullptr || piece.heard > latest->heard)) latest = &piece;
    if (latest == nullptr) break;
    below = latest->heard;
    out[count++] = {latest->begin, latest->end};
  }
  return count;
}

void ReceiveSide::acknowledged() {
  acknowledged_ = next_;
  unacknowledged_ = 0;
  if (quick_ > 0) quick_--;
  now_ = false;
  due_at_ = kNever;
  twice_.reset();
}

}  // namespace omerta::stack
