// SPDX-License-Identifier: Apache-2.0
// Cryptokey routing: longest-prefix match from an inner address to the peer it belongs to.
// A path-compressed binary trie per family. Look-ups take no lock: a writer links a finished node with
// one store, and frees an unlinked one only after every reader was seen outside (Qsbr).
//
//   10.0.0.0/8 ── alice        node: prefix, peer or none (a mere branch), two children
//    ├─0─ 10.0.0.0/9 ── –
//    │     ├─ 10.1.0.0/16 ── bob
//    │     └─ 10.64.0.0/16 ── alice
//    └─1─ 10.200.1.1/32 ── carol
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>

#include "common/qsbr.h"

namespace omerta::session {

class Peer;

/// A prefix; IPv4 has family 4 and its address in the first four bytes.
struct Prefix {
  uint8_t family = 0;
  uint8_t length = 0;
  uint8_t address[16]{};

  bool operator==(const Prefix&) const = default;
  /// A prefix with the bits beyond its length cleared; nullopt: no such family or length.
  static std::optional<Prefix> make(uint8_t family, const uint8_t* address, unsigned length);
  /// Parses `10.0.0.0/8`; bits beyond the length are cleared. nullopt: not a prefix.
  static std::optional<Prefix> parse(std::string_view text);
};

class AllowedIps {
  struct Node;

 public:
  /// The prefixes of one peer in the order they were given to it; a member of Peer.
  class List {
   public:
    explicit List(Peer& peer) : peer_(peer) {}
    List(const List&) = delete;
    List& operator=(const List&) = delete;
    size_t size() const { return size_; }

   private:
    friend class AllowedIps;
    Peer& peer_;
    Node* first_ = nullptr;
    Node* last_ = nullptr;
    size_t size_ = 0;
  };

  explicit AllowedIps(Qsbr& qsbr) : qsbr_(qsbr) {}
  ~AllowedIps();
  AllowedIps(const AllowedIps&) = delete;
  AllowedIps& operator=(const AllowedIps&) = delete;

  /// Any thread between Qsbr::quiescent calls. `address` has 4 bytes for family 4, 16 for family 6.
  /// nullptr: no peer.
  Peer* lookup(uint8_t family, const uint8_t* address) const;

  // --- writers exclude each other -----------------------------------------------------------------
  /// Gives a prefix to the list's peer, whoever had it before, as WireGuard does. It becomes its last one.
  void insert(const Prefix& prefix, List& list);
  /// Takes a prefix from the list's peer; nothing happens when it is another's.
  void remove(const Prefix& prefix, List& list);
  /// Takes all prefixes from the list's peer.
  void clear(List& list);
  /// What is inserted between the two replaces all the peer had. A prefix that it keeps leads to it all the
  /// time, for readers too.
  void begin_replacement() { generation_++; }
  void end_replacement(List& list);
  /// Calls visit(prefix) for each prefix of a peer, in order.
  template <class Visit>
  static void for_each(const List& list, const Visit& visit) {
    for (const Node* node = list.first_; node != nullptr; node = node->next) visit(node->prefix);
  }

 private:
  struct Node {
    Prefix prefix;
    uint32_t generation = 0;  // when the prefix was given to its peer
    std::atomic<Node*> child[2]{};
    std::atomic<Peer*> peer{nullptr};
    // Writers only: the list of that peer, and the neighbours in it.
    List* list = nullptr;
    Node* next = nullptr;
    Node* previous = nullptr;
  };
  using Link = std::atomic<Node*>;

  static Node* new_node(const Prefix& prefix, unsigned length);
  void give(Node& node, List& list) const;
  static void take(Node& node);
  void unlink_if_useless(Link* link);
  Link& root(uint8_t family) { return roots_[family == 4 ? 0 : 1]; }

  Qsbr& qsbr_;
  std::array<Link, 2> roots_{};
  uint32_t generation_ = 0;
};

}  // namespace omerta::session
