// SPDX-License-Identifier: Apache-2.0
// Where packets of a peer may go besides this node itself: what an exit forwards, and LANs behind the node,
// for those who have the right to it. A set of rules is never changed, but replaced: workers read it without
// a lock.
//
// A binary trie for each family, in one array; a look-up ends where no prefix is longer, for most addresses
// within a few steps.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "session/allowed_ips.h"

namespace omerta::session {

/// What packets of a peer may be for.
enum class Transit : uint8_t {
  any,   ///< as WireGuard has it: whoever routes decides
  none,  ///< this node's own inner addresses
  exit,  ///< these, and what the exit rules permit
  lan,   ///< these, and what the LAN rules permit
  exit_and_lan,
};

struct ExitRule {
  Prefix prefix;
  bool denied = false;
};

class ExitRules {
 public:
  /// own: the node's inner addresses, whole. Of the rules, the longest prefix that holds an address decides,
  /// of equal ones the last; what none holds is permitted to who has an exit, and denied to who has LANs.
  explicit ExitRules(std::span<const Prefix> own, std::span<const ExitRule> rules = {},
                     std::span<const ExitRule> lan = {});

  /// `address` has 4 bytes for family 4, 16 for family 6.
  bool is_own(uint8_t family, const uint8_t* address) const {
    if (family == 4) {
      for (const uint32_t own : own4_)
        if (own == load<uint32_t>(address)) return true;
      return false;
    }
    for (const auto& own : own6_)
      if (own == load<std::array<uint64_t, 2>>(address)) return true;
    return false;
  }
  /// Whether an exit forwards a packet there. An IPv4 address inside an IPv6 one (64:ff9b::/96, RFC 6052;
  /// 2002::/16, RFC 3056) has to be permitted as well.
  bool permits(uint8_t family, const uint8_t* destination) const;
  /// Whether that is in a LAN behind this node.
  bool permits_lan(uint8_t family, const uint8_t* destination) const {
    return lookup(kLanRoots, Verdict::denied, family, destination);
  }

 private:
  enum class Verdict : uint8_t { inherited, permitted, denied };
  struct Node {
    uint32_t child[2] = {0, 0};  ///< 0: none
    Verdict verdict = Verdict::inherited;
  };

  static constexpr uint32_t kExitRoots = 0, kLanRoots = 2;

  void add(uint32_t roots, const ExitRule& rule);
  bool lookup(uint32_t roots, Verdict otherwise, uint8_t family, const uint8_t* address) const;

  std::vector<uint32_t> own4_;
  std::vector<std::array<uint64_t, 2>> own6_;
  std::vector<Node> nodes_;  ///< the first four are roots: IPv4 and IPv6 of exits, then of LANs
};

}  // namespace omerta::session
