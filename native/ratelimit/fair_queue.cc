// SPDX-License-Identifier: Apache-2.0
#include "ratelimit/fair_queue.h"

#include <algorithm>
#include <atomic>

namespace omerta {

uint64_t FairQueue::next_period() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

void FairQueue::add(const std::shared_ptr<Flow>& flow) {
  Network& network = networks_[flow->share_.network];
  network.weight = flow->share_.network_weight;
  if (network.flows.empty()) {
    network.start = std::max(network.start, now_);
    networks_by_start_.emplace(network.start, flow->share_.network);
  }
  // Whoever was served a moment ago is not served again as if it came new.
  flow->start_ = flow->period_ == period_ ? std::max(flow->start_, network.now) : network.now;
  flow->period_ = period_;
  flow->in_ = this;
  network.flows.emplace(flow->start_, flow);
  flows_++;
}

void FairQueue::remove(const std::shared_ptr<Flow>& flow) {
  if (flow->in_ != this) return;
  flow->in_ = nullptr;
  const auto found = networks_.find(flow->share_.network);
  if (found == networks_.end() || found->second.flows.erase({flow->start_, flow}) == 0) return;
  flows_--;
  if (found->second.flows.empty()) networks_by_start_.erase({found->second.start, found->first});
  end_if_idle();
}

void FairQueue::end_if_idle() {
  if (!networks_by_start_.empty()) return;
  networks_.clear();
  now_ = 0;
  period_ = next_period();
}

void FairQueue::take_over(const std::shared_ptr<Flow>& flow, const Share& share) {
  if (flow->in_ != nullptr && (flow->in_ != this || flow->share_ != share)) flow->in_->remove(flow);
  if (flow->share_.network != share.network) flow->period_ = 0;
  flow->share_ = share;
  if (flow->in_ == nullptr && !flow->queue_.empty()) add(flow);
}

bool FairQueue::push(const std::shared_ptr<Flow>& flow, const Share& share, Waiting packet) {
  const bool taken = flow->queue_.push(std::move(packet));
  take_over(flow, share);
  return taken;
}

size_t FairQueue::bytes() const {
  size_t all = 0;
  for (const auto& [id, network] : networks_)
    for (const auto& [start, flow] : network.flows) all += flow->queue_.bytes();
  return all;
}

std::optional<Waiting> FairQueue::pop(Nanoseconds target, Nanoseconds now, QueueCounts& all) {
  while (!networks_by_start_.empty()) {
    const auto first = networks_by_start_.begin();
    Network& network = networks_.at(first->second);
    now_ = network.start;
    const std::shared_ptr<Flow> flow = network.flows.begin()->second;
    network.now = flow->start_;
    std::optional<Waiting> packet = flow->queue_.pop(target, now, all);
    auto place = network.flows.extract(network.flows.begin());
    auto network_place = networks_by_start_.extract(first);
    if (packet.has_value()) {
      flow->start_ += length(packet->cost, flow->share_.weight);
      network.start += length(packet->cost, network.weight);
    }
    if (flow->queue_.empty()) {
      flow->in_ = nullptr;
      flows_--;
    } else {
      place.value().first = flow->start_;
      network.flows.insert(std::move(place));
    }
    if (!network.flows.empty()) {
      network_place.value().first = network.start;
      networks_by_start_.insert(std::move(network_place));
    }
    end_if_idle();
    if (packet.has_value()) return packet;
  }
  return std::nullopt;
}

}  // namespace omerta
