// SPDX-License-Identifier: Apache-2.0
// Cryptokey routing: longest-prefix match from an inner address to the peer it belongs to.
// A path-compressed binary trie per family, built once and never changed: the session table
// publishes a new one for every batch of changes, so that look-ups need no lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace omerta::session {

class Peer;

/// A prefix; IPv4 has family 4 and its address in the first four bytes.
struct Prefix {
  uint8_t family = 0;
  uint8_t length = 0;
  uint8_t address[16]{};

  bool operator==(const Prefix&) const = default;
  /// Parses `10.0.0.0/8`; bits beyond the length are cleared. nullopt: not a prefix.
  static std::optional<Prefix> parse(std::string_view text);
};

class AllowedIps {
 public:
  struct Route {
    Prefix prefix;
    Peer* peer;
  };
  AllowedIps() = default;
  /// A later route for the same prefix replaces an earlier one, as WireGuard does.
  explicit AllowedIps(const std::vector<Route>& routes);

  /// `address` has 4 bytes for family 4, 16 for family 6. nullptr: no peer.
  Peer* lookup(uint8_t family, const uint8_t* address) const;

 private:
  struct Node {
    uint8_t address[16];
    uint8_t length;
    int32_t child[2];
    Peer* peer;
  };
  void insert(const Route& route);
  int32_t& root(uint8_t family) { return family == 4 ? root4_ : root6_; }
  std::vector<Node> nodes_;
  int32_t root4_ = -1;
  int32_t root6_ = -1;
};

}  // namespace omerta::session
