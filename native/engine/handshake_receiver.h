// SPDX-License-Identifier: Apache-2.0
// Handshake messages that arrive: handed to the session table, or to the relay of stock sessions when they
// are not for this node, and counted by what came of them.
#pragma once

#include "engine/wireguard_relay.h"

namespace omerta::engine {

class HandshakeReceiver {
 public:
  HandshakeReceiver(Sender& out, WireguardRelay& relay) : out_(out), relay_(relay) {}

  /// An initiation, a response or a cookie reply; omerta_classify has enforced its size.
  void receive(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn, Nanoseconds now);

 private:
  Sender& out_;
  WireguardRelay& relay_;
};

}  // namespace omerta::engine
