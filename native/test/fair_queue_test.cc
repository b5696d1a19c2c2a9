// SPDX-License-Identifier: Apache-2.0
// Packets that wait for a link: who is next, how many may wait, and for how long.
#include <map>

#include "check.h"
#include "ratelimit/fair_queue.h"

namespace {

using namespace omerta;

constexpr size_t kSize = 1000;

/// An IPv4 packet that says whose it is, ECN-capable or not.
Waiting packet(uint8_t of, Nanoseconds since = 0, size_t cost = kSize, uint8_t ecn = kNotEct) {
  std::vector<uint8_t> bytes(20);
  bytes[0] = 0x45;
  bytes[1] = ecn;
  bytes[19] = of;
  return {std::move(bytes), cost, since};
}

std::shared_ptr<FairQueue::Flow> flow(QueueRoom& room) { return std::make_shared<FairQueue::Flow>(room); }

/// Bytes each got of the next `count` packets.
std::map<uint8_t, size_t> served(FairQueue& queue, size_t count) {
  QueueCounts all;
  std::map<uint8_t, size_t> bytes;
  for (size_t i = 0; i < count; i++)
    if (const auto next = queue.pop(CoDel::kTarget, 0, all); next.has_value())
      bytes[next->packet[19]] += next->cost;
  return bytes;
}

void what_waits_leaves_in_its_order_and_once() {
  QueueRoom room;
  FlowQueue queue(room);
  QueueCounts all;
  for (uint8_t i = 0; i < 10; i++) CHECK(queue.push(packet(i)));
  CHECK(queue.bytes() == 10 * kSize && room.bytes == 10 * kSize);
  for (uint8_t i = 0; i < 10; i++) {
    const auto next = queue.pop(CoDel::kTarget, 0, all);
    CHECK(next.has_value() && next->packet[19] == i);
  }
  CHECK(!queue.pop(CoDel::kTarget, 0, all).has_value() && queue.empty() && room.bytes == 0);
  CHECK(all.sent == 10 && queue.counts().sent == 10 && queue.counts().queued == 10);
}

void a_queue_has_room_for_so_many_bytes_and_all_together_for_so_many() {
  QueueRoom room;
  FlowQueue queue(room);
  while (queue.push(packet(0))) CHECK(queue.bytes() <= FlowQueue::kMaxBytes);
  CHECK(queue.bytes() + kSize > FlowQueue::kMaxBytes && queue.counts().dropped_full == 1);
  {
    std::vector<std::unique_ptr<FlowQueue>> others;
    for (size_t i = 0; i < 20; i++) {
      others.push_back(std::make_unique<FlowQueue>(room));
      while (others.back()->push(packet(0))) CHECK(room.bytes <= QueueRoom::kMaxBytes);
    }
    CHECK(room.bytes + kSize > QueueRoom::kMaxBytes);
  }
  CHECK(room.bytes == queue.bytes());  // a queue that is gone holds nothing
}

void a_packet_that_has_waited_too_long_is_lost() {
  QueueRoom room;
  FlowQueue queue(room);
  QueueCounts all;
  CHECK(queue.push(packet(1, 0)) && queue.push(packet(2, kSecond)));
  const auto next = queue.pop(CoDel::kTarget, FlowQueue::kMaxAge + 1, all);
  CHECK(next.has_value() && next->packet[19] == 2);
  CHECK(all.dropped_late == 1 && queue.counts().dropped_late == 1);
}

/// What becomes of a thousand packets of which each waits for so long, as one leaves every millisecond.
QueueCounts standing(Nanoseconds waits, uint8_t ecn) {
  QueueRoom room;
  FlowQueue queue(room);
  QueueCounts all;
  for (size_t i = 0; i < 1000; i++) CHECK(queue.push(packet(0, i * kMillisecond, kSize, ecn)));
  Nanoseconds now = waits;
  while (!queue.empty()) {
    queue.pop(CoDel::kTarget, now, all);
    now += kMillisecond;
  }
  return all;
}

void a_queue_that_stands_loses_packets_and_a_short_one_none() {
  CHECK(standing(4 * kMillisecond, kNotEct).dropped_late == 0);
  const QueueCounts lost = standing(40 * kMillisecond, kNotEct);
  CHECK(lost.dropped_late > 5 && lost.dropped_late < 100 && lost.marked == 0);
  // Who can be told of congestion is told, and loses nothing.
  const QueueCounts told = standing(40 * kMillisecond, kEct0);
  CHECK(told.marked > 5 && told.marked < 100 && told.dropped_late == 0 && told.sent == 1000);
}

void peers_share_by_their_weights_whatever_they_ask_for() {
  QueueRoom room;
  FairQueue queue;
  const auto one = flow(room), three = flow(room), idle = flow(room);
  for (size_t i = 0; i < 400; i++) {
    queue.push(one, {.weight = 1}, packet(1));
    for (size_t part = 0; part < 2; part++) queue.push(three, {.weight = 3}, packet(3, 0, kSize / 2));
  }
  CHECK(queue.flows() == 2 && queue.bytes() == 800 * kSize);
  const auto bytes = served(queue, 700);
  CHECK(bytes.at(3) + bytes.at(1) > 300 * kSize);
  CHECK(bytes.at(3) > bytes.at(1) * 29 / 10 && bytes.at(3) < bytes.at(1) * 31 / 10);
  // Who comes late gets its share from then on, and nothing for the time before.
  for (size_t i = 0; i < 100; i++) queue.push(idle, {.weight = 1}, packet(9));
  const auto later = served(queue, 60);
  CHECK(later.at(9) <= later.at(1) + 2 * kSize && later.at(9) + 2 * kSize >= later.at(1));
}

void networks_share_first_however_many_peers_they_have() {
  QueueRoom room;
  FairQueue queue;
  std::vector<std::shared_ptr<FairQueue::Flow>> many;
  for (uint8_t i = 0; i < 10; i++) many.push_back(flow(room));
  const auto alone = flow(room);
  for (size_t n = 0; n < 200; n++) {
    for (uint8_t i = 0; i < 10; i++) queue.push(many[i], {.network = 1, .network_weight = 1}, packet(i));
    queue.push(alone, {.network = 2, .network_weight = 1}, packet(100));
  }
  auto bytes = served(queue, 200);
  CHECK(bytes.at(100) >= 98 * kSize && bytes.at(100) <= 102 * kSize);
  for (uint8_t i = 0; i < 10; i++) CHECK(bytes.at(i) >= 9 * kSize && bytes.at(i) <= 11 * kSize);
  // When one has nothing more the others have all.
  bytes = served(queue, 1000);
  CHECK(bytes.at(100) == 200 * kSize - 100 * kSize || bytes.at(100) <= 102 * kSize);
}

void a_peer_that_sends_one_at_a_time_gets_no_more_than_its_share() {
  QueueRoom room;
  FairQueue queue;
  const auto steady = flow(room), pacing = flow(room);
  QueueCounts all;
  for (size_t i = 0; i < 1000; i++) queue.push(steady, {.weight = 9}, packet(1));
  size_t of_pacing = 0;
  for (size_t i = 0; i < 500; i++) {
    if (pacing->queue().empty()) queue.push(pacing, {.weight = 1}, packet(2));
    of_pacing += queue.pop(CoDel::kTarget, 0, all)->packet[19] == 2 ? 1 : 0;
  }
  CHECK(of_pacing >= 45 && of_pacing <= 55);
}

void a_flow_moves_between_queues_with_what_it_has() {
  QueueRoom room;
  FairQueue from, to;
  const auto moving = flow(room), staying = flow(room);
  from.push(moving, {}, packet(1));
  from.push(staying, {}, packet(2));
  to.push(moving, {}, packet(3));
  CHECK(from.flows() == 1 && to.flows() == 1 && to.bytes() == 2 * kSize);
  CHECK(served(to, 2).size() == 2 && to.empty());
  to.take_over(staying, {.weight = 2});
  CHECK(from.empty() && to.flows() == 1);
  to.remove(staying);
  CHECK(to.empty() && !staying->queue().empty());
  to.take_over(staying, {});
  CHECK(served(to, 1).at(2) == kSize && to.empty());
}

}  // namespace

int main() {
  RUN(what_waits_leaves_in_its_order_and_once);
  RUN(a_queue_has_room_for_so_many_bytes_and_all_together_for_so_many);
  RUN(a_packet_that_has_waited_too_long_is_lost);
  RUN(a_queue_that_stands_loses_packets_and_a_short_one_none);
  RUN(peers_share_by_their_weights_whatever_they_ask_for);
  RUN(networks_share_first_however_many_peers_they_have);
  RUN(a_peer_that_sends_one_at_a_time_gets_no_more_than_its_share);
  RUN(a_flow_moves_between_queues_with_what_it_has);
  return check::finish();
}
