// SPDX-License-Identifier: Apache-2.0
// Connections of guests, each with a socket of the machine: the socket is connected before the guest's SYN is
// answered, so that a guest is refused where it would be without the exit. What either side reads slowly, the
// other is read slowly.
#pragma once

#include <deque>

#include "exit/guests.h"
#include "exit/poller.h"
#include "stack/stack.h"

namespace omerta::exit {

class TcpFlows final : private stack::Handler {
 public:
  TcpFlows(const stack::Settings& settings, const Key32& key, Guests& guests, Poller& poller);
  ~TcpFlows() override;

  stack::Stack& stack() { return stack_; }
  /// A packet of protocol TCP of a guest's.
  void receive(const stack::PacketView& packet, Nanoseconds now) {
    now_ = now;
    stack_.receive(packet, now);
  }
  /// Ends what has been connecting or silent for long. When to call it again.
  Nanoseconds tidy(Nanoseconds now);
  /// Ends those whose guest or way is permitted no more.
  void end_unpermitted();
  size_t open() const { return stack_.connections(); }

 private:
  class Flow;

  void asked(stack::Connection& connection) override;
  void opened(stack::Connection& connection) override;
  size_t data(stack::Connection& connection, const stack::Scattered& bytes) override;
  void ended(stack::Connection& connection) override;
  void writable(stack::Connection& connection) override;
  void closed(stack::Connection& connection, stack::Ended why) override;
  static Flow& flow_of(stack::Connection& connection);
  void close(Flow& flow, bool reset);

  Guests& guests_;
  Poller& poller_;
  stack::Stack stack_;
  struct Dialing {
    stack::Flow flow;
    Nanoseconds until;
  };
  std::deque<Dialing> dialing_;  ///< the first to be given up first
  Nanoseconds now_ = 0;
  Nanoseconds tidy_at_ = 0;
};

}  // namespace omerta::exit
