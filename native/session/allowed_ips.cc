// SPDX-License-Identifier: Apache-2.0
#include "session/allowed_ips.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <string>
#include <vector>

#include "common/bytes.h"

namespace omerta::session {
namespace {

int bit_at(const uint8_t* address, unsigned index) { return (address[index / 8] >> (7 - index % 8)) & 1; }

/// Length of the common prefix of two addresses, at most `limit` bits. Reads whole 32-bit words.
unsigned common_bits(const uint8_t* a, const uint8_t* b, unsigned limit) {
  for (unsigned i = 0; i < limit; i += 32) {
    const uint32_t difference = __builtin_bswap32(load<uint32_t>(a + i / 8) ^ load<uint32_t>(b + i / 8));
    if (difference != 0) return std::min(limit, i + static_cast<unsigned>(std::countl_zero(difference)));
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

std::optional<Prefix> Prefix::make(uint8_t family, const uint8_t* address, unsigned length) {
  if ((family != 4 && family != 6) || length > (family == 4 ? 32 : 128)) return std::nullopt;
  Prefix prefix;
  prefix.family = family;
  prefix.length = static_cast<uint8_t>(length);
  std::memcpy(prefix.address, address, family == 4 ? 4 : 16);
  mask(prefix.address, length);
  return prefix;
}

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
  return make(prefix.family, prefix.address, length);
}

AllowedIps::Node* AllowedIps::new_node(const Prefix& prefix, unsigned length) {
  auto* node = new Node;
  node->prefix = prefix;
  node->prefix.length = static_cast<uint8_t>(length);
  mask(node->prefix.address, length);
  return node;
}

/// Makes the node's prefix the last one of the list.
void AllowedIps::give(Node& node, List& list) const {
  node.list = &list;
  node.generation = generation_;
  node.previous = list.last_;
  node.next = nullptr;
  (list.last_ == nullptr ? list.first_ : list.last_->next) = &node;
  list.last_ = &node;
  list.size_++;
  node.peer.store(&list.peer_, std::memory_order_release);
}

void AllowedIps::take(Node& node) {
  List& list = *node.list;
  (node.previous == nullptr ? list.first_ : node.previous->next) = node.next;
  (node.next == nullptr ? list.last_ : node.next->previous) = node.previous;
  list.size_--;
}

/// A node that is nobody's and does not branch gives its place to its child, if it has one.
void AllowedIps::unlink_if_useless(Link* link) {
  Node* node = link->load(std::memory_order_relaxed);
  Node* left = node->child[0].load(std::memory_order_relaxed);
  Node* right = node->child[1].load(std::memory_order_relaxed);
  if (node->peer.load(std::memory_order_relaxed) != nullptr || (left != nullptr && right != nullptr)) return;
  link->store(left != nullptr ? left : right, std::memory_order_release);
  qsbr_.retire([node] { delete node; });
}

void AllowedIps::insert(const Prefix& prefix, List& list) {
  const unsigned length = prefix.length;
  Link* link = &root(prefix.family);
  for (;;) {
    Node* node = link->load(std::memory_order_relaxed);
    const unsigned node_length = node == nullptr ? 0 : node->prefix.length;
    const unsigned common =
        node == nullptr ? 0
                        : common_bits(node->prefix.address, prefix.address, std::min(node_length, length));
    if (node != nullptr && common == node_length && node_length == length) {
      if (node->peer.load(std::memory_order_relaxed) != nullptr) take(*node);
      return give(*node, list);
    }
    if (node != nullptr && common == node_length) {
      link = &node->child[bit_at(prefix.address, node_length)];
      continue;
    }
    Node* leaf = new_node(prefix, length);
    give(*leaf, list);
    Node* top = leaf;
    if (node != nullptr) {
      // The new prefix ends, or branches off, on the way to this node.
      if (common < length) {
        top = new_node(prefix, common);
        top->child[bit_at(prefix.address, common)].store(leaf, std::memory_order_relaxed);
      }
      top->child[bit_at(node->prefix.address, common)].store(node, std::memory_order_relaxed);
    }
    return link->store(top, std::memory_order_release);
  }
}

void AllowedIps::remove(const Prefix& prefix, List& list) {
  Link* parent = nullptr;
  Link* link = &root(prefix.family);
  for (;;) {
    Node* node = link->load(std::memory_order_relaxed);
    if (node == nullptr || node->prefix.length > prefix.length) return;
    if (node->prefix == prefix) {
      if (node->peer.load(std::memory_order_relaxed) != &list.peer_) return;
      take(*node);
      node->peer.store(nullptr, std::memory_order_release);
      unlink_if_useless(link);
      if (parent != nullptr) unlink_if_useless(parent);
      return;
    }
    if (node->prefix.length == prefix.length) return;
    parent = link;
    link = &node->child[bit_at(prefix.address, node->prefix.length)];
  }
}

void AllowedIps::clear(List& list) {
  while (list.first_ != nullptr) remove(Prefix(list.first_->prefix), list);
}

void AllowedIps::end_replacement(List& list) {
  // What was given again moved to the end of the list; the rest still stands in front.
  while (list.first_ != nullptr && list.first_->generation != generation_)
    remove(Prefix(list.first_->prefix), list);
}

Peer* AllowedIps::lookup(uint8_t family, const uint8_t* address) const {
  const unsigned bits = family == 4 ? 32 : 128;
  Peer* best = nullptr;
  const Node* node = roots_[family == 4 ? 0 : 1].load(std::memory_order_acquire);
  while (node != nullptr) {
    const unsigned length = node->prefix.length;
    if (common_bits(node->prefix.address, address, length) < length) break;
    if (Peer* peer = node->peer.load(std::memory_order_acquire); peer != nullptr) best = peer;
    if (length >= bits) break;
    node = node->child[bit_at(address, length)].load(std::memory_order_acquire);
  }
  return best;
}

AllowedIps::~AllowedIps() {
  std::vector<Node*> left;
  for (const Link& link : roots_) left.push_back(link.load());
  while (!left.empty()) {
    Node* node = left.back();
    left.pop_back();
    if (node == nullptr) continue;
    for (const Link& link : node->child) left.push_back(link.load());
    delete node;
  }
}

}  // namespace omerta::session
