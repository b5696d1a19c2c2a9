// SPDX-License-Identifier: Apache-2.0
#include "session/allowed_ips.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <string>

namespace omerta::session {
namespace {

int bit_at(const uint8_t* address, unsigned index) { return (address[index / 8] >> (7 - index % 8)) & 1; }

/// Length of the common prefix of two addresses, at most `limit` bits.
unsigned common_bits(const uint8_t* a, const uint8_t* b, unsigned limit) {
  for (unsigned i = 0; i * 8 < limit; i++) {
    const auto difference = static_cast<uint8_t>(a[i] ^ b[i]);
    if (difference != 0) return std::min(limit, i * 8 + static_cast<unsigned>(std::countl_zero(difference)));
  }
  return limit;
}

void mask(uint8_t* address, unsigned length) {
  for (unsigned i = 0; i < 16; i++) {
    if (length >= (i + 1) * 8) continue;
    const unsigned kept = length <= i * 8 ? 0 : length - i * 8;
    address[i] = static_cast<uint8_t>(address[i] & (0xff00u >> kept));
  }
}

}  // namespace

std::optional<Prefix> Prefix::parse(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string address(text.substr(0, slash));
  Prefix prefix;
  prefix.family = address.find(':') == std::string::npos ? 4 : 6;
  const unsigned bits = prefix.family == 4 ? 32 : 128;
  if (inet_pton(prefix.family == 4 ? AF_INET : AF_INET6, address.c_str(), prefix.address) != 1)
    return std::nullopt;
  unsigned length = bits;
  if (slash != std::string_view::npos) {
    const char* begin = text.data() + slash + 1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, length);
    if (error != std::errc{} || stop != end || length > bits) return std::nullopt;
  }
  prefix.length = static_cast<uint8_t>(length);
  mask(prefix.address, length);
  return prefix;
}

AllowedIps::AllowedIps(const std::vector<Route>& routes) {
  nodes_.reserve(routes.size() * 2);
  for (const Route& route : routes) insert(route);
}

void AllowedIps::insert(const Route& route) {
  const auto new_node = [this](const uint8_t* address, unsigned length, Peer* peer) {
    Node node{};
    std::memcpy(node.address, address, 16);
    mask(node.address, length);
    node.length = static_cast<uint8_t>(length);
    node.child[0] = node.child[1] = -1;
    node.peer = peer;
    nodes_.push_back(node);
    return static_cast<int32_t>(nodes_.size() - 1);
  };
  const uint8_t* address = route.prefix.address;
  const unsigned length = route.prefix.length;
  // Indices, not references: nodes_ may move while growing. parent −1 is the root.
  int32_t parent = -1;
  int side = 0;
  int32_t at = root(route.prefix.family);
  const auto link = [&](int32_t node) {
    if (parent < 0)
      root(route.prefix.family) = node;
    else
      nodes_[static_cast<size_t>(parent)].child[side] = node;
  };
  while (at >= 0) {
    const unsigned node_length = nodes_[static_cast<size_t>(at)].length;
    const unsigned common =
        common_bits(nodes_[static_cast<size_t>(at)].address, address, std::min(node_length, length));
    if (common < node_length) {
      // The new prefix ends or branches off inside this edge.
      const int node_side = bit_at(nodes_[static_cast<size_t>(at)].address, common);
      const int32_t branch = new_node(address, common, common == length ? route.peer : nullptr);
      nodes_[static_cast<size_t>(branch)].child[node_side] = at;
      if (common < length) {
        const int32_t leaf = new_node(address, length, route.peer);
        nodes_[static_cast<size_t>(branch)].child[1 - node_side] = leaf;
      }
      link(branch);
      return;
    }
    if (node_length == length) {
      nodes_[static_cast<size_t>(at)].peer = route.peer;
      return;
    }
    parent = at;
    side = bit_at(address, node_length);
    at = nodes_[static_cast<size_t>(at)].child[side];
  }
  link(new_node(address, length, route.peer));
}

Peer* AllowedIps::lookup(uint8_t family, const uint8_t* address) const {
  const unsigned bits = family == 4 ? 32 : 128;
  Peer* best = nullptr;
  for (int32_t at = family == 4 ? root4_ : root6_; at >= 0;) {
    const Node& node = nodes_[static_cast<size_t>(at)];
    if (common_bits(node.address, address, node.length) < node.length) break;
    if (node.peer != nullptr) best = node.peer;
    if (node.length >= bits) break;
    at = node.child[bit_at(address, node.length)];
  }
  return best;
}

}  // namespace omerta::session
