// SPDX-License-Identifier: Apache-2.0
// The servers whose stock clients are relayed: which number each has in the relay's table. One keeps its
// number as long as it is bound, for its sessions are known by it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "engine/shared.h"

namespace omerta::engine {

class WireguardBindings {
 public:
  /// `shared` has to outlive it.
  explicit WireguardBindings(Shared& shared) : shared_(shared) {}

  /// As Engine::set_wireguard_bindings.
  void set(std::span<const omerta_wireguard_binding> bindings);
  /// In the order they were set.
  std::vector<relay::WireguardTable::Usage> usage() const;
  /// Number of each, in the same order.
  const std::vector<size_t>& numbers() const { return order_; }

 private:
  Shared& shared_;
  std::vector<std::optional<Key32>> held_;  ///< public key by number
  std::vector<size_t> order_;
};

}  // namespace omerta::engine
