// SPDX-License-Identifier: Apache-2.0
// Two session tables with two addresses each, over a wire that the test holds.
#pragma once

#include <algorithm>
#include <vector>

#include "session_pair.h"

namespace omerta::session_test {

inline constexpr Nanoseconds kSilent = 100 * kMillisecond;
inline constexpr Nanoseconds kReports = 50 * kMillisecond;
inline constexpr ProbeToken kToken = {1, 2, 3, 4, 5, 6, 7, 8};

inline bool same_ip(const LocalAddress& local, const omerta_address& address) {
  return std::memcmp(local.ip, address.ip, 16) == 0;
}

inline bool same(const omerta_address& a, const omerta_address& b) {
  return a.port == b.port && std::memcmp(a.ip, b.ip, 16) == 0;
}

/// Sent from one address to another.
struct Way {
  omerta_address from;
  omerta_address to;
  bool operator==(const Way& other) const { return same(from, other.from) && same(to, other.to); }
};

/// Two nodes with a session over 1 → 2. Their second addresses are 11 and 12.
struct PathPair : Pair {
  PathPair() {
    connect();
    pass(200 * kMillisecond);
    a.path_events.clear();
    b.path_events.clear();
    a.inbox.clear();
    b.inbox.clear();
  }

  /// Whoever has one of these addresses hears nothing and says nothing by it.
  std::vector<omerta_address> cut;
  std::vector<Way> crossed;

  bool has(const Node& node, const omerta_address& address) const {
    const uint8_t host = address.ip[15];
    return host == (&node == &a ? 1 : 2) || host == (&node == &a ? 11 : 12);
  }
  static omerta_address source_of(const Node& node, const Sent& sent) {
    omerta_address from = node.self.remote;
    if (sent.to.local.known()) std::memcpy(from.ip, sent.to.local.ip, 16);
    return from;
  }
  static Endpoint arriving(const omerta_address& from, const omerta_address& to) {
    Endpoint e;
    e.remote = from;
    std::memcpy(e.local.ip, to.ip, 16);
    e.local.interface = 7;
    return e;
  }
  /// Delivers what was sent, and what that leads to.
  const std::vector<Way>& settle() {
    crossed.clear();
    for (bool any = true; any;) {
      any = false;
      for (Node* node : {&a, &b})
        while (!node->sent.empty()) {
          any = true;
          const Sent sent = node->sent.front();
          node->sent.pop_front();
          const Way way{source_of(*node, sent), sent.to.remote};
          crossed.push_back(way);
          const auto is_cut = [&](const omerta_address& address) {
            return std::ranges::any_of(cut, [&](const omerta_address& one) { return same(one, address); });
          };
          if (is_cut(way.from) || is_cut(way.to)) continue;
          Node& other = node == &a ? b : a;
          if (has(other, way.to)) other.receive(sent.bytes, arriving(way.from, way.to));
        }
    }
    return crossed;
  }
  void wait(Nanoseconds time) {
    for (Nanoseconds t = 0; t < time; t += kMillisecond) {
      advance(kMillisecond);
      a.table.handle_path_timers(a.now, a);
      b.table.handle_path_timers(b.now, b);
      settle();
    }
  }

  static Endpoint ends(const omerta_address& local, const omerta_address& remote) {
    Endpoint e;
    e.remote = remote;
    std::memcpy(e.local.ip, local.ip, 16);
    return e;
  }
  static PathSettings settings(const Node& peer, const std::vector<PathEnds>& paths) {
    return {peer.table.local().public_key, true, paths, {.silent_after = kSilent, .report_every = kReports}};
  }
  /// Both sides have these paths, the first one active.
  void use_paths(const std::vector<uint8_t>& order) {
    std::vector<PathEnds> of_a, of_b;
    for (const uint8_t id : order) {
      of_a.push_back({id, ends(id == 1 ? kA1 : kA2, id == 1 ? kB1 : kB2)});
      of_b.push_back({id, ends(id == 1 ? kB1 : kB2, id == 1 ? kA1 : kA2)});
    }
    a.table.set_paths({settings(b, of_a)}, a.now, a);
    b.table.set_paths({settings(a, of_b)}, b.now, b);
  }
  bool probe(const Endpoint& to, size_t size = 0) {
    return a.table.send_probe({b.table.local().public_key, kToken, to, size}, a.now, a);
  }
  std::vector<PathCounts> counts_of_b() { return b.table.path_counts(a.table.local().public_key); }

  const omerta_address kA1 = address(1, 51820), kA2 = address(11, 51820);
  const omerta_address kB1 = address(2, 51820), kB2 = address(12, 51820);
  const omerta_address kStranger = address(99, 9);
};

inline std::vector<PathEvent::Kind> kinds(const Node& node) {
  std::vector<PathEvent::Kind> list;
  for (const PathEvent& event : node.path_events) list.push_back(event.kind);
  return list;
}
inline size_t count(const Node& node, PathEvent::Kind kind) {
  return static_cast<size_t>(std::ranges::count(kinds(node), kind));
}
using Kind = PathEvent::Kind;

}  // namespace omerta::session_test
