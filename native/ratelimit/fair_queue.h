// SPDX-License-Identifier: Apache-2.0
// Who is next on a link that is full: start-time fair queueing (Goyal, Vin and Cheng, "Start-time fair
// queueing", 1996) on two levels. Networks share the link by their weights, and the peers of a network what
// that gets by theirs; what one does not use the others have. No clock and no lock is in here.
//
// Terms
//   flow   the packets of one peer that wait
//   start  virtual time at which the next packet of a flow or network begins; the least is next
#pragma once

#include <map>
#include <memory>
#include <set>

#include "ratelimit/flow_queue.h"

namespace omerta {

/// Of a peer; weights are relative, at least 1.
struct Share {
  uint64_t network = 0;  ///< any number that tells networks apart
  uint32_t network_weight = 1;
  uint32_t weight = 1;

  bool operator==(const Share&) const = default;
};

class FairQueue {
 public:
  class Flow {
   public:
    explicit Flow(QueueRoom& room) : queue_(room) {}
    const FlowQueue& queue() const { return queue_; }
    FlowQueue& queue() { return queue_; }

   private:
    friend class FairQueue;
    FlowQueue queue_;
    Share share_;
    uint64_t start_ = 0;
    uint64_t period_ = 0;      ///< in which `start_` means something
    FairQueue* in_ = nullptr;  ///< nullptr: nothing waits
  };

  FairQueue() = default;
  FairQueue(const FairQueue&) = delete;
  FairQueue& operator=(const FairQueue&) = delete;

  bool empty() const { return networks_by_start_.empty(); }
  size_t flows() const { return flows_; }
  size_t bytes() const;

  /// A flow belongs to the queue it was last pushed to, with all that waits in it. Its share is this from now
  /// on. false: it has no room.
  bool push(const std::shared_ptr<Flow>& flow, const Share& share, Waiting packet);
  /// The same for what waits in the flow already.
  void take_over(const std::shared_ptr<Flow>& flow, const Share& share);
  /// As FlowQueue::pop.
  std::optional<Waiting> pop(Nanoseconds target, Nanoseconds now, QueueCounts& all);
  /// Takes the flow out; its packets stay in it.
  void remove(const std::shared_ptr<Flow>& flow);

 private:
  using FlowsByStart = std::set<std::pair<uint64_t, std::shared_ptr<Flow>>>;
  struct Network {
    uint32_t weight = 1;
    uint64_t start = 0;
    uint64_t now = 0;  ///< virtual time among its flows
    FlowsByStart flows;
  };

  void add(const std::shared_ptr<Flow>& flow);
  void end_if_idle();
  static uint64_t next_period();
  /// Virtual time a packet takes at a weight. 2^54 bytes of weight 1 without a pause are years of any link.
  static uint64_t length(size_t cost, uint32_t weight) {
    return (static_cast<uint64_t>(cost) << 10) / weight;
  }

  std::map<uint64_t, Network> networks_;
  std::set<std::pair<uint64_t, uint64_t>> networks_by_start_;
  uint64_t now_ = 0;                 ///< virtual time among networks
  uint64_t period_ = next_period();  ///< another one, and of no other queue, whenever nothing waits
  size_t flows_ = 0;
};

}  // namespace omerta
