// SPDX-License-Identifier: Apache-2.0
// Runs a file of table changes and datagrams through a table and writes what became of each.
//
// operation: 'I' leg[128] · 'R' leg id u32 · 'C' leg id u32
//            'P' now u64, ip[16], port u16 BE, size u32, datagram
// result:    'I' ok u8 · 'R' ok u8 · 'C' packets u64, bytes u64, last used u64 (all ones: no such leg)
//            'P' verdict u8, reason u8, leg id u32, ip[16], port u16 BE, datagram
// Host byte order (little-endian) unless marked. Exit code 2: the input ends in mid-operation.
#pragma once

#include <cstdio>
#include <cstdlib>
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
  std::vector<uint8_t> datagram(take<uint32_t>());
  if (std::fread(datagram.data(), 1, datagram.size(), stdin) != datagram.size()) input_ended = true;
  if (input_ended) return;
  const Decision decision = table.judge_datagram(from, datagram, now);
  put(static_cast<uint8_t>(decision.verdict));
  put(static_cast<uint8_t>(decision.reason));
  put(decision.leg_id);
  put(decision.next.ip);
  put(decision.next.port);
  if (std::fwrite(datagram.data(), 1, datagram.size(), stdout) != datagram.size()) std::exit(1);
}

/// `table` has install, remove, judge_datagram(from, datagram, now) and counters.
/// @returns the exit code.
template <typename Table>
int run(Table& table) {
  for (int operation; (operation = std::getchar()) != EOF && !input_ended;) {
    if (operation == 'I')
      put(static_cast<uint8_t>(table.install(take<omerta_leg>())));
    else if (operation == 'R')
      put(static_cast<uint8_t>(table.remove(take<uint32_t>())));
    else if (operation == 'C')
      put(table.counters(take<uint32_t>()));
    else if (operation == 'P')
      judge(table);
    else
      input_ended = true;
  }
  if (!input_ended) return 0;
  std::fputs("the input is no sequence of operations\n", stderr);
  return 2;
}

}  // namespace omerta::batch
