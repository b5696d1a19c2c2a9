// SPDX-License-Identifier: Apache-2.0
// Pings of guests to others than this node: each identifier of a guest has a ping socket of the machine
// (icmp(7)), where net.ipv4.ping_group_range lets this user have one, and what is answered there is sent on
// as from who answered. It counts as a port for datagrams.
#pragma once

#include <unordered_map>

#include "exit/answers.h"
#include "exit/guests.h"
#include "exit/poller.h"

namespace omerta::exit {

class PingFlows {
 public:
  /// key: random bytes nobody else knows.
  PingFlows(const Key32& key, Guests& guests, Poller& poller, Answers& answers);
  ~PingFlows();
  PingFlows(const PingFlows&) = delete;
  PingFlows& operator=(const PingFlows&) = delete;

  /// A packet of a guest's that is for none of this node's addresses; what is no echo request is dropped.
  void send(const stack::PacketView& packet, Nanoseconds now);
  /// Ends what has been silent for long. When to call it again.
  Nanoseconds tidy(Nanoseconds now);
  /// Ends those whose guest is none any more.
  void end_unpermitted();
  size_t open() const { return mappings_.size(); }

 private:
  class Mapping;
  using Mappings = std::unordered_map<stack::Flow, std::unique_ptr<Mapping>, stack::FlowHash>;

  Mapping* mapping_of(const stack::Flow& key, const Destination& destination);
  void close(Mappings::iterator at);

  Guests& guests_;
  Poller& poller_;
  Answers& answers_;
  /// By address of the guest, and identifier as its port; the rest of the flow is empty.
  Mappings mappings_;
  Nanoseconds now_ = 0;
  Nanoseconds tidy_at_ = 0;
};

}  // namespace omerta::exit
