// SPDX-License-Identifier: Apache-2.0
// The C++ forwarding table behind test/wire/agreement.test.ts, as batch.h describes it:
//
//   judge_batch one|several < operations > results      (workers the table counts for)
#include "batch.h"

namespace {

using Workers = omerta::relay::ForwardingTable::Workers;

struct Table : omerta::relay::ForwardingTable {
  explicit Table(Workers workers)
      : ForwardingTable(omerta::batch::kLegs, omerta::batch::kAccounts, workers) {}

  omerta::relay::Decision judge_datagram(const omerta_address& from, std::vector<uint8_t>& datagram,
                                         uint64_t now) {
    return ForwardingTable::judge_datagram(from, datagram.data(), static_cast<uint32_t>(datagram.size()),
                                           now);
  }
  omerta::batch::Counters counters(uint32_t id) const {
    omerta_leg leg;
    if (!find(id, leg)) return {};
    return {leg.packets, leg.bytes, leg.last_used};
  }
};

}  // namespace

int main(int count, char** arguments) {
  Table table(count == 2 && std::strcmp(arguments[1], "one") == 0 ? Workers::one : Workers::several);
  return omerta::batch::run(table);
}
