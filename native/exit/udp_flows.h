// SPDX-License-Identifier: Apache-2.0
// Datagrams of guests: each port of a guest has one of the machine for all it sends (RFC 4787, REQ-1), and
// what comes back there from where the guest has sent to (REQ-8) is sent on as from there. Questions for
// names that are asked of this node itself have ports of their own, for as long as one is not answered. What
// goes no further is told to the guest: here, and by what the network says of it.
#pragma once

#include <deque>
#include <unordered_map>

#include "exit/answers.h"
#include "exit/guests.h"
#include "exit/poller.h"
#include "stack/datagram.h"

namespace omerta::exit {

class UdpFlows {
 public:
  UdpFlows(const Key32& key, size_t mtu, Guests& guests, Poller& poller, Answers& answers);
  ~UdpFlows();
  UdpFlows(const UdpFlows&) = delete;
  UdpFlows& operator=(const UdpFlows&) = delete;

  void send(const stack::Datagrams& datagrams, Nanoseconds now);
  /// The next packet for a guest; nullptr: there is none.
  const inner::Received* next();
  /// Ends what has been silent for long. When to call it again.
  Nanoseconds tidy(Nanoseconds now);
  /// Ends those whose guest is none any more.
  void end_unpermitted();
  size_t open() const { return mappings_.size(); }

 private:
  class Mapping;

  using Mappings = std::unordered_map<stack::Flow, std::unique_ptr<Mapping>, stack::FlowHash>;

  Mapping* mapping_of(const stack::Flow& flow, const Destination& destination);
  void arrived(const stack::Flow& flow, Bytes payload);
  void close(Mappings::iterator at);

  static constexpr size_t kMaxWaiting = 256;

  const size_t mtu_;
  Guests& guests_;
  Poller& poller_;
  Answers& answers_;
  /// By address and port of the guest; the rest of the flow is empty, but where names are asked for.
  Mappings mappings_;
  std::deque<std::vector<uint8_t>> waiting_;
  std::vector<uint8_t> packet_;
  inner::Received received_{};
  uint32_t fragmented_ = 0;
  Nanoseconds now_ = 0;
  Nanoseconds tidy_at_ = 0;
};

}  // namespace omerta::exit
