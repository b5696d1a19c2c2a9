// SPDX-License-Identifier: Apache-2.0
// Runs a file of table changes and datagrams through a table and writes what became of each: how
// test/wire/agreement.test.ts compares the engines.
//
// operation: 'I' leg[128] · 'R' leg id u32 · 'C' leg id u32
//            'P' now u64, ip[16], port u16 BE, size u32, datagram
//            'S' which u8 (limits, identity, network, host, prefix, fair share, reset), index u8,
//                network u8, rate[12], byte cap u64, IPv4 bits u32, IPv6 bits u32, factor u32, u32
// result:    'I' ok u8 · 'R' ok u8 · 'C' packets u64, bytes u64, last used u64 (all ones: no such leg)
//            'P' verdict u8, reason u8, leg id u32, ip[16], port u16 BE, datagram
// in the end: demand u64, refused u64, packets u64, bytes u64 of identities 0-7, then of networks 0-7
// Host byte order (little-endian) unless marked. Exit code 2: the input ends in mid-operation.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "relay/forwarding_table.h"

namespace omerta::batch {

struct Counters {
  uint64_t packets = UINT64_MAX;
  uint64_t bytes = UINT64_MAX;
  uint64_t last_used = UINT64_MAX;
};

inline bool input_ended = false;

template <typename T>
T take() {
  T value{};
  if (std::fread(&value, sizeof value, 1, stdin) != 1) input_ended = true;
  return value;
}

template <typename T>
void put(const T& value) {
  if (std::fwrite(&value, sizeof value, 1, stdout) != 1) std::exit(1);
}

template <typename Table>
void judge(Table& table) {
  const auto now = take<uint64_t>();
  omerta_address from{};
  if (std::fread(from.ip, 16, 1, stdin) != 1) input_ended = true;
  from.port = take<uint16_t>();
  const auto size = take<uint32_t>();
  std::vector<uint8_t> datagram(size);
  datagram.reserve(1);  // an empty datagram has an address, too
  if (std::fread(datagram.data(), 1, size, stdin) != size) input_ended = true;
  if (input_ended) return;
  const relay::Decision decision = table.judge_datagram(from, datagram, now);
  put(static_cast<uint8_t>(decision.verdict));
  put(static_cast<uint8_t>(decision.reason));
  put(decision.leg_id);
  put(decision.next.ip);
  put(decision.next.port);
  if (std::fwrite(datagram.data(), 1, size, stdout) != size) std::exit(1);
}

struct Setting {
  uint8_t which, index, network;
  omerta_rate rate;
  uint64_t byte_cap;
  uint32_t ipv4_bits, ipv6_bits, factor, zero;
};
static_assert(sizeof(Setting) == 40);

inline void set(relay::Accounts& accounts) {
  using Kind = relay::AccountKind;
  uint8_t bytes[sizeof(Setting)] = {};
  if (std::fread(bytes + 1, sizeof bytes - 1, 1, stdin) != 1) input_ended = true;
  std::memmove(bytes, bytes + 1, 3);
  Setting s;
  std::memcpy(&s, bytes, sizeof s);
  switch (s.which) {
    case 0:
      return accounts.set_limits(s.index, {s.rate, 0, s.byte_cap});
    case 1:
      return accounts.set_rate(Kind::identity, s.index, s.rate);
    case 2:
      return accounts.set_rate(Kind::network, s.index, s.rate);
    case 3:
      return accounts.set_host_rate(s.rate);
    case 4:
      return accounts.set_prefix_rate(s.rate, {s.ipv4_bits, s.ipv6_bits});
    case 5:
      return accounts.set_fair_share(s.factor, s.rate.burst);
    default:
      return accounts.reset(s.network ? Kind::network : Kind::identity, s.index);
  }
}

/// The capacities the operations count with.
inline constexpr size_t kLegs = 64;
inline constexpr relay::Accounts::Capacity kAccounts = {8, 8, 8};
inline constexpr uint64_t kPrefixKey = 0x9e3779b97f4a7c15;

/// `table` has install, remove, judge_datagram(from, datagram, now), counters and accounts.
/// @returns the exit code.
template <typename Table>
int run(Table& table) {
  table.accounts().set_prefix_key(kPrefixKey);
  for (int operation; (operation = std::getchar()) != EOF && !input_ended;) {
    if (operation == 'I')
      put(static_cast<uint8_t>(table.install(take<omerta_leg>())));
    else if (operation == 'R')
      put(static_cast<uint8_t>(table.remove(take<uint32_t>())));
    else if (operation == 'C')
      put(table.counters(take<uint32_t>()));
    else if (operation == 'P')
      judge(table);
    else if (operation == 'S')
      set(table.accounts());
    else
      input_ended = true;
  }
  for (const relay::AccountKind kind : {relay::AccountKind::identity, relay::AccountKind::network})
    for (size_t i = 0; i < 8; i++) {
      const omerta_account account = table.accounts().read(kind, i);
      for (const uint64_t field : {account.demand, account.refused, account.packets, account.bytes})
        put(field);
    }
  if (!input_ended) return 0;
  std::fputs("the input is no sequence of operations\n", stderr);
  return 2;
}

}  // namespace omerta::batch
