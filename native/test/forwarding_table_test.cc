// SPDX-License-Identifier: Apache-2.0
#include "relay/forwarding_table.h"

#include <atomic>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "test/check.h"

namespace {

using omerta::relay::Decision;
using omerta::relay::ForwardingTable;

constexpr uint64_t kNow = 1'000'000'000;

omerta_address address(uint8_t last, uint16_t port) {
  omerta_address a{};
  a.ip[10] = a.ip[11] = 0xff;
  a.ip[12] = 192;
  a.ip[14] = 2;
  a.ip[15] = last;
  a.port = __builtin_bswap16(port);
  return a;
}

/// Every word of the leg is a function of its id and version, so that a torn one is seen.
omerta_leg make_leg(uint32_t id, uint64_t version = 0, uint8_t action = OMERTA_LEG_FORWARD) {
  omerta_leg leg{};
  const omerta_address source = address(1, 4000), next = address(2, 5000);
  leg.leg_id = id;
  leg.action = action;
  std::memcpy(leg.source_ip, source.ip, 16);
  std::memcpy(leg.next_ip, next.ip, 16);
  leg.source_port = source.port;
  leg.next_port = next.port;
  leg.next_leg_id = ~id;
  leg.key[0] = id * 0x0101010101010101ULL + version;
  leg.key[1] = leg.key[0] ^ 0x5555555555555555ULL;
  leg.next_key[0] = leg.key[0] + 1;
  leg.next_key[1] = leg.key[1] + 1;
  leg.expires_at = kNow * 1000 + leg.key[0] % 1000;
  return leg;
}

bool consistent(const omerta_leg& leg) {
  return leg.next_leg_id == ~leg.leg_id && leg.key[1] == (leg.key[0] ^ 0x5555555555555555ULL) &&
         leg.next_key[0] == leg.key[0] + 1 && leg.next_key[1] == leg.key[1] + 1 &&
         leg.expires_at == kNow * 1000 + leg.key[0] % 1000;
}

std::vector<uint8_t> make_frame(const omerta_leg& leg, uint8_t kind = OMERTA_KIND_FORWARD,
                                uint32_t size = 64) {
  std::vector<uint8_t> frame(size, 0xA5);
  frame[0] = OMERTA_FRAME_MAGIC;
  frame[1] = kind;
  frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
  frame[3] = leg.key_epoch;
  std::memcpy(&frame[4], &leg.leg_id, 4);
  const uint64_t tag = omerta_frame_tag(leg.key, frame.data(), size);
  std::memcpy(&frame[8], &tag, 8);
  return frame;
}

void installs_and_removes() {
  TEST("a table holds as many legs as it was made for, and no more");
  ForwardingTable table(100);
  for (uint32_t id = 0; id < 100; id++) CHECK(table.install(make_leg(id)));
  CHECK(table.size() == 100);
  CHECK(!table.install(make_leg(100)));
  CHECK(table.size() == 100);
  omerta_leg leg;
  CHECK(!table.find(100, leg));

  TEST("a full table still replaces, and takes a new leg once one is removed");
  CHECK(table.install(make_leg(7, 9)));
  CHECK(table.find(7, leg) && leg.key[0] == make_leg(7, 9).key[0]);
  CHECK(table.remove(50));
  CHECK(!table.remove(50));
  CHECK(!table.find(50, leg));
  CHECK(table.install(make_leg(100)));
  CHECK(table.find(100, leg) && leg.leg_id == 100);

  TEST("leg id 0 is a leg like any other");
  CHECK(table.find(0, leg) && leg.leg_id == 0);
  CHECK(table.remove(0));
  CHECK(!table.find(0, leg));

  TEST("iteration visits every leg once");
  std::unordered_map<uint32_t, int> seen;
  table.for_each([&](const omerta_leg& each) { seen[each.leg_id]++; });
  CHECK(seen.size() == 99 && table.size() == 99);
  for (const auto& [id, times] : seen) CHECK(times == 1 && id != 0 && id != 50);

  TEST("a capacity that cannot be had is refused");
  bool refused = false;
  try {
    ForwardingTable none(0);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
}

void matches_a_map_under_churn() {
  TEST("after random installs and removals the table equals a map");
  ForwardingTable table(256);
  std::unordered_map<uint32_t, uint64_t> model;
  std::mt19937 random(20261122);
  // Two ids to a home.
  const auto id_of = [](uint32_t i) { return i << 23; };
  for (uint64_t step = 0; step < 60000; step++) {
    const uint32_t id = id_of(random() % 512);
    if (random() % 2) {
      const bool room = model.contains(id) || model.size() < 256;
      CHECK(table.install(make_leg(id, step)) == room);
      if (room) model[id] = step;
    } else {
      CHECK(table.remove(id) == (model.erase(id) == 1));
    }
  }
  CHECK(table.size() == model.size());
  for (uint32_t i = 0; i < 512; i++) {
    const uint32_t id = id_of(i);
    omerta_leg leg;
    const bool found = table.find(id, leg);
    CHECK(found == model.contains(id));
    if (found) CHECK(leg.key[0] == make_leg(id, model[id]).key[0]);
  }
}

void legs_whose_homes_are_free_are_found_at_once() {
  TEST("a full table of legs whose ids were chosen for it is looked up in one step, whatever came and went");
  constexpr uint32_t kLegs = 1000;
  ForwardingTable table(kLegs);
  std::mt19937 random(1);
  const auto id_at = [&random](uint64_t home) {
    const uint64_t first = ((home << 32) + kLegs - 1) / kLegs;
    return static_cast<uint32_t>(first + random() % (uint32_t{UINT32_MAX} / kLegs));
  };
  std::vector<uint32_t> ids;
  for (uint32_t home = 0; home < kLegs; home++) CHECK(table.install(make_leg(ids.emplace_back(id_at(home)))));
  for (size_t i = 0; i < 50 * kLegs; i++) {
    const auto home = static_cast<uint32_t>(random() % kLegs);
    CHECK(table.remove(ids[home]));
    CHECK(table.install(make_leg(ids[home] = id_at(home))));
  }
  CHECK(table.size() == kLegs);
  CHECK(table.reach() == 1);
  omerta_leg leg;
  for (const uint32_t id : ids) CHECK(table.find(id, leg) && leg.leg_id == id);
}

void any_ids_do() {
  TEST("legs of one home sit one after the other, past the end of the table too");
  constexpr uint32_t kHome = 0xfffffff0;
  ForwardingTable table(8, {2, 2, 2});
  omerta_leg leg;
  for (uint32_t i = 0; i < 3; i++) CHECK(table.install(make_leg(kHome + i)));
  CHECK(table.install(make_leg(1)));  // whose home the second has
  CHECK(table.reach() == 3);
  for (const uint32_t id : {kHome, kHome + 1, kHome + 2, 1u}) CHECK(table.find(id, leg) && leg.leg_id == id);
  CHECK(!table.find(kHome + 3, leg));

  TEST("a leg that is replaced stays where it is, though a place nearer its home is vacant by now");
  std::vector<uint8_t> frame = make_frame(make_leg(kHome + 2));
  CHECK(table.judge_datagram(address(1, 4000), frame.data(), 64, kNow).verdict == OMERTA_FORWARD);
  CHECK(table.remove(kHome));
  CHECK(table.install(make_leg(kHome + 2, 7)));
  CHECK(table.size() == 3 && table.reach() == 3);
  CHECK(table.find(kHome + 2, leg) && leg.packets == 1 && leg.key[0] == make_leg(kHome + 2, 7).key[0]);

  TEST("look-ups are as short again once the legs that sat far from their homes are gone");
  CHECK(table.remove(kHome + 2));
  CHECK(table.reach() == 3);  // leg 1's home is the first entry
  CHECK(table.remove(1));
  CHECK(table.reach() == 2);
  CHECK(table.install(make_leg(kHome + 3)) && table.reach() == 2);  // at home
  CHECK(table.remove(kHome + 1));
  CHECK(table.reach() == 1);
  CHECK(table.find(kHome + 3, leg) && table.size() == 1);

  TEST("lookups among random ids stay short in a table half full, however many have come and gone");
  constexpr size_t kLegs = 4096;
  ForwardingTable half(2 * kLegs);
  std::mt19937 random(1);
  uint32_t drawn = 0;
  // Scattered like random ids, and never the same twice (the murmur3 finaliser is a permutation).
  auto fresh_id = [&drawn] {
    uint32_t id = drawn++;
    id = (id ^ (id >> 16)) * 0x85ebca6b;
    id = (id ^ (id >> 13)) * 0xc2b2ae35;
    return id ^ (id >> 16);
  };
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < kLegs; i++) CHECK(half.install(make_leg(ids.emplace_back(fresh_id()))));
  for (size_t i = 0; i < 50 * kLegs; i++) {
    uint32_t& id = ids[random() % kLegs];
    CHECK(half.remove(id));
    CHECK(half.install(make_leg(id = fresh_id())));
  }
  CHECK(half.size() == kLegs);
  CHECK(half.reach() <= 64);
}

void an_entry_outlives_its_sequence_counter() {
  TEST("an entry written more often than its sequence counter counts is still read as written last");
  ForwardingTable table(2);
  constexpr uint64_t kWrites = (uint64_t{1} << 20) + 3;
  for (uint64_t version = 0; version <= kWrites; version++) {
    if (!table.install(make_leg(5, version))) CHECK(false);
  }
  omerta_leg leg;
  CHECK(table.find(5, leg) && leg.key[0] == make_leg(5, kWrites).key[0]);
  CHECK(leg.action == OMERTA_LEG_FORWARD && leg.flags == 0 && leg.key_epoch == 0 && leg.next_key_epoch == 0);
  CHECK(!table.find(0, leg));
}

void judges_many_like_one() {
  TEST("datagrams judged together come out as judged one by one");
  ForwardingTable alone(64, {4, 1, 2}, ForwardingTable::Workers::one);
  ForwardingTable together(64, {4, 1, 2}, ForwardingTable::Workers::one);
  for (ForwardingTable* table : {&alone, &together}) {
    table->accounts().set_limits(1, {{65536, 0, 4000}, 0, 0});
    for (uint32_t id = 0; id < 64; id++) {
      omerta_leg leg = make_leg(id, 0, id % 7 == 0 ? OMERTA_LEG_DELIVER : OMERTA_LEG_FORWARD);
      leg.limits = id % 5 == 0;
      leg.identity = id % 4;
      CHECK(table->install(leg));
    }
  }
  std::mt19937 random(3);
  const omerta_address from = address(1, 4000);
  for (int round = 0; round < 200; round++) {
    const size_t count = random() % 65;
    std::vector<std::vector<uint8_t>> one_by_one, at_once;
    for (size_t i = 0; i < count; i++) {
      // Runs of one leg, unknown legs, damage, short ones, and other protocols.
      const bool again = i != 0 && random() % 2 == 0;
      const auto id = again ? omerta_load32(&one_by_one[i - 1].at(4)) : static_cast<uint32_t>(random() % 70);
      std::vector<uint8_t> frame = make_frame(make_leg(id), OMERTA_KIND_FORWARD, 32 + random() % 64);
      if (random() % 8 == 0) frame[8] ^= 1;
      if (random() % 16 == 0) frame[0] = 4;
      if (random() % 16 == 0) frame.resize(8 + random() % 24);
      one_by_one.push_back(frame);
      at_once.push_back(frame);
    }
    std::vector<omerta::relay::Datagram> datagrams;
    for (std::vector<uint8_t>& frame : at_once)
      datagrams.push_back({frame.data(), static_cast<uint32_t>(frame.size()), &from});
    std::vector<Decision> decisions(count);
    const uint64_t now = kNow + static_cast<uint64_t>(round) * 1000;
    together.judge_all(datagrams.data(), count, now, decisions.data());
    for (size_t i = 0; i < count; i++) {
      const Decision expected =
          alone.judge_datagram(from, one_by_one[i].data(), static_cast<uint32_t>(one_by_one[i].size()), now);
      CHECK(decisions[i].verdict == expected.verdict && decisions[i].reason == expected.reason);
      CHECK(decisions[i].leg_id == expected.leg_id && decisions[i].next.port == expected.next.port);
      CHECK(at_once[i] == one_by_one[i]);
    }
  }
  for (uint32_t id = 0; id < 64; id++) {
    omerta_leg a, b;
    CHECK(alone.find(id, a) && together.find(id, b) && std::memcmp(&a, &b, sizeof a) == 0);
  }
}

void forwards_and_counts() {
  TEST("a forwarded frame is re-tagged for the next leg and counted on the one it came by");
  ForwardingTable table(8, {1, 1, 2});
  const omerta_leg leg = make_leg(77);
  CHECK(table.install(leg));
  std::vector<uint8_t> frame = make_frame(leg);
  const Decision decision = table.judge_datagram(address(1, 4000), frame.data(), 64, kNow);
  CHECK(decision.verdict == OMERTA_FORWARD && decision.reason == OMERTA_DROP_NONE && decision.leg_id == 77);
  CHECK(std::memcmp(&decision.next.ip, leg.next_ip, 16) == 0 && decision.next.port == leg.next_port);
  CHECK(frame[2] == OMERTA_HOP_LIMIT_DEFAULT - 1);
  CHECK(omerta_load32(&frame[4]) == leg.next_leg_id);
  CHECK(omerta_load64(&frame[8]) == omerta_frame_tag(leg.next_key, frame.data(), 64));
  omerta_leg after;
  CHECK(table.find(77, after) && after.packets == 1 && after.bytes == 64 && after.last_used == kNow);

  TEST("replacing a leg keeps its counters; removing and installing it again starts at zero");
  omerta_leg replacement = make_leg(77, 5);
  replacement.packets = 1000;
  CHECK(table.install(replacement));
  CHECK(table.find(77, after) && after.packets == 1 && after.bytes == 64 && after.last_used == kNow);
  CHECK(after.key[0] == replacement.key[0]);
  CHECK(table.remove(77) && table.install(replacement));
  CHECK(table.find(77, after) && after.packets == 0 && after.bytes == 0 && after.last_used == 0);

  TEST("a dropped frame is neither changed nor counted");
  std::vector<uint8_t> stale = make_frame(leg);
  const std::vector<uint8_t> before = stale;
  CHECK(table.judge_datagram(address(1, 4000), stale.data(), 64, kNow).reason == OMERTA_DROP_BAD_TAG);
  CHECK(stale == before);
  CHECK(table.find(77, after) && after.packets == 0);

  TEST("a rate limit drops what exceeds it, unchanged and uncounted");
  omerta_leg limited = make_leg(5);
  limited.limits = 1;
  table.accounts().set_limits(1, {{65536, 0, 128}, 0, 0});  // 1 ns a byte
  CHECK(table.install(limited));
  for (int i = 0; i < 3; i++) {
    std::vector<uint8_t> f = make_frame(limited);
    const std::vector<uint8_t> original = f;
    const Decision d = table.judge_datagram(address(1, 4000), f.data(), 64, kNow);
    CHECK(d.verdict == (i < 2 ? OMERTA_FORWARD : OMERTA_DROP));
    CHECK((f == original) == (i == 2));
  }
  CHECK(table.find(5, after) && after.packets == 2 && after.bytes == 128);
}

void readers_see_whole_entries() {
  TEST("readers racing with installs and removals see an entry whole or not at all");
  constexpr uint32_t kIds = 16;
  ForwardingTable table(kIds + 1);
  const omerta_leg steady = make_leg(1000);
  CHECK(table.install(make_leg(0)));  // all of them have one home; the steady one sits next to it
  CHECK(table.install(steady));
  std::atomic<bool> stop{false};
  std::atomic<long> torn{0}, found{0}, lost{0}, wrong{0}, accepted{0};

  std::vector<std::thread> readers;
  for (int t = 0; t < 2; t++) {
    readers.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      while (!stop.load(std::memory_order_relaxed)) {
        omerta_leg leg;
        if (table.find(random() % kIds, leg)) {
          found++;
          if (!consistent(leg)) torn++;
          // Judged by a key that may meanwhile be another: a forwarded frame carries the tag of
          // one version's next key, and a dropped one is untouched.
          std::vector<uint8_t> frame = make_frame(leg);
          const std::vector<uint8_t> before = frame;
          const Decision d = table.judge_datagram(address(1, 4000), frame.data(), 64, kNow);
          if (d.verdict == OMERTA_FORWARD) {
            if (omerta_load64(&frame[8]) != omerta_frame_tag(leg.next_key, frame.data(), 64)) wrong++;
          } else if (frame != before ||
                     (d.reason != OMERTA_DROP_UNKNOWN_LEG && d.reason != OMERTA_DROP_BAD_TAG)) {
            wrong++;
          }
        }
        std::vector<uint8_t> frame = make_frame(steady);
        if (table.judge_datagram(address(1, 4000), frame.data(), 64, kNow).verdict == OMERTA_FORWARD)
          accepted++;
        else
          lost++;
      }
    });
  }
  std::mt19937 random(7);
  for (uint64_t step = 0; step < 40000; step++) {
    const uint32_t id = random() % kIds;
    if (random() % 3)
      CHECK(table.install(make_leg(id, step)));
    else
      table.remove(id);
    if (step % 256 == 0) std::this_thread::yield();
  }
  while (found < 1000) std::this_thread::yield();
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(torn == 0);
  CHECK(wrong == 0);
  CHECK(lost == 0);
  omerta_leg after;
  CHECK(table.find(1000, after) && after.packets == static_cast<uint64_t>(accepted.load()));
  CHECK(after.bytes == after.packets * 64);
}

/// Lets three workers send 64-byte frames by their own legs at once; returns how many were accepted.
uint64_t race(ForwardingTable& table, const std::vector<omerta_leg>& legs, int frames) {
  std::atomic<uint64_t> accepted{0};
  std::vector<std::thread> workers;
  for (const omerta_leg& leg : legs) {
    workers.emplace_back([&table, &accepted, leg, frames] {
      for (int i = 0; i < frames; i++) {
        std::vector<uint8_t> frame = make_frame(leg);
        if (table.judge_datagram(address(1, 4000), frame.data(), 64, kNow).verdict == OMERTA_FORWARD)
          accepted++;
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  return accepted;
}

void workers_share_every_limit() {
  static constexpr omerta_rate kFiveHundredFrames = {65536, 0, 64 * 500};
  struct Case {
    const char* sentence;
    void (*limit)(omerta::relay::Accounts& accounts);
    uint64_t accepted;
  };
  const Case cases[] = {
      {"workers sharing a limited identity together get its burst and nothing more",
       [](omerta::relay::Accounts& a) {
         a.set_rate(omerta::relay::AccountKind::identity, 1, kFiveHundredFrames);
       },
       500},
      {"workers sharing a limited network together get its burst and nothing more",
       [](omerta::relay::Accounts& a) {
         a.set_rate(omerta::relay::AccountKind::network, 1, kFiveHundredFrames);
       },
       500},
      {"workers sharing a limited prefix together get its burst and nothing more",
       [](omerta::relay::Accounts& a) { a.set_prefix_rate(kFiveHundredFrames, {}); }, 500},
      {"workers sharing a limited host together get its burst and nothing more",
       [](omerta::relay::Accounts& a) { a.set_host_rate(kFiveHundredFrames); }, 500},
      {"workers sharing an identity's fair share together get its burst and nothing more",
       [](omerta::relay::Accounts& a) {
         a.set_host_rate({65536, 0, 64 * 5000});
         a.set_fair_share(2 * 65536, 2 * 64 * 500);
       },
       500},
  };
  for (const Case& each : cases) {
    TEST(each.sentence);
    ForwardingTable table(4, {2, 2, 2});
    each.limit(table.accounts());
    std::vector<omerta_leg> legs;
    for (uint32_t id = 1; id <= 3; id++) {
      legs.push_back(make_leg(id));
      legs.back().identity = legs.back().network = 1;
      CHECK(table.install(legs.back()));
    }
    CHECK(race(table, legs, 400) == each.accepted);
  }

  TEST("workers sharing a leg together get its burst and nothing more");
  ForwardingTable table(4, {1, 1, 2});
  omerta_leg limited = make_leg(9);
  limited.limits = 1;
  table.accounts().set_limits(1, {kFiveHundredFrames, 0, 0});
  CHECK(table.install(limited));
  CHECK(race(table, {limited, limited, limited}, 400) == 500);

  TEST("workers sharing a leg together get its byte cap and nothing more");
  table.accounts().set_limits(1, {{}, 0, 64 * 1000});
  CHECK(race(table, {limited, limited, limited}, 400) == 500);
  omerta_leg after;
  CHECK(table.find(9, after) && after.bytes == 64 * 1000 && after.packets == 1000);

  TEST("what a frame was charged before another worker took the last of a limit is given back");
  ForwardingTable tight(4, {4, 2, 2});
  tight.accounts().set_rate(omerta::relay::AccountKind::network, 1, kFiveHundredFrames);
  tight.accounts().set_host_rate({65536, 0, 64 * 5000});
  std::vector<omerta_leg> legs;
  for (uint32_t id = 1; id <= 3; id++) {
    legs.push_back(make_leg(id));
    legs.back().identity = id;
    legs.back().network = 1;
    CHECK(tight.install(legs.back()));
  }
  CHECK(race(tight, legs, 4000) == 500);
  CHECK(tight.accounts().host().theoretical_arrival == kNow + 64 * 500);
}

void accounts_are_bounded() {
  TEST("a leg that names an account or class there is none of is refused by the field's name");
  ForwardingTable table(4, {2, 3, 4});
  struct Case {
    const char* field;
    void (*edit)(omerta_leg& leg);
  };
  const Case cases[] = {{"identity: 2", [](omerta_leg& leg) { leg.identity = 2; }},
                        {"network: 3", [](omerta_leg& leg) { leg.network = 3; }},
                        {"limits: 4", [](omerta_leg& leg) { leg.limits = 4; }}};
  for (const Case& each : cases) {
    omerta_leg leg = make_leg(1);
    each.edit(leg);
    std::string message;
    try {
      table.install(leg);
    } catch (const std::out_of_range& error) {
      message = error.what();
    }
    CHECK(message.starts_with(each.field));
  }
  CHECK(table.size() == 0);
}

}  // namespace

int main() {
  installs_and_removes();
  matches_a_map_under_churn();
  legs_whose_homes_are_free_are_found_at_once();
  any_ids_do();
  an_entry_outlives_its_sequence_counter();
  judges_many_like_one();
  forwards_and_counts();
  readers_see_whole_entries();
  workers_share_every_limit();
  accounts_are_bounded();
  return omerta::check::finish();
}
