// SPDX-License-Identifier: Apache-2.0
// How a worker shapes what it sends, by its size and by when it leaves: padding and its budget, ceilings,
// slots.
#include <chrono>
#include <thread>

#include "worker_fixture.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::check;

/// What `a` sends to `b` is padded to these.
void pad(Pair& pair, std::initializer_list<uint16_t> sizes, uint32_t budget = 0) {
  Key32 key;
  key.fill(2);
  session::ShapingSettings settings{.peer = session::public_key_of(key), .padding_budget = budget};
  std::ranges::copy(sizes, settings.padded_sizes.begin());
  settings.padded_size_count = sizes.size();
  pair.a.shared.inner_mtu = 1400;
  pair.a.shared.sessions->set_shaping({settings});
}

/// Bytes of UDP payload of each datagram a packet becomes, all alike; it arrives as it was.
size_t datagram_size(Pair& pair, const test::MemoryPort::Packet& packet) {
  const uint64_t datagrams = pair.a.counted(Counter::tx_datagrams), bytes = pair.a.counted(Counter::tx_bytes);
  const std::vector<Packet> got = passed(pair, packet);
  size_t size = 0;
  for (const Packet& each : got) size += each.size();
  CHECK(size == packet.bytes.size());
  const uint64_t sent = pair.a.counted(Counter::tx_datagrams) - datagrams;
  CHECK(sent != 0 && (pair.a.counted(Counter::tx_bytes) - bytes) % sent == 0);
  return (pair.a.counted(Counter::tx_bytes) - bytes) / std::max<uint64_t>(sent, 1);
}

void packets_are_padded_to_sizes_and_arrive_as_they_were() {
  Pair pair;
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 112 + 32);
  pad(pair, {128, 512, 65535});
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 128 + 32);
  CHECK(datagram_size(pair, tcp_packet(88, 0)) == 128 + 32);
  CHECK(datagram_size(pair, tcp_packet(89, 0)) == 512 + 32);
  CHECK(datagram_size(pair, tcp_packet(700, 0)) == 1400 + 32);
  CHECK(datagram_size(pair, tcp_packet(1360, 0)) == 1400 + 32);
  // All segments of a super-packet, the shorter last one too, have one size.
  CHECK(datagram_size(pair, super_packet(64)) == 1400 + 32);
  // Padding makes no datagram too long for its way.
  bound(pair, 1000);
  CHECK(datagram_size(pair, tcp_packet(600, 0)) == 1000);
  pad(pair, {});
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 112 + 32);
}

void what_is_longer_than_is_padded_goes_as_it_is() {
  Pair pair;
  pad(pair, {65535});
  pair.a.shared.inner_mtu = 9000;
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == session::kMaxPaddedSize + 32);
  CHECK(datagram_size(pair, tcp_packet(5000, 0)) == 5040 + 32);
  CHECK(datagram_size(pair, super_packet(64)) == session::kMaxPaddedSize + 32);
}

void padding_is_bounded_by_its_budget() {
  Pair pair;
  pad(pair, {65535}, 50);
  for (int i = 0; i < 400; i++) passed(pair, tcp_packet(60, 0));
  Key32 key;
  key.fill(2);
  const auto counts = pair.a.shared.sessions->shaping_counts(session::public_key_of(key));
  CHECK(counts.has_value());
  if (!counts.has_value()) return;
  CHECK(counts->data_bytes == 400 * 112);
  CHECK(counts->padding_bytes <= counts->data_bytes / 2 + session::kFirstPaddingCredit);
  CHECK(counts->padding_bytes > session::kFirstPaddingCredit - 1400);
  CHECK(counts->unpadded_packets > 200 && counts->unpadded_packets < 400);
  CHECK(pair.a.counted(Counter::padding_over_budget) == counts->unpadded_packets);
  // What is not afforded goes out all the same.
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 112 + 32);
}

void what_waited_for_a_session_is_padded_too() {
  Pair pair;
  pad(pair, {65535});
  const uint64_t before = pair.a.counted(Counter::tx_bytes);
  const std::vector<uint8_t> packet = tcp_packet(60, 0).bytes;
  Key32 key;
  key.fill(2);
  CHECK(pair.a.shared.sessions->send_inside(session::public_key_of(key), packet, boot_clock(), pair.a.out));
  pair.a.out.flush();
  CHECK(pair.a.counted(Counter::tx_bytes) - before == 1400 + 32);
}

/// Bytes of UDP payload of the datagram of a packet that waited for a session; it arrives as it was.
size_t late_datagram_size(Pair& pair, const test::MemoryPort::Packet& packet) {
  pair.b.receive();
  pair.b.port.sent.clear();
  const uint64_t before = pair.a.counted(Counter::tx_bytes);
  Key32 key;
  key.fill(2);
  const Key32 peer = session::public_key_of(key);
  CHECK(pair.a.shared.sessions->send_inside(peer, packet.bytes, boot_clock(), pair.a.out));
  pair.a.out.flush();
  pair.b.receive();
  CHECK(pair.b.port.sent.size() == 1);
  for (const Packet& whole : pair.b.port.sent)
    CHECK(std::equal(whole.begin() + sizeof(inner::VirtioNetHeader), whole.end(), packet.bytes.begin(),
                     packet.bytes.end()));
  return pair.a.counted(Counter::tx_bytes) - before;
}

void what_waited_for_a_session_has_the_padding_its_path_has_room_for() {
  Pair pair;
  bound(pair, 1000);
  pad(pair, {128, 65535});
  // Each is as long as a multiple of 16 would be longer than the path, or the message, has room for.
  CHECK(late_datagram_size(pair, tcp_packet(962 - 40, 0)) == 1000);
  CHECK(late_datagram_size(pair, tcp_packet(968 - 40, 0)) == 1000);
  // Who sent this one did not know of the path.
  CHECK(late_datagram_size(pair, tcp_packet(970 - 40, 0)) == 970 + 32);
  pad(pair, {});
  CHECK(late_datagram_size(pair, tcp_packet(962 - 40, 0)) == 1000);
}

void padding_without_budget_is_counted_of_what_waited_too() {
  Pair pair;
  pad(pair, {65535}, 1);
  for (int i = 0; i < 150; i++) late_datagram_size(pair, tcp_packet(60, 0));
  Key32 key;
  key.fill(2);
  const auto counts = pair.a.shared.sessions->shaping_counts(session::public_key_of(key));
  CHECK(counts.has_value() && counts->unpadded_packets > 0);
  CHECK(pair.a.counted(Counter::padding_over_budget) == counts->unpadded_packets);
}

/// What `a` sends to `b` waits for its turn: under a ceiling of `lo`, or in slots.
void queue(Pair& pair, uint64_t bytes_per_second, Nanoseconds slot = 0) {
  Key32 key;
  key.fill(2);
  const Key32 peer = session::public_key_of(key);
  session::ShapingSettings settings{.peer = peer, .queued = true, .covered = slot != 0};
  if (settings.covered) settings.padded_sizes[settings.padded_size_count++] = 65535;
  pair.a.shared.inner_mtu = 1400;
  if (bytes_per_second != 0) pair.a.shared.egress.set_ceilings({{"lo", bytes_per_second}}, boot_clock());
  pair.a.shared.egress.set_flow({.peer = peer, .slot = slot}, boot_clock());
  pair.a.shared.sessions->set_shaping({settings});
}

/// What worker 0 does when it is woken, as if it were this moment. How many packets left.
size_t serve(Node& node, Nanoseconds now) {
  std::vector<Egress::Due> due;
  QueueCounts lost;
  node.shared.egress.take(due, now, lost);
  for (Egress::Due& each : due)
    if (!each.packet.empty())
      node.sealer.release(each.packet, now);
    else
      CHECK(node.shared.sessions->send_cover(each.peer, now, node.out));
  node.out.flush();
  node.shared.egress.taken(now);
  return due.size();
}

void what_waits_for_its_turn_leaves_one_by_one_and_arrives_as_it_was() {
  Pair pair;
  queue(pair, 1'000'000);
  const test::MemoryPort::Packet packet = super_packet(40);
  pair.a.port.waiting.push_back(packet);
  pair.a.sealer.receive(boot_clock());
  CHECK(pair.a.counted(Counter::transport_sent) == 0 && pair.a.counted(Counter::queued_packets) == 40);
  size_t left = 0;
  const Nanoseconds now = boot_clock();
  for (Nanoseconds later = 0; left < 40 && later < 100 * kMillisecond; later += kMillisecond)
    left += serve(pair.a, now + later);
  CHECK(left == 40 && pair.a.counted(Counter::transport_sent) == 40);
  pair.b.receive();
  size_t bytes = 0;
  for (const Packet& whole : pair.b.port.sent) bytes += whole.size() - sizeof(inner::VirtioNetHeader) - 28;
  CHECK(bytes == packet.bytes.size() - 28);
  // A packet the link has room for does not wait: all of the others have left it by then.
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(passed(pair, tcp_packet(100, 0)).size() == 1 && pair.a.counted(Counter::queued_packets) == 40);
}

void control_goes_ahead_of_data_that_waits() {
  Pair pair;
  queue(pair, 100'000);
  pair.a.port.waiting.push_back(super_packet(40));
  pair.a.sealer.receive(boot_clock());
  const uint64_t sent = pair.a.counted(Counter::tx_datagrams);
  const std::vector<uint8_t> message = {0xC0, 1, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8};
  Key32 key;
  key.fill(2);
  const uint64_t before = pair.a.shared.egress.links().at(0).sent_bytes;
  CHECK(pair.a.shared.sessions->send_inside(session::public_key_of(key), message, boot_clock(), pair.a.out));
  pair.a.out.flush();
  CHECK(pair.a.counted(Counter::tx_datagrams) == sent + 1);
  CHECK(pair.a.shared.egress.links().at(0).sent_bytes - before == 16 + 32 + 28);
  pair.b.receive();
  CHECK(pair.b.counted(Counter::control_messages) == 1 && pair.b.port.sent.empty());
}

void a_slot_is_filled_by_a_packet_or_by_a_cover_of_the_same_size() {
  Pair pair;
  queue(pair, 0, 10 * kMillisecond);
  const Nanoseconds now = boot_clock();
  const auto slot = [&](Nanoseconds at) {
    const uint64_t bytes = pair.a.counted(Counter::tx_bytes);
    CHECK(serve(pair.a, at) == 1);
    return pair.a.counted(Counter::tx_bytes) - bytes;
  };
  CHECK(slot(now + 20 * kMillisecond) == 1400 + 32);
  pair.b.receive();
  CHECK(pair.b.counted(Counter::covers_received) == 1 && pair.b.counted(Counter::control_messages) == 0);
  CHECK(pair.b.port.sent.empty());
  const test::MemoryPort::Packet packet = tcp_packet(60, 0);
  pair.a.port.waiting.push_back(packet);
  pair.a.sealer.receive(now + 20 * kMillisecond);
  CHECK(slot(now + 30 * kMillisecond) == 1400 + 32);
  pair.b.receive();
  CHECK(pair.b.counted(Counter::covers_received) == 1 && pair.b.port.sent.size() == 1);
  CHECK(slot(now + 40 * kMillisecond) == 1400 + 32);
  Key32 key;
  key.fill(2);
  const auto counts = pair.a.shared.sessions->shaping_counts(session::public_key_of(key));
  CHECK(counts.has_value() && counts->covers == 2 && counts->data_bytes == 112);
  CHECK(counts.has_value() && counts->padding_bytes == 2 * 1400 + 1400 - 112);
}

void a_copy_by_the_standby_is_padded_to_what_both_paths_take() {
  Pair pair;
  bound(pair, 1400);
  Key32 key;
  key.fill(2);
  session::PathSettings settings{.peer = session::public_key_of(key)};
  session::Endpoint ends;
  ends.remote = check::loopback(pair.b.socket.port());
  settings.paths = {{1, ends, 1400}, {2, ends, 1000}};
  pair.a.shared.sessions->set_paths({settings}, boot_clock(), pair.a.out);
  pad(pair, {65535});
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 1400);
  pair.a.shared.sessions->for_each(
      [](session::Peer& each) { each.paths.load()->state().silent.store(true); });
  CHECK(datagram_size(pair, tcp_packet(60, 0)) == 1000);
  CHECK(late_datagram_size(pair, tcp_packet(60, 0)) == 2 * 1000);
}

void messages_are_padded_as_packets_are() {
  Pair pair;
  pad(pair, {128, 512});
  Key32 key;
  key.fill(2);
  const auto size_of = [&](const std::vector<uint8_t>& frame) {
    const uint64_t before = pair.a.counted(Counter::tx_bytes);
    pair.a.shared.sessions->send_inside(session::public_key_of(key), frame, boot_clock(), pair.a.out);
    pair.a.out.flush();
    return pair.a.counted(Counter::tx_bytes) - before;
  };
  CHECK(size_of({0xC0, 1, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8}) == 128 + 32);
  CHECK(size_of({0xC0, 2, 8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0}) == 16 + 32);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(packets_are_padded_to_sizes_and_arrive_as_they_were);
  RUN(what_is_longer_than_is_padded_goes_as_it_is);
  RUN(padding_is_bounded_by_its_budget);
  RUN(what_waited_for_a_session_is_padded_too);
  RUN(what_waited_for_a_session_has_the_padding_its_path_has_room_for);
  RUN(padding_without_budget_is_counted_of_what_waited_too);
  RUN(what_waits_for_its_turn_leaves_one_by_one_and_arrives_as_it_was);
  RUN(control_goes_ahead_of_data_that_waits);
  RUN(a_slot_is_filled_by_a_packet_or_by_a_cover_of_the_same_size);
  RUN(a_copy_by_the_standby_is_padded_to_what_both_paths_take);
  RUN(messages_are_padded_as_packets_are);
  return omerta::check::finish();
}
