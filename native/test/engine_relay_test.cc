// SPDX-License-Identifier: Apache-2.0
// A whole engine over loopback between circuits: what it forwards, by which addresses, in which order, and
// what it measures of that.
#include <sodium.h>

#include <optional>
#include <string_view>

#include "check.h"
#include "engine_fixture.h"
#include "udp/socket_io.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::check;

void a_circuit_carries_a_session_while_its_table_changes() {
  Engine a(settings(1));
  Engine b(settings(2));
  Engine r(settings(3, 2));
  const auto at = [](const Engine& e) { return loopback(e.port()); };
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, at(a), at(b), 22, 2),
                        leg(33, OMERTA_LEG_FORWARD, 3, at(b), at(a), 44, 4)}));
  CHECK(a.install_legs({leg(44, OMERTA_LEG_DELIVER, 4, at(r), at(r), 11, 1)}));
  CHECK(b.install_legs({leg(22, OMERTA_LEG_DELIVER, 2, at(r), at(r), 33, 3)}));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, a.endpoint_of_leg(44))});
  CHECK(!a.endpoint_of_leg(45).has_value());
  for (uint32_t i = 0; i < 2000; i++) {
    a.send_control(public_key(2), kMessage);
    r.install_legs({leg(1000 + i % 300, OMERTA_LEG_FORWARD, 9, at(a), at(b), 5, 5)});
    if (i % 3 == 0) {
      const uint32_t id = 1000 + i % 300;
      r.remove_legs(std::span(&id, 1));
    }
    if (i % 50 == 0) {
      b.set_peers({peer(50, std::nullopt)});
      b.remove_peers({public_key(50)});
      // Never more on the way than is staged while the handshake runs.
      CHECK(wait_for([&] { return total(b, Counter::control_messages) > i; }));
    }
  }
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 2000; }));
  CHECK(total(r, Counter::forwarded_packets) >= 2000);
  // What one side says it sent is what the other has counted: handshake, data and confirmations.
  omerta_leg counted{};
  const auto agree = [&](Engine& from, uint32_t own, Engine& to, uint32_t theirs) {
    const relay::SentCounters::Sent sent = from.sent(own).value_or(relay::SentCounters::Sent{0, 0});
    return to.legs().find(theirs, counted) && sent.packets == counted.packets && sent.bytes == counted.bytes;
  };
  CHECK(wait_for([&] { return agree(a, 44, r, 11) && counted.packets >= 2000; }));
  CHECK(wait_for([&] { return agree(b, 22, r, 33) && counted.packets > 0; }));
  CHECK(!r.sent(11).has_value());
  CHECK(b.sessions().size() == 1);
}

void a_relay_tells_on_the_congestion_it_was_told_of() {
  Engine r(settings(3));
  udp::SocketOptions options;
  options.bind = "127.0.0.1";
  udp::UdpSocket a(options), b(options);
  const auto at = [](const auto& e) { return loopback(e.port()); };
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, at(a), at(b), 22, 2)}));
  uint8_t frame[64] = {OMERTA_FRAME_MAGIC, OMERTA_KIND_FORWARD, 8, 0, 11};
  __u64 key[2];
  std::memset(key, 1, sizeof key);
  const __u64 tag = omerta_frame_tag(key, frame, sizeof frame);
  std::memcpy(frame + 8, &tag, 8);
  const auto io = udp::make_mmsg_io(b);
  CounterRow counters;
  // One after the other, then as fast as they can be sent: DSCP AF41 with every ECN.
  for (uint8_t i = 0; i < 8; i++) {
    a.send_one(at(r), {}, frame, sizeof frame, static_cast<uint8_t>(0x88 | i % 4));
    CHECK(wait_for([&] {
      const auto messages = io->receive(counters);
      return messages.size() == 1 && messages[0].size == sizeof frame && messages[0].ecn == i % 4;
    }));
  }
  for (int i = 0; i < 400; i++)
    a.send_one(at(r), {}, frame, sizeof frame, static_cast<uint8_t>(0x88 | i / 10 % 4));
  size_t seen[4] = {};
  CHECK(wait_for([&] {
    for (const udp::Message& message : io->receive(counters))
      seen[message.ecn] += message.size / sizeof frame;
    return seen[0] + seen[1] + seen[2] + seen[3] == 400;
  }));
  for (const size_t count : seen) CHECK(count == 100);
}

/// A frame of `size` bytes on a leg whose key is `key` repeated.
std::vector<uint8_t> frame_on(uint32_t id, uint8_t key, size_t size, uint8_t kind = OMERTA_KIND_FORWARD) {
  std::vector<uint8_t> frame(size);
  frame[0] = OMERTA_FRAME_MAGIC;
  frame[1] = kind;
  frame[2] = OMERTA_HOP_LIMIT_DEFAULT;
  store(frame.data() + 4, id);
  __u64 words[2];
  std::memset(words, key, sizeof words);
  store(frame.data() + 8, omerta_frame_tag(words, frame.data(), static_cast<__u32>(size)));
  return frame;
}

omerta_address loopback6(uint16_t port) {
  omerta_address address{};
  address.ip[15] = 1;
  address.port = __builtin_bswap16(port);
  return address;
}

/// A plain socket of this test, and what arrives at it.
struct Client {
  explicit Client(const char* bind)
      : v6(std::string_view(bind) == "::1"),
        socket([bind] {
          udp::SocketOptions options;
          options.bind = bind;
          return options;
        }()),
        io(udp::make_mmsg_io(socket)) {}
  omerta_address at() const { return v6 ? loopback6(socket.port()) : loopback(socket.port()); }
  void send(const omerta_address& to, const std::vector<uint8_t>& datagram) {
    socket.send_one(to, {}, datagram.data(), datagram.size(), 0);
  }
  /// The sender of the next datagram, which has to have this size. It is waited for as long as wait_for()
  /// does: how soon it comes is the machine's business, and a sanitizer's.
  omerta_address sender_of_next(size_t size) {
    std::optional<omerta_address> sender;
    CounterRow counters;
    wait_for([&] {
      if (!io->wait(100).socket) return false;
      for (const udp::Message& message : io->receive(counters)) {
        if (sender) break;
        CHECK(message.size == size);
        sender = message.from;
      }
      return sender.has_value();
    });
    return sender.value_or(omerta_address{});
  }
  bool v6;
  udp::UdpSocket socket;
  std::unique_ptr<udp::SocketIo> io;
};

bool equal(const omerta_address& a, const omerta_address& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// The relay is known as 127.0.0.5 to one end and as 127.0.0.6 to the other; routing would choose .1.
void frames_leave_from_the_address_the_other_end_talks_to() {
  EngineSettings s = settings(3, 2);
  s.bind = "";
  Engine r(s);
  Client a("127.0.0.1"), b("127.0.0.1"), stranger("127.0.0.1");
  omerta_leg contact{};
  contact.leg_id = OMERTA_CONTACT_LEG;
  contact.action = OMERTA_LEG_CONTROL;
  contact.flags = OMERTA_LEG_ANY_SOURCE;
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, a.at(), b.at(), 22, 2),
                        leg(33, OMERTA_LEG_FORWARD, 3, b.at(), a.at(), 44, 4), contact}));
  const auto known_as = [&](uint8_t last) {
    omerta_address address = loopback(r.port());
    address.ip[15] = last;
    return address;
  };
  const auto chosen_by_routing = known_as(1);
  b.send(known_as(6), frame_on(33, 3, 100));
  CHECK(equal(a.sender_of_next(100), chosen_by_routing));  // nothing came from A yet
  // No interface has these addresses: a timer finds out that there is a choice, and then it is remembered.
  CHECK(wait_for([&] {
    a.send(known_as(5), frame_on(11, 1, 100));
    const bool to_b = equal(b.sender_of_next(100), known_as(6));
    b.send(known_as(6), frame_on(33, 3, 100));
    return equal(a.sender_of_next(100), known_as(5)) && to_b;
  }));
  for (int i = 0; i < 3; i++) {
    a.send(known_as(5), frame_on(11, 1, 100));
    CHECK(equal(b.sender_of_next(100), known_as(6)));
    b.send(known_as(6), frame_on(33, 3, 100));
    CHECK(equal(a.sender_of_next(100), known_as(5)));
  }
  // A wrong tag teaches nothing; talking to another address does.
  a.send(known_as(9), frame_on(11, 9, 100));
  CHECK(wait_for([&] { return dropped(r, OMERTA_DROP_BAD_TAG) == 1; }));
  CHECK(wait_for([&] { return r.refused(11) == 1; }));
  CHECK(r.refused(33) == 0);
  b.send(known_as(7), frame_on(33, 3, 100));
  CHECK(equal(a.sender_of_next(100), known_as(5)));
  a.send(known_as(5), frame_on(11, 1, 100));
  CHECK(equal(b.sender_of_next(100), known_as(7)));
  // A stranger is answered from the address it asked at, and that changes the path of no session.
  stranger.send(known_as(8), frame_on(OMERTA_CONTACT_LEG, 0, 128, OMERTA_KIND_ADMISSION_REQUEST));
  a.send(known_as(8), frame_on(OMERTA_CONTACT_LEG, 0, 128, OMERTA_KIND_ADMISSION_REQUEST));
  CHECK(wait_for([&] { return total(r, Counter::control_frames) == 2; }));
  r.send_frame(stranger.at(), Bytes(frame_on(1, 1, 80)));
  CHECK(equal(stranger.sender_of_next(80), known_as(8)));
  r.send_frame(a.at(), Bytes(frame_on(1, 1, 80)));
  CHECK(equal(a.sender_of_next(80), known_as(5)));
}

/// Datagrams that arrive as one message part at the relay: by destination, by leg, where one is dropped, and
/// where the worker stops to judge what it has. What goes one way stays in order and whole.
void a_coalesced_message_parts_where_its_datagrams_do() {
  Engine r(settings(3));
  Client a("127.0.0.1"), b("127.0.0.1"), c("127.0.0.1");
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, a.at(), b.at(), 22, 2),
                        leg(12, OMERTA_LEG_FORWARD, 1, a.at(), b.at(), 24, 4),
                        leg(13, OMERTA_LEG_FORWARD, 1, a.at(), c.at(), 26, 6)}));
  // B by two legs, C, and a wrong tag; each message ends with a shorter datagram.
  constexpr std::string_view kWays = "bbbbbbbBBb!bbbcccbcbcbb!!BcccccBBBBBBBBbbbbbb";
  constexpr size_t kMessages = 20, kSize = 200, kLastSize = 90, kNumberAt = 40;
  struct Arrival {
    uint32_t number, leg;
    size_t size;
    bool operator==(const Arrival&) const = default;
  };
  std::vector<Arrival> for_b, for_c;
  std::vector<std::vector<uint8_t>> messages(kMessages);
  udp::SendBatch batch(a.socket.gso());
  size_t bytes = 0;
  uint32_t number = 0;
  for (std::vector<uint8_t>& message : messages) {
    for (size_t i = 0; i < kWays.size(); i++, number++) {
      const size_t size = i + 1 == kWays.size() ? kLastSize : kSize;
      const char way = kWays[i];
      std::vector<uint8_t> frame = frame_on(way == 'B'   ? 12
                                            : way == 'c' ? 13
                                                         : 11,
                                            way == '!' ? 99 : 1, size);
      store(frame.data() + kNumberAt, number);
      message.insert(message.end(), frame.begin(), frame.end());
      if (way == 'b') for_b.push_back({number, 22, size});
      if (way == 'B') for_b.push_back({number, 24, size});
      if (way == 'c') for_c.push_back({number, 26, size});
      if (way != '!') bytes += size;
    }
    CHECK(batch.append(loopback(r.port()), {}, message.data(), message.size(), kSize, 0) == message.size());
  }
  CounterRow counters;
  a.io->flush(batch, counters);
  const auto all_came_to = [&](Client& client, const std::vector<Arrival>& expected) {
    std::vector<Arrival> arrived;
    return wait_for([&] {
             for (const udp::Message& message : client.io->receive(counters))
               for (size_t at = 0; at < message.size; at += message.segment)
                 arrived.push_back({load<uint32_t>(message.data + at + kNumberAt),
                                    load<uint32_t>(message.data + at + 4),
                                    std::min(message.segment, message.size - at)});
             client.io->release();
             return arrived.size() >= expected.size();
           }) &&
           arrived == expected;
  };
  CHECK(all_came_to(b, for_b));
  CHECK(all_came_to(c, for_c));
  CHECK(total(r, Counter::forwarded_packets) == for_b.size() + for_c.size());
  CHECK(total(r, Counter::forwarded_bytes) == bytes);
  CHECK(dropped(r, OMERTA_DROP_BAD_TAG) == number - for_b.size() - for_c.size());
}

/// Frames from one client to the other pass, for longer than a trial of UDP GRO takes; it was not given up.
void forwards_with_gro(Engine& r, Client& a, Client& b) {
  for (int i = 0; i < 100; i++) {
    a.send(loopback(r.port()), frame_on(11, 1, 200));
    CHECK(equal(b.sender_of_next(200), loopback(r.port())));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(r.accelerators().state(Accelerator::udp_gro) == AcceleratorState::on);
  CHECK(total(r, Counter::accelerators_demoted) == 0);
}

/// Coalesced garbage of all kinds from an address nobody knows, then good frames alone, longer than a trial
/// takes.
void garbage_of_strangers_has_no_offload_given_up() {
  Engine r(settings(3));
  Client a("127.0.0.1"), b("127.0.0.1"), stranger("127.0.0.1");
  omerta_leg contact{};
  contact.leg_id = OMERTA_CONTACT_LEG;
  contact.action = OMERTA_LEG_CONTROL;
  contact.flags = OMERTA_LEG_ANY_SOURCE;
  r.set_peers({peer(1, std::nullopt)});
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, a.at(), b.at(), 22, 2), contact}));
  constexpr size_t kSize = 100, kOfAKind = 60;
  std::vector<uint8_t> transport(kSize);
  transport[0] = 4;
  store(transport.data() + 4, uint32_t{77});
  CounterRow counters;
  udp::SendBatch batch(stranger.socket.gso());
  std::vector<std::vector<uint8_t>> messages;
  for (const std::vector<uint8_t>& kind :
       {transport, std::vector<uint8_t>(kSize, 0x99), frame_on(12, 1, kSize), frame_on(11, 1, kSize),
        frame_on(OMERTA_CONTACT_LEG, 9, kSize, OMERTA_KIND_CONTACT)}) {
    std::vector<uint8_t>& message = messages.emplace_back();
    for (size_t i = 0; i < kOfAKind; i++) message.insert(message.end(), kind.begin(), kind.end());
    CHECK(batch.append(loopback(r.port()), {}, message.data(), message.size(), kSize, 0) == message.size());
  }
  stranger.io->flush(batch, counters);
  for (const omerta_drop_reason reason :
       {OMERTA_DROP_UNKNOWN_PROTOCOL, OMERTA_DROP_UNKNOWN_LEG, OMERTA_DROP_WRONG_SOURCE, OMERTA_DROP_BAD_TAG})
    CHECK(wait_for([&] { return dropped(r, reason) == kOfAKind; }));
  forwards_with_gro(r, a, b);
}

void one_client_has_no_offload_given_up_by_bad_frames_of_its_own() {
  Engine r(settings(3));
  Client a("127.0.0.1"), b("127.0.0.1");
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, a.at(), b.at(), 22, 2)}));
  constexpr size_t kSize = 100, kBad = 60;
  std::vector<uint8_t> message;
  for (size_t i = 0; i < kBad; i++) {
    const std::vector<uint8_t> frame = frame_on(11, 9, kSize);  // a wrong key
    message.insert(message.end(), frame.begin(), frame.end());
  }
  CounterRow counters;
  udp::SendBatch batch(a.socket.gso());
  CHECK(batch.append(loopback(r.port()), {}, message.data(), message.size(), kSize, 0) == message.size());
  a.io->flush(batch, counters);
  CHECK(wait_for([&] { return dropped(r, OMERTA_DROP_BAD_TAG) == kBad; }));
  forwards_with_gro(r, a, b);
}

void a_worker_measures_how_long_frames_are_in_the_box_and_how_full_its_queue_is() {
  EngineSettings s = settings(3);
  Engine r(s);
  Client a("127.0.0.1"), b("127.0.0.1");
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, a.at(), b.at(), 22, 2)}));
  const Instruments& instruments = r.instruments()[0];
  const auto samples = [&] {
    uint64_t sum = 0;
    for (size_t i = 0; i < Instruments::kBuckets; i++)
      sum += instruments.get(Instruments::kLatencyBuckets + i);
    return sum;
  };
  CHECK(wait_for([&] {
    a.send(loopback(r.port()), frame_on(11, 1, 100));
    b.sender_of_next(100);
    return samples() >= 2;
  }));
  CHECK(samples() < total(r, Counter::forwarded_packets));
  const uint64_t sum = instruments.get(Instruments::kLatencySum);
  CHECK(sum > 1000 * samples() && sum < kSecond * samples());
  // A ring has taken the datagrams out of the queue when the worker wakes.
  CHECK(instruments.get(Instruments::kReceiveQueuePeak) > 0 || wanted_io == udp::IoWanted::io_uring);
  CHECK(r.queues().size() == 1 && r.queues()[0].receive == 0);
  CHECK(r.queues()[0].receive_limit >= 2 * static_cast<uint32_t>(r.socket()->receive_buffer_bytes()));
  r.close();
  CHECK(r.queues().empty());
}

void a_latency_is_counted_in_the_bucket_that_holds_it() {
  Instruments instruments;
  const auto bucket = [&](size_t i) { return instruments.get(Instruments::kLatencyBuckets + i); };
  for (const uint64_t ns : {0, 1, 1024}) instruments.latency(ns);
  for (const uint64_t ns : {1025, 2048}) instruments.latency(ns);
  instruments.latency(uint64_t{1} << 30);
  instruments.latency((uint64_t{1} << 30) + 1);
  instruments.latency(UINT64_MAX >> 1);
  CHECK(bucket(0) == 3 && bucket(1) == 2 && bucket(2) == 0);
  CHECK(bucket(20) == 1 && bucket(21) == 2);
}

void a_circuit_joins_ipv4_and_ipv6() {
  EngineSettings s = settings(3);
  s.bind = "";
  Engine r(s);
  Client a("127.0.0.1"), b("::1");
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, a.at(), b.at(), 22, 2),
                        leg(33, OMERTA_LEG_FORWARD, 3, b.at(), a.at(), 44, 4)}));
  for (const size_t size : {size_t{64}, size_t{1300}, size_t{9000}}) {
    a.send(loopback(r.port()), frame_on(11, 1, size));
    CHECK(equal(b.sender_of_next(size), loopback6(r.port())));
    b.send(loopback6(r.port()), frame_on(33, 3, size));
    CHECK(equal(a.sender_of_next(size), loopback(r.port())));
  }
  CHECK(total(r, Counter::tx_errors) == 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  with_each_io([] {
    RUN(a_circuit_carries_a_session_while_its_table_changes);
    RUN(a_relay_tells_on_the_congestion_it_was_told_of);
    RUN(frames_leave_from_the_address_the_other_end_talks_to);
    RUN(a_circuit_joins_ipv4_and_ipv6);
    RUN(a_coalesced_message_parts_where_its_datagrams_do);
    RUN(garbage_of_strangers_has_no_offload_given_up);
    RUN(one_client_has_no_offload_given_up_by_bad_frames_of_its_own);
    RUN(a_worker_measures_how_long_frames_are_in_the_box_and_how_full_its_queue_is);
    RUN(a_latency_is_counted_in_the_bucket_that_holds_it);
  });
  return omerta::check::finish();
}
