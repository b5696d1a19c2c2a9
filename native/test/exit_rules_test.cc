// SPDX-License-Identifier: Apache-2.0
// Where an exit forwards: the trie beside a list that is gone through, and the addresses inside addresses.
#include <arpa/inet.h>

#include <random>
#include <string>

#include "check.h"
#include "session/exit_rules.h"

namespace {

using namespace omerta;
using namespace omerta::session;

struct Address {
  uint8_t family;
  uint8_t bytes[16];
};

Address address(const char* text) {
  Address a{};
  a.family = std::string(text).find(':') == std::string::npos ? 4 : 6;
  inet_pton(a.family == 4 ? AF_INET : AF_INET6, text, a.bytes);
  return a;
}

bool permits(const ExitRules& rules, const char* text) {
  const Address a = address(text);
  return rules.permits(a.family, a.bytes);
}

ExitRule denied(const char* prefix) { return {*Prefix::parse(prefix), true}; }
ExitRule permitted(const char* prefix) { return {*Prefix::parse(prefix), false}; }

bool holds(const Prefix& prefix, const Address& a) {
  if (prefix.family != a.family) return false;
  for (unsigned i = 0; i < prefix.length; i++)
    if (((prefix.address[i / 8] ^ a.bytes[i / 8]) >> (7 - i % 8) & 1) != 0) return false;
  return true;
}

void the_longest_prefix_decides_and_of_equal_ones_the_last() {
  const std::vector<ExitRule> rules = {denied("10.0.0.0/8"),        permitted("10.1.0.0/16"),
                                       denied("10.1.2.3/32"),       denied("192.168.0.0/16"),
                                       permitted("192.168.0.0/16"), denied("fc00::/7"),
                                       permitted("fd00::1/128")};
  const ExitRules all({}, rules);
  CHECK(permits(all, "8.8.8.8") && permits(all, "2001:4860::1"));
  CHECK(!permits(all, "10.2.0.1") && permits(all, "10.1.2.4") && !permits(all, "10.1.2.3"));
  CHECK(permits(all, "192.168.1.1"));
  CHECK(!permits(all, "fd00::2") && permits(all, "fd00::1"));
}

void an_ipv4_address_inside_an_ipv6_one_has_to_be_permitted_too() {
  const std::vector<ExitRule> rules = {denied("10.0.0.0/8"), denied("::/8")};
  const ExitRules all({}, rules);
  CHECK(permits(all, "64:ff9b::8.8.8.8") == false);  // ::/8 holds it
  const std::vector<ExitRule> with = {denied("10.0.0.0/8"), denied("::/8"), permitted("64:ff9b::/96")};
  const ExitRules translated({}, with);
  CHECK(permits(translated, "64:ff9b::8.8.8.8") && !permits(translated, "64:ff9b::10.0.0.1"));
  CHECK(permits(all, "2002:808:808::1") && !permits(all, "2002:a00:1::1"));
}

void lans_are_apart_from_what_exits_forward() {
  const std::vector<ExitRule> rules = {denied("192.168.0.0/16")};
  const std::vector<ExitRule> lan = {permitted("192.168.7.0/24"), denied("192.168.7.1/32"),
                                     permitted("fd12::/64")};
  const ExitRules all({}, rules, lan);
  const auto in_lan = [&](const char* text) {
    const Address a = address(text);
    return all.permits_lan(a.family, a.bytes);
  };
  CHECK(in_lan("192.168.7.9") && in_lan("fd12::9"));
  CHECK(!in_lan("192.168.7.1") && !in_lan("192.168.8.1") && !in_lan("8.8.8.8") && !in_lan("fd13::1"));
  CHECK(permits(all, "8.8.8.8") && !permits(all, "192.168.7.9"));
  const ExitRules none({}, rules);
  const Address a = address("192.168.7.9");
  CHECK(!none.permits_lan(a.family, a.bytes));
}

void the_nodes_own_addresses_are_known_whole() {
  const std::vector<Prefix> own = {*Prefix::parse("100.64.1.2/32"), *Prefix::parse("fd00::1/128"),
                                   *Prefix::parse("100.64.9.9/32")};
  const ExitRules rules(own);
  const auto is_own = [&](const char* text) {
    const Address a = address(text);
    return rules.is_own(a.family, a.bytes);
  };
  CHECK(is_own("100.64.1.2") && is_own("100.64.9.9") && is_own("fd00::1"));
  CHECK(!is_own("100.64.1.3") && !is_own("fd00::2") && !is_own("fd00:0:0:1::1"));
}

void the_trie_answers_as_a_list_that_is_gone_through() {
  std::mt19937 random(7);
  for (int round = 0; round < 200; round++) {
    std::vector<ExitRule> rules;
    const auto some = [&](uint8_t family) {
      Address a{};
      a.family = family;
      for (unsigned i = 0; i < (family == 4 ? 4U : 16U); i++)
        a.bytes[i] = static_cast<uint8_t>(random() % 3 == 0 ? random() : random() % 2 * 0x80);
      return a;
    };
    for (int i = 0; i < 24; i++) {
      const Address a = some(random() % 2 == 0 ? 4 : 6);
      const unsigned bits = a.family == 4 ? 32 : 128;
      rules.push_back({*Prefix::make(a.family, a.bytes, static_cast<unsigned>(random() % (bits + 1))),
                       random() % 2 == 0});
    }
    const ExitRules trie({}, rules);
    for (int i = 0; i < 50; i++) {
      const Address a = some(random() % 2 == 0 ? 4 : 6);
      bool permitted_by_list = true;
      int longest = -1;
      for (const ExitRule& rule : rules)
        if (holds(rule.prefix, a) && rule.prefix.length >= longest) {
          longest = rule.prefix.length;
          permitted_by_list = !rule.denied;
        }
      CHECK(trie.permits(a.family, a.bytes) == permitted_by_list);
    }
  }
}

}  // namespace

int main() {
  RUN(the_longest_prefix_decides_and_of_equal_ones_the_last);
  RUN(an_ipv4_address_inside_an_ipv6_one_has_to_be_permitted_too);
  RUN(lans_are_apart_from_what_exits_forward);
  RUN(the_nodes_own_addresses_are_known_whole);
  RUN(the_trie_answers_as_a_list_that_is_gone_through);
  return omerta::check::finish();
}
