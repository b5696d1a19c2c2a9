// SPDX-License-Identifier: Apache-2.0
// Relays messages of stock WireGuard sessions: carries out and counts what the table of them says.
#pragma once

#include "engine/sender.h"

namespace omerta::engine {

class WireguardRelay {
 public:
  explicit WireguardRelay(Sender& out) : out_(out), shared_(out.shared()), counters_(out.counters()) {}

  /// A handshake message or transport packet that is not this node's own; its memory must live until the
  /// next flush. false: nobody's; the caller counts it.
  bool handshake(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn, Nanoseconds now);
  bool transport(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn, Nanoseconds now);

 private:
  bool carry_out(const relay::WireguardTable::Result& result, uint8_t* data, size_t size, uint8_t ecn);

  Sender& out_;
  Shared& shared_;
  CounterRow& counters_;
};

}  // namespace omerta::engine
