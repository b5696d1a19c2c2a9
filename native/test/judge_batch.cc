// SPDX-License-Identifier: Apache-2.0
// The C++ forwarding table behind test/wire/agreement.test.ts: `judge_batch < operations > results`,
// as batch.h describes them.
#include "batch.h"

namespace {

struct Table : omerta::ForwardingTable {
  using ForwardingTable::ForwardingTable;

  omerta::Decision judge_datagram(const omerta_address& from, std::vector<uint8_t>& datagram, uint64_t now) {
    uint8_t none = 0;  // an empty datagram has an address, too
    return ForwardingTable::judge_datagram(from, datagram.empty() ? &none : datagram.data(),
                                           static_cast<uint32_t>(datagram.size()), now);
  }
  omerta::batch::Counters counters(uint32_t id) const {
    omerta_leg leg;
    if (!find(id, leg)) return {};
    return {leg.packets, leg.bytes, leg.last_used};
  }
};

}  // namespace

int main() {
  Table table(64);
  return omerta::batch::run(table);
}
