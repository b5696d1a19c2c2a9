// SPDX-License-Identifier: Apache-2.0
#include "session/exit_rules.h"

#include <cstring>

namespace omerta::session {
namespace {

constexpr uint8_t kNat64[12] = {0x00, 0x64, 0xff, 0x9b};
constexpr uint8_t k6to4[2] = {0x20, 0x02};

unsigned bit_of(const uint8_t* address, unsigned index) {
  return (address[index / 8] >> (7 - index % 8)) & 1;
}

}  // namespace

ExitRules::ExitRules(std::span<const Prefix> own, std::span<const ExitRule> rules,
                     std::span<const ExitRule> lan)
    : nodes_(4) {
  for (const Prefix& each : own) {
    if (each.family == 4)
      own4_.push_back(load<uint32_t>(each.address));
    else
      own6_.push_back(load<std::array<uint64_t, 2>>(each.address));
  }
  for (const ExitRule& rule : rules) add(kExitRoots, rule);
  for (const ExitRule& rule : lan) add(kLanRoots, rule);
}

void ExitRules::add(uint32_t roots, const ExitRule& rule) {
  uint32_t node = roots + (rule.prefix.family == 4 ? 0 : 1);
  for (unsigned i = 0; i < rule.prefix.length; i++) {
    const unsigned bit = bit_of(rule.prefix.address, i);
    if (nodes_[node].child[bit] == 0) {
      const auto made = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      nodes_[node].child[bit] = made;
    }
    node = nodes_[node].child[bit];
  }
  nodes_[node].verdict = rule.denied ? Verdict::denied : Verdict::permitted;
}

bool ExitRules::lookup(uint32_t roots, Verdict otherwise, uint8_t family, const uint8_t* address) const {
  uint32_t node = roots + (family == 4 ? 0 : 1);
  Verdict verdict = otherwise;
  for (unsigned i = 0;; i++) {
    if (nodes_[node].verdict != Verdict::inherited) verdict = nodes_[node].verdict;
    if (i == (family == 4 ? 32U : 128U)) break;
    node = nodes_[node].child[bit_of(address, i)];
    if (node == 0) break;
  }
  return verdict == Verdict::permitted;
}

bool ExitRules::permits(uint8_t family, const uint8_t* destination) const {
  const auto permitted = [&](uint8_t of, const uint8_t* address) {
    return lookup(kExitRoots, Verdict::permitted, of, address);
  };
  if (!permitted(family, destination)) return false;
  if (family == 4) return true;
  if (std::memcmp(destination, kNat64, sizeof kNat64) == 0) return permitted(4, destination + 12);
  if (std::memcmp(destination, k6to4, sizeof k6to4) == 0) return permitted(4, destination + 2);
  return true;
}

}  // namespace omerta::session
