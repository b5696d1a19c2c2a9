// SPDX-License-Identifier: Apache-2.0
#include "engine/egress.h"

#include <algorithm>
#include <cstring>

namespace omerta::engine {
namespace {

/// What may leave at once after a pause: so late may worker 0 come without losing any of the rate.
constexpr double kDepth = 10 * static_cast<double>(kMillisecond);
/// Two packets, of links so slow that they have less than that in kDepth.
constexpr double kLeastDepth = 3000;
/// Worker 0 is woken no more often for one link.
constexpr double kQuantum = 1 * static_cast<double>(kMillisecond);
/// What was sent past the queue is made up for by data during so long at most.
constexpr double kLongestDebt = static_cast<double>(kSecond);
constexpr double kPacket = 1500;
constexpr Nanoseconds kWayKnown = kSecond;
constexpr size_t kMaxWays = 4096;

constexpr size_t kIpv4AndUdp = 28;
constexpr size_t kIpv6AndUdp = 48;

bool is_v4(const omerta_address& address) {
  return omerta_load64(address.ip) == 0 && omerta_load32(address.ip + 8) == 0xffff0000;
}

}  // namespace

// ---- a link ---------------------------------------------------------------------------------------

double Egress::Link::depth() const { return std::max(kLeastDepth, rate * kDepth); }

void Egress::Link::fill(Nanoseconds now) {
  if (now <= filled) return;
  tokens = std::min(depth(), tokens + rate * static_cast<double>(now - filled));
  filled = now;
}

void Egress::Link::pay(size_t bytes) {
  sent_bytes += bytes;
  tokens = std::max(tokens - static_cast<double>(bytes), -rate * kLongestDebt);
}

Nanoseconds Egress::Link::next(Nanoseconds now) const {
  if (open()) return now;
  const double wanted = std::min(depth(), rate * kQuantum) - tokens;
  return now + static_cast<Nanoseconds>(wanted / rate) + 1;
}

/// Each flow has two packets on their way through the link before that counts as a queue that stands.
Nanoseconds Egress::Link::target() const {
  if (rate == 0) return CoDel::kTarget;
  const double two = 2 * kPacket * static_cast<double>(std::max<size_t>(queue.flows(), 1)) / rate;
  return std::max(CoDel::kTarget, static_cast<Nanoseconds>(two));
}

// ---- configuration --------------------------------------------------------------------------------

Egress::Link* Egress::find_link(const std::string& interface) {
  for (const auto& link : links_)
    if (link->interface == interface) return link.get();
  return nullptr;
}

void Egress::set_ceilings(const std::vector<Ceiling>& ceilings, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  std::vector<std::unique_ptr<Link>> before = std::move(links_);
  links_.clear();
  for (const Ceiling& ceiling : ceilings) {
    const auto known = std::ranges::find_if(
        before, [&](const auto& link) { return link && link->interface == ceiling.interface; });
    const bool added = known == before.end();
    std::unique_ptr<Link> link = added ? std::make_unique<Link>() : std::move(*known);
    link->interface = ceiling.interface;
    link->rate = static_cast<double>(ceiling.bytes_per_second) / static_cast<double>(kSecond);
    if (added) {
      link->filled = now;
      link->tokens = link->depth();
    }
    link->tokens = std::min(link->tokens, link->depth());
    links_.push_back(std::move(link));
  }
  ways_.clear();
  for (auto& [key, flow] : flows_) {
    const bool gone =
        std::ranges::any_of(before, [&](const auto& link) { return link && link.get() == flow.link; });
    if (!gone) continue;
    if (flow.slot == 0) unlimited_.queue.take_over(flow.flow, flow.share);
    flow.link = &unlimited_;
  }
  limits_.store(!links_.empty(), std::memory_order_relaxed);
  wake(now);
}

void Egress::set_slot(const Key32& peer, PeerFlow& flow, Nanoseconds due) {
  slots_.erase({flow.due, peer});
  flow.due = due;
  if (flow.slot != 0) slots_.emplace(due, peer);
}

void Egress::set_flow(const EgressFlow& wanted, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  PeerFlow& flow = flows_[wanted.peer];
  if (flow.flow == nullptr) flow.flow = std::make_shared<FairQueue::Flow>(room_);
  flow.share = wanted.share;
  if (flow.slot == wanted.slot) return;
  // What waits was put in line the other way.
  if (flow.slot == 0 && flow.link != nullptr) flow.link->queue.remove(flow.flow);
  if (wanted.slot == 0) {
    unlimited_.queue.take_over(flow.flow, flow.share);
    flow.link = &unlimited_;
  }
  flow.slot = wanted.slot;
  set_slot(wanted.peer, flow, now + wanted.slot);
  wake(now);
}

void Egress::drop_waiting(PeerFlow& flow) {
  if (flow.link != nullptr) flow.link->queue.remove(flow.flow);
}

void Egress::remove_flow(const Key32& peer) {
  const std::lock_guard lock(mutex_);
  const auto found = flows_.find(peer);
  if (found == flows_.end()) return;
  slots_.erase({found->second.due, peer});
  drop_waiting(found->second);
  flows_.erase(found);
}

void Egress::release_flow(const Key32& peer, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  const auto found = flows_.find(peer);
  if (found == flows_.end()) return;
  slots_.erase({found->second.due, peer});
  unlimited_.queue.take_over(found->second.flow, found->second.share);
  flows_.erase(found);
  wake(now);
}

void Egress::remove_all_flows() {
  const std::lock_guard lock(mutex_);
  slots_.clear();
  for (auto& [key, flow] : flows_) drop_waiting(flow);
  flows_.clear();
}

std::vector<LinkStatus> Egress::links() {
  const std::lock_guard lock(mutex_);
  std::vector<LinkStatus> all;
  for (const auto& link : links_)
    all.push_back({link->interface, static_cast<uint64_t>(link->rate * static_cast<double>(kSecond) + 0.5),
                   link->sent_bytes, link->queue.bytes()});
  return all;
}

std::optional<Egress::FlowStatus> Egress::status(const Key32& peer) {
  const std::lock_guard lock(mutex_);
  const auto found = flows_.find(peer);
  if (found == flows_.end()) return std::nullopt;
  const FlowQueue& queue = found->second.flow->queue();
  return FlowStatus{queue.counts(), queue.bytes()};
}

// ---- what goes in ---------------------------------------------------------------------------------

size_t Egress::cost_of(const session::Endpoint& to, size_t datagram) {
  return datagram + (is_v4(to.remote) ? kIpv4AndUdp : kIpv6AndUdp);
}

Egress::Link* Egress::link_of(const session::Endpoint& to, Nanoseconds now) {
  if (links_.empty()) return nullptr;
  Way way{};
  std::memcpy(way.data(), to.remote.ip, 16);
  std::memcpy(way.data() + 16, to.local.ip, 16);
  std::memcpy(way.data() + 32, &to.local.leaves_by, 4);
  if (const auto known = ways_.find(way); known != ways_.end() && now < known->second.until)
    return known->second.link;
  if (ways_.size() >= kMaxWays) ways_.clear();
  Link* link = find_link(interface_of_(to));
  ways_[way] = {link, now + kWayKnown};
  return link;
}

void Egress::charge(const session::Endpoint& to, size_t size, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  Link* link = link_of(to, now);
  if (link == nullptr) return;
  link->fill(now);
  link->pay(cost_of(to, size));
}

bool Egress::pass(const Key32& peer, const session::Endpoint& to, size_t cost, Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  const auto found = flows_.find(peer);
  if (found == flows_.end()) return true;
  const PeerFlow& flow = found->second;
  // While worker 0 sends what it took, the peer's next packet would overtake it.
  if (taking_ || flow.slot != 0 || !flow.flow->queue().empty()) return false;
  Link* link = link_of(to, now);
  if (link == nullptr) return true;
  link->fill(now);
  if (!link->queue.empty() || link->tokens < static_cast<double>(cost)) return false;
  link->pay(cost);
  return true;
}

size_t Egress::push(const Key32& peer, const session::Endpoint& to, std::vector<Waiting> packets,
                    Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  const auto found = flows_.find(peer);
  if (found == flows_.end()) return packets.size();
  PeerFlow& flow = found->second;
  Link* link = link_of(to, now);
  flow.link = link == nullptr ? &unlimited_ : link;
  size_t dropped = 0;
  for (Waiting& packet : packets) {
    const bool taken = flow.slot != 0 ? flow.flow->queue().push(std::move(packet))
                                      : flow.link->queue.push(flow.flow, flow.share, std::move(packet));
    dropped += taken ? 0 : 1;
  }
  if (!taking_) wake(now);
  return dropped;
}

// ---- what comes out -------------------------------------------------------------------------------

/// A slot that was missed is not made up for: the peer's packets would show it.
void Egress::take_slots(std::vector<Due>& due, Nanoseconds now, QueueCounts& all) {
  while (due.size() < kTaken && !slots_.empty() && slots_.begin()->first <= now) {
    const Key32 peer = slots_.begin()->second;
    PeerFlow& flow = flows_.at(peer);
    std::optional<Waiting> packet = flow.flow->queue().pop(std::max(CoDel::kTarget, 2 * flow.slot), now, all);
    const Nanoseconds late = (now - flow.due) / flow.slot;
    set_slot(peer, flow, flow.due + (late + 1) * flow.slot);
    Due& next = due.emplace_back(Due{.peer = peer, .packet = {}});
    if (!packet.has_value()) continue;
    if (flow.link != nullptr && flow.link != &unlimited_) {
      flow.link->fill(now);
      flow.link->pay(packet->cost);
    }
    next.packet = std::move(packet->packet);
  }
}

void Egress::take_from(Link& link, std::vector<Due>& due, Nanoseconds now, QueueCounts& all) {
  link.fill(now);
  while (due.size() < kTaken && link.open()) {
    std::optional<Waiting> packet = link.queue.pop(link.target(), now, all);
    if (!packet.has_value()) return;
    if (link.rate != 0) link.pay(packet->cost);
    due.push_back({.peer = {}, .packet = std::move(packet->packet)});
  }
}

void Egress::take(std::vector<Due>& due, Nanoseconds now, QueueCounts& all) {
  const std::lock_guard lock(mutex_);
  due.clear();
  take_slots(due, now, all);
  take_from(unlimited_, due, now, all);
  // Another link is first each time, so that none goes without when there is more than can be taken.
  turn_++;
  for (size_t i = 0; i < links_.size(); i++) take_from(*links_[(turn_ + i) % links_.size()], due, now, all);
  taking_ = true;
}

void Egress::taken(Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  taking_ = false;
  woken_at_ = UINT64_MAX;  // what it was woken for is done
  wake(now);
}

void Egress::wake(Nanoseconds now) {
  Nanoseconds next = slots_.empty() ? UINT64_MAX : slots_.begin()->first;
  if (!unlimited_.queue.empty()) next = std::min(next, now);
  for (const auto& link : links_)
    if (!link->queue.empty()) next = std::min(next, link->next(now));
  if (next == woken_at_ || (next > woken_at_ && next != UINT64_MAX)) return;
  woken_at_ = next;
  wake_at_(next);
}

}  // namespace omerta::engine
