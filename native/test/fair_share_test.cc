// SPDX-License-Identifier: Apache-2.0
// Sharing of the host's rate: the levels by hand, and identities that send through a forwarding table.
#include "ratelimit/fair_share.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "engine/host_shares.h"
#include "relay/forwarding_table.h"
#include "test/check.h"

namespace {

using omerta::FairShare;
using omerta::relay::AccountKind;
using omerta::relay::ForwardingTable;

uint64_t level(std::vector<uint64_t> demands, uint64_t capacity) {
  return FairShare::level(demands, capacity);
}

void levels() {
  TEST("who asks for less than an equal share gets it, the others share what is left equally");
  CHECK(level({10, 20, 70, 100}, 100) == 35);
  CHECK(level({100, 70, 20, 10}, 100) == 35);
  CHECK(level({1000, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 100) == 91);
  CHECK(level({500, 500, 500, 500}, 100) == 25);
  CHECK(level({25, 25, 25, 25}, 100) == 25);
  TEST("when there is enough for all, one may take what is spare on top of the largest demand");
  CHECK(level({10, 20}, 100) == 90);
  CHECK(level({}, 100) == 100);
  CHECK(level({100}, 100) == 100);

  TEST("random demands are shared max-min fairly: all capacity is dealt, and nobody above the level waits");
  std::mt19937_64 random(20261122);
  for (int i = 0; i < 2000; i++) {
    std::vector<uint64_t> demands(1 + random() % 50);
    uint64_t sum = 0;
    for (uint64_t& demand : demands) sum += demand = random() % (random() % 2 ? 1'000'000 : 1000);
    const uint64_t capacity = random() % 5'000'000 + 100;
    const uint64_t share = level(demands, capacity);
    uint64_t dealt = 0;
    for (const uint64_t demand : demands) dealt += std::min(demand, share);
    if (sum > capacity)
      CHECK(dealt <= capacity && dealt + demands.size() > capacity);
    else
      CHECK(dealt == sum);
  }
}

void factors() {
  constexpr uint64_t kInterval = 100'000'000;
  TEST("the factor is one over the share of the host, in 65,536ths");
  FairShare shares(2);
  CHECK(shares.update(std::vector<uint64_t>{0, 0}, 1 * kInterval, 0) == 2 * 65536);
  // Both ask for the whole host: half each.
  CHECK(shares.update(std::vector<uint64_t>{kInterval, kInterval}, 2 * kInterval, 0) == 2 * 65536);
  // One asks for a tenth: nine tenths are left to the other.
  const uint32_t factor =
      shares.update(std::vector<uint64_t>{kInterval * 11 / 10, kInterval * 11}, 3 * kInterval, 0);
  CHECK(factor == (uint64_t{65536} * 10 + 8) / 9);
  TEST("a backlog of the host is worked off: less is dealt while there is one");
  CHECK(shares.update(std::vector<uint64_t>{kInterval * 21 / 10, kInterval * 21}, 4 * kInterval,
                      5 * kInterval) > factor);
  TEST("after reset, and after a long pause, an identity may take half of the host");
  CHECK(shares.update(std::vector<uint64_t>{kInterval * 30, kInterval * 30}, 1000 * kInterval, 0) ==
        2 * 65536);
  CHECK(shares.update(std::vector<uint64_t>{kInterval * 40, kInterval * 40}, 1001 * kInterval, 0) ==
        2 * 65536);
  shares.reset();
  CHECK(shares.update(std::vector<uint64_t>{kInterval * 50, kInterval * 50}, 1002 * kInterval, 0) ==
        2 * 65536);
}

/// Identities 1 to n, each with one leg, sending 1,000-byte frames evenly through a table whose host may
/// carry 10 MB/s; virtual time.
class World {
 public:
  static constexpr uint32_t kSize = 1000;
  static constexpr double kHostFrames = 10'000;  ///< per second

  explicit World(std::vector<double> frames_per_second)
      : table_(frames_per_second.size(), {frames_per_second.size() + 1, 1, 1}, ForwardingTable::Workers::one),
        shares_(table_.accounts()) {
    table_.accounts().set_host_rate({6'553'600, 0, 100'000'000});  // 65,536 bytes in 6.5536 ms
    for (size_t i = 0; i < frames_per_second.size(); i++) {
      Sender sender;
      sender.per_second = frames_per_second[i];
      sender.leg = leg(static_cast<uint32_t>(i + 1));
      sender.next = now_ + static_cast<double>(i) * 1e3;
      table_.install(sender.leg);
      senders_.push_back(sender);
    }
  }

  struct Sender {
    omerta_leg leg;
    double per_second = 0;
    double next = 0;  ///< ns
    uint64_t sent = 0;
    uint64_t carried = 0;
  };
  std::vector<Sender>& senders() { return senders_; }
  ForwardingTable& table() { return table_; }

  void run(double seconds) {
    const double end = now_ + seconds * 1e9;
    for (;;) {
      auto next = std::min_element(senders_.begin(), senders_.end(),
                                   [](const Sender& a, const Sender& b) { return a.next < b.next; });
      if (next->next > end) break;
      now_ = next->next;
      while (deal_ <= now_) {
        shares_.deal(static_cast<uint64_t>(deal_));
        deal_ += 100e6;
      }
      send(*next);
      next->next = next->per_second == 0 ? 1e18 : next->next + 1e9 / next->per_second;
    }
    now_ = end;
  }
  void forget() {
    for (Sender& sender : senders_) sender.sent = sender.carried = 0;
  }

 private:
  static omerta_leg leg(uint32_t id) {
    omerta_leg leg{};
    leg.leg_id = leg.identity = id;
    leg.action = OMERTA_LEG_FORWARD;
    return leg;
  }
  void send(Sender& sender) {
    uint8_t frame[kSize] = {OMERTA_FRAME_MAGIC, OMERTA_KIND_FORWARD, OMERTA_HOP_LIMIT_DEFAULT, 0};
    omerta_store32(frame + 4, sender.leg.leg_id);
    omerta_store64(frame + 8, omerta_frame_tag(sender.leg.key, frame, kSize));
    sender.sent++;
    const omerta::relay::Decision decision =
        table_.judge_datagram(omerta_address{}, frame, kSize, static_cast<uint64_t>(now_));
    sender.carried += decision.verdict == OMERTA_FORWARD;
  }

  ForwardingTable table_;
  omerta::engine::HostShares shares_;
  std::vector<Sender> senders_;
  double now_ = 1e9;
  double deal_ = 1e9;
};

void one_greedy_and_nine_modest() {
  TEST(
      "one identity that asks for ten times the host takes what nine modest ones leave, and they lose "
      "nothing");
  std::vector<double> rates(10, 500);  // each a twentieth of the host
  rates[0] = 10 * World::kHostFrames;
  World world(rates);
  world.run(10);
  const auto& senders = world.senders();
  for (size_t i = 1; i < senders.size(); i++) CHECK(senders[i].carried == senders[i].sent);
  const double left = World::kHostFrames - 9 * 500;
  CHECK(std::abs(static_cast<double>(senders[0].carried) / 10 - left) < left * 0.05);
  CHECK(world.table().accounts().host().refused == 0);
  CHECK(world.table().accounts().read(AccountKind::identity, 1).refused > 0);
  CHECK(world.table().accounts().read(AccountKind::identity, 2).refused == 0);
}

void a_greedy_one_arrives() {
  TEST("nine modest identities lose nothing either when a greedy one begins beside them");
  std::vector<double> rates(10, 500);
  rates[0] = 0;
  World world(rates);
  world.senders()[0].next = 1e18;
  world.run(2);
  world.senders()[0].per_second = 10 * World::kHostFrames;
  world.senders()[0].next = 3e9;
  world.run(3);
  for (size_t i = 1; i < 10; i++) CHECK(world.senders()[i].carried == world.senders()[i].sent);
  CHECK(world.senders()[0].carried > 3 * 5000);
}

void ten_greedy() {
  TEST("ten equally greedy identities get equal shares, within a tenth");
  World world(std::vector<double>(10, World::kHostFrames));
  world.run(1);
  world.forget();
  world.run(10);
  uint64_t total = 0;
  for (const World::Sender& sender : world.senders()) {
    total += sender.carried;
    CHECK(std::abs(static_cast<double>(sender.carried) / 10 - 1000) < 100);
  }
  CHECK(static_cast<double>(total) / 10 > World::kHostFrames * 0.95);
  CHECK(static_cast<double>(total) / 10 < World::kHostFrames * 1.02);

  TEST("unequally greedy ones get equal shares too");
  World unequal({20'000, 5'000, 40'000, 3'000});
  unequal.run(1);
  unequal.forget();
  unequal.run(5);
  for (const World::Sender& sender : unequal.senders())
    CHECK(std::abs(static_cast<double>(sender.carried) / 5 - 2500) < 250);
}

void unsaturated() {
  TEST("as long as the host is not asked for more than its rate nobody is held back");
  World world({6'000, 2'000, 1'500});
  world.run(5);
  for (const World::Sender& sender : world.senders()) CHECK(sender.carried == sender.sent);

  TEST("one identity alone has the whole host");
  World alone({3 * World::kHostFrames});
  alone.run(1);
  alone.forget();
  alone.run(5);
  CHECK(static_cast<double>(alone.senders()[0].carried) / 5 > World::kHostFrames * 0.97);
}

void lifted() {
  TEST("without a host limit shares are no longer dealt");
  World world({2 * World::kHostFrames, World::kHostFrames});
  world.run(2);
  world.table().accounts().set_host_rate({});
  world.run(0.2);
  world.forget();
  world.run(2);
  for (const World::Sender& sender : world.senders()) CHECK(sender.carried == sender.sent);
}

}  // namespace

int main() {
  levels();
  factors();
  one_greedy_and_nine_modest();
  a_greedy_one_arrives();
  ten_greedy();
  unsaturated();
  lifted();
  return omerta::check::finish();
}
