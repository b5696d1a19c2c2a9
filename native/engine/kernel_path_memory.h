// SPDX-License-Identifier: Apache-2.0
// Maps of the kernel path (native/xdp) that the engine reads and writes as memory: it tells there whom it
// knows and what it expects, and both judge and charge by the same windows and accounts.
#pragma once

#include <optional>

#include "common/shared_mapping.h"
#include "engine/shared.h"
#include "relay/shared_accounts.h"

namespace omerta::engine {

/// Outlives the tables that use it: all of it has to be declared before them. Each is given once.
class KernelPathMemory {
 public:
  /// As Engine::mirror_indices, mirror_expected, mirror_door, share_windows, share_accounts.
  void mirror_indices(session::SessionTable& sessions, int fd);
  void mirror_expected(relay::WireguardTable& wireguard, int fd);
  void mirror_door(Shared& shared, int fd);
  void share_windows(relay::ForwardingTable& legs, const relay::WindowFiles& files);
  void share_accounts(relay::ForwardingTable& legs, const relay::AccountFiles& files,
                      const relay::Accounts::Capacity& capacity);
  /// The key that handshakes for this node have their MAC1 by, where there is a door.
  void tell_key(session::SessionTable& sessions);

 private:
  std::optional<relay::SharedAccounts> accounts_;
  std::optional<relay::SharedWindows> windows_;
  std::optional<SharedMapping> door_;
  std::optional<SharedMapping> indices_;
  std::optional<SharedMapping> expected_;
};

}  // namespace omerta::engine
