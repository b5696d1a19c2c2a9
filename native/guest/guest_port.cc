// SPDX-License-Identifier: Apache-2.0
#include "guest/guest_port.h"

#include <arpa/inet.h>

#include <utility>

namespace omerta::guest {
namespace {

/// Buffers of nothing but what is dropped, before others have their turn.
constexpr int kRounds = 4;
/// Answers that are written together.
constexpr size_t kAnswersTogether = size_t{64} << 10;
/// Pieces of the packets that are written together.
constexpr size_t kPieces = 256;
static_assert(kPieces >= inner::kMaxParts);

constexpr Counter kCounterOf[kVerdicts] = {
    Counter::guest_passed,           Counter::guest_answered,        Counter::guest_noise,
    Counter::drop_guest_malformed,   Counter::drop_guest_oversized,  Counter::drop_guest_fragment,
    Counter::drop_guest_spoofed_mac, Counter::drop_guest_spoofed_ip, Counter::drop_guest_other_station,
    Counter::drop_guest_other_type,  Counter::drop_guest_arp_scan,   Counter::drop_guest_neighbour_scan,
    Counter::drop_guest_dhcp,        Counter::drop_guest_router,     Counter::drop_guest_gateway,
    Counter::drop_guest_multicast,
};

constexpr inner::VirtioNetHeader kPlain{};

void write_length(uint8_t* at, size_t length) { store(at, htonl(static_cast<uint32_t>(length))); }

}  // namespace

GuestPort::GuestPort(std::shared_ptr<GuestSocket> socket, Link link, CounterRow& counters)
    : socket_(std::move(socket)), gateway_(std::move(link)), counters_(counters) {
  socket_->begin_counts();
}

std::span<const inner::Received> GuestPort::receive() {
  take_names();
  socket_->flush();
  for (int round = 0;; round++) {
    const size_t count = judge_frames();
    if (count != 0) {
      send_answers();
      // What may be left of the buffer shows at no socket: whoever stops asking before the end is told to go
      // on.
      if (count == kBatch && !std::exchange(rung_, true)) socket_->ring();
      return {received_, count};
    }
    if (round == kRounds || !socket_->fill()) break;
  }
  send_answers();
  if (std::exchange(rung_, false)) {
    const std::lock_guard lock(mutex_);
    if (!changed_.load(std::memory_order_relaxed)) socket_->quiet();
  }
  return {};
}

/// Up to a batch of packets for the worker. Fewer: no whole frame is left in the buffer.
size_t GuestPort::judge_frames() {
  size_t count = 0;
  while (count < kBatch) {
    const std::span<uint8_t> frame = socket_->next();
    if (frame.empty()) break;
    const Decision decision = gateway_.judge(frame);
    counters_.add(kCounterOf[static_cast<size_t>(decision.verdict)]);
    if (decision.verdict == Verdict::passed)
      received_[count++] = {&kPlain, decision.packet.data(), decision.packet.size()};
    else if (decision.verdict == Verdict::answered)
      answer(decision.answer);
  }
  return count;
}

void GuestPort::answer(Bytes frame) {
  if (answers_.size() >= kAnswersTogether) send_answers();
  const size_t at = answers_.size();
  answers_.resize(at + kLengthSize);
  write_length(&answers_[at], frame.size());
  answers_.insert(answers_.end(), frame.begin(), frame.end());
  answer_sizes_.push_back(kLengthSize + frame.size());
}

/// Those there is no room for are lost: who asked asks again.
void GuestPort::send_answers() {
  if (answers_.empty()) return;
  std::vector<iovec> pieces;
  uint8_t* at = answers_.data();
  for (const size_t size : answer_sizes_) {
    pieces.push_back({at, size});
    at += size;
  }
  socket_->write(pieces, std::vector<size_t>(pieces.size(), 1));
  answers_.clear();
  answer_sizes_.clear();
}

bool GuestPort::is_guests(const inner::Gathered& packet) const {
  if (packet.size() < 2) return false;
  const auto* ip = static_cast<const uint8_t*>(packet[1].iov_base);
  const bool v4 = packet[1].iov_len >= 20 && ip[0] >> 4 == 4;
  if (!v4 && (packet[1].iov_len < 40 || ip[0] >> 4 != 6)) return false;
  return gateway_.is_guests(v4 ? 4 : 6, ip + (v4 ? 16 : 24));
}

inner::Port::Taken GuestPort::send(std::span<const inner::Gathered> packets) {
  struct Head {
    uint8_t bytes[kLengthSize + kEthernetHeader];
  };
  Head heads[kBatch];
  iovec pieces[kPieces];
  size_t parts[kBatch], of[kBatch];  // of: which packet a frame is
  size_t frames = 0, used = 0, i = 0;
  Stop stop = Stop::none;
  for (; i < packets.size() && frames < kBatch && used + packets[i].size() <= kPieces; i++) {
    const auto* virtio = static_cast<const inner::VirtioNetHeader*>(packets[i][0].iov_base);
    if (virtio->gso_type != inner::kGsoNone || (virtio->flags & inner::kNeedsChecksum) != 0) {
      stop = Stop::refused;
      break;
    }
    if (!is_guests(packets[i])) {
      counters_.add(Counter::drop_guest_not_its_own);
      continue;
    }
    uint8_t* const head = heads[frames].bytes;
    size_t size = kEthernetHeader;
    pieces[used++] = {head, sizeof(Head)};
    for (const iovec& piece : packets[i].subspan(1)) {
      pieces[used++] = piece;
      size += piece.iov_len;
    }
    write_length(head, size);
    std::memcpy(head + kLengthSize, gateway_.link().guest.data(), 6);
    std::memcpy(head + kLengthSize + 6, kGatewayMac.data(), 6);
    const bool v4 = *static_cast<const uint8_t*>(packets[i][1].iov_base) >> 4 == 4;
    store(head + kLengthSize + 12, htons(v4 ? kTypeIpv4 : kTypeIpv6));
    of[frames] = i;
    parts[frames++] = packets[i].size();
  }
  const size_t taken = socket_->write({pieces, used}, {parts, frames});
  if (taken < frames) return {of[taken], Stop::full};
  if (stop != Stop::none || i == packets.size()) return {i, stop};
  const Taken rest = send(packets.subspan(i));
  return {i + rest.count, rest.stop};
}

void GuestPort::set_names(std::vector<Ipv4> names4, std::vector<Ipv6> names6) {
  const std::lock_guard lock(mutex_);
  new_names_ = {std::move(names4), std::move(names6)};
  changed_.store(true, std::memory_order_relaxed);
  socket_->ring();
}

void GuestPort::take_names() {
  if (!changed_.load(std::memory_order_relaxed)) return;
  Names names;
  {
    const std::lock_guard lock(mutex_);
    names = std::move(*std::exchange(new_names_, std::nullopt));
    changed_.store(false, std::memory_order_relaxed);
    socket_->quiet();
    rung_ = false;
  }
  gateway_.set_names(std::move(names.ipv4), std::move(names.ipv6));
  answer(gateway_.advertisement());
}

}  // namespace omerta::guest
