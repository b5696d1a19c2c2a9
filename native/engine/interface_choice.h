// SPDX-License-Identifier: Apache-2.0
// Name of the interface by which a datagram to somewhere leaves, as the kernel says. One thread at a time.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "session/endpoint.h"
#include "udp/route_lookup.h"

namespace omerta::engine {

class InterfaceChoice {
 public:
  explicit InterfaceChoice(uint32_t fwmark) : fwmark_(fwmark) {}

  /// Empty: it leaves by none, or nobody can tell.
  std::string of(const session::Endpoint& to);
  /// The mark routes are asked for with from now on. Any thread.
  void set_fwmark(uint32_t fwmark) { fwmark_.store(fwmark, std::memory_order_relaxed); }

 private:
  std::atomic<uint32_t> fwmark_;
  std::optional<udp::RouteLookup> lookup_;
};

}  // namespace omerta::engine
