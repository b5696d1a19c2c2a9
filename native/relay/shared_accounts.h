// SPDX-License-Identifier: Apache-2.0
// Accounts in memory the XDP relay charges too (its maps, xdp/limits.h), so that a limit holds for the
// kernel path and the socket engine together.
#pragma once

#include <vector>

#include "common/shared_mapping.h"
#include "relay/accounts.h"

namespace omerta::relay {

/// BPF array maps with as many entries as the capacity says, by file descriptor.
struct AccountFiles {
  int policy;
  int limits;
  int identities;
  int networks;
  int host;
  int prefixes;
};

class SharedAccounts {
 public:
  /// @throws std::system_error
  SharedAccounts(const AccountFiles& files, const Accounts::Capacity& capacity);
  /// Valid as long as this lives.
  Accounts::Memory memory() const;

 private:
  std::vector<SharedMapping> mappings_;
};

}  // namespace omerta::relay
