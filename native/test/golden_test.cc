// SPDX-License-Identifier: Apache-2.0
// The golden packets through the C++ forwarding table.
#include "test/golden.h"

#include <cstdio>

#include "relay/forwarding_table.h"
#include "test/check.h"

using namespace omerta;

namespace {

void run(const golden::Json& sequence) {
  const std::string name = sequence.at("name");
  ForwardingTable table(64);
  for (const golden::Json& leg : sequence.at("legs")) CHECK(table.install(golden::leg_of(leg)));
  for (const golden::Json& json : sequence.at("packets")) {
    golden::Packet packet = golden::packet_of(json);
    const std::string title = name + ": " + packet.shows;
    TEST(title.c_str());
    for (const uint32_t id : packet.remove) CHECK(table.remove(id));
    for (const omerta_leg& leg : packet.install) CHECK(table.install(leg));
    const Decision decision = table.judge_datagram(packet.from, packet.datagram.data(),
                                                   static_cast<uint32_t>(packet.datagram.size()), packet.now);
    CHECK(decision.verdict == packet.verdict);
    CHECK(decision.reason == packet.reason);
    CHECK(decision.leg_id == packet.leg);
    CHECK(golden::same(decision.next, packet.to));
    CHECK(packet.datagram == packet.out);
    TEST("");
  }
  TEST(name.c_str());
  size_t legs = 0;
  for (const golden::Json& counters : sequence.at("counters")) {
    omerta_leg leg;
    CHECK(table.find(counters.at("id"), leg));
    CHECK(leg.packets == counters.at("packets").get<uint64_t>());
    CHECK(leg.bytes == counters.at("bytes").get<uint64_t>());
    legs++;
  }
  CHECK(legs == table.size());
  TEST("");
}

}  // namespace

int main() {
  for (const golden::Json& sequence : golden::read()) run(sequence);
  return check::finish();
}
