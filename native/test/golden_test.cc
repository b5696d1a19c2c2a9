// SPDX-License-Identifier: Apache-2.0
// The golden packets through the C++ forwarding table.
#include "test/golden.h"

#include <cstdio>

#include "relay/forwarding_table.h"
#include "test/check.h"
#include "test/golden_settings.h"

using namespace omerta;

namespace {

void run(const golden::Json& sequence, relay::ForwardingTable::Workers workers) {
  const std::string name = sequence.at("name");
  relay::ForwardingTable table(64, {golden::kIdentities, golden::kNetworks, golden::kClasses}, workers);
  table.accounts().set_prefix_key(golden::kPrefixKey);
  for (const golden::Setting& setting : golden::settings_of(sequence))
    golden::apply(table.accounts(), setting);
  for (const golden::Json& leg : sequence.at("legs")) CHECK(table.install(golden::leg_of(leg)));
  for (const golden::Json& json : sequence.at("packets")) {
    golden::Packet packet = golden::packet_of(json);
    const std::string title = name + ": " + packet.shows;
    TEST(title.c_str());
    for (const golden::Setting& setting : packet.settings) golden::apply(table.accounts(), setting);
    for (const uint32_t id : packet.remove) CHECK(table.remove(id));
    for (const omerta_leg& leg : packet.install) CHECK(table.install(leg));
    const relay::Decision decision = table.judge_datagram(
        packet.from, packet.datagram.data(), static_cast<uint32_t>(packet.datagram.size()), packet.now);
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
  for (const golden::Json& json : sequence.at("accounts")) {
    const omerta_account account = table.accounts().read(golden::kind_of(json.at("kind")), json.at("index"));
    CHECK(account.demand == json.at("demand").get<uint64_t>());
    CHECK(account.refused == json.at("refused").get<uint64_t>());
    CHECK(account.packets == json.at("packets").get<uint64_t>());
    CHECK(account.bytes == json.at("bytes").get<uint64_t>());
  }
  TEST("");
}

}  // namespace

int main() {
  TEST("a leg id has the home the golden file gives it");
  for (const golden::Json& each : golden::read(golden::kLegHomes))
    CHECK(omerta_leg_home(each.at("id"), each.at("slots")) == each.at("home").get<uint32_t>());
  for (const golden::Json& sequence : golden::read())
    for (const auto workers :
         {relay::ForwardingTable::Workers::one, relay::ForwardingTable::Workers::several})
      run(sequence, workers);
  return check::finish();
}
