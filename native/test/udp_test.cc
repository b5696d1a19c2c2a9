// SPDX-License-Identifier: Apache-2.0
// The send batch: datagrams for several destinations, mixed and of any size, arrive whole, once, and in
// order for each destination, whether the kernel segments or not.
#include <sodium.h>

#include <chrono>
#include <thread>
#include <vector>

#include "check.h"
#include "loopback.h"
#include "udp/socket_io.h"

namespace {

using namespace omerta;
using namespace omerta::udp;
using omerta::check::loopback;

SocketOptions options(bool gso) {
  SocketOptions o;
  o.bind = "127.0.0.1";
  o.gso = gso;
  return o;
}

using Datagrams = std::vector<std::vector<uint8_t>>;

Datagrams receive_all(SocketIo& io, size_t wanted) {
  CounterRow counters;
  Datagrams out;
  for (int idle = 0; out.size() < wanted && idle < 200;) {
    const auto messages = io.receive(counters);
    if (messages.empty()) {
      idle++;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (const Message& message : messages)
      for (size_t at = 0; at < message.size; at += message.segment)
        out.emplace_back(message.data + at, message.data + std::min(at + message.segment, message.size));
  }
  return out;
}

/// Sends `count` datagrams of sizes by `size_of` to random destinations; returns the system calls it took.
template <class SizeOf>
uint64_t exchange(bool gso, bool gro, size_t count, size_t destinations, SizeOf size_of) {
  UdpSocket sender(options(gso));
  const auto sender_io = make_mmsg_io(sender);
  std::vector<std::unique_ptr<UdpSocket>> receivers;
  std::vector<std::unique_ptr<SocketIo>> receiver_ios;
  for (size_t i = 0; i < destinations; i++) {
    SocketOptions o = options(true);
    o.gro = gro;
    receivers.push_back(std::make_unique<UdpSocket>(o));
    receiver_ios.push_back(make_mmsg_io(*receivers.back()));
  }
  SendBatch send(sender.gso());
  CounterRow counters;
  std::vector<Datagrams> sent(destinations);
  Datagrams memory;  // lies where the allocator puts it: nothing is back to back by intent
  memory.reserve(count);
  for (size_t i = 0; i < count; i++) {
    const size_t to = randombytes_uniform(static_cast<uint32_t>(destinations));
    std::vector<uint8_t> datagram(size_of());
    randombytes_buf(datagram.data(), datagram.size());
    sent[to].push_back(datagram);
    memory.push_back(std::move(datagram));
    const auto add = [&] {
      const size_t size = memory.back().size();
      return send.append(loopback(receivers[to]->port()), {}, memory.back().data(), size, size, 0) == size;
    };
    if (!add()) {
      sender_io->flush(send, counters);
      CHECK(send.empty() && add());
    }
  }
  sender_io->flush(send, counters);
  CHECK(counters.get(Counter::tx_datagrams) == count);
  CHECK(counters.get(Counter::tx_errors) == 0);
  for (size_t i = 0; i < destinations; i++) CHECK(receive_all(*receiver_ios[i], sent[i].size()) == sent[i]);
  return counters.get(Counter::tx_batches);
}

void mixed_destinations_get_their_datagrams_whole_and_in_order() {
  for (const bool gso : {true, false})
    for (const bool gro : {true, false}) {
      exchange(gso, gro, 600, 5, [] { return size_t{200}; });
      exchange(gso, gro, 600, 3, [] { return 1 + randombytes_uniform(1400); });
      exchange(gso, gro, 600, 1, [] { return randombytes_uniform(2) == 0 ? size_t{1300} : size_t{90}; });
    }
}

void more_destinations_than_places_still_keep_their_order() {
  exchange(true, true, 2000, 200, [] { return size_t{64} + 16 * randombytes_uniform(3); });
}

void datagrams_of_one_size_to_few_destinations_take_few_system_calls() {
  const uint64_t gathered = exchange(true, true, 256, 4, [] { return size_t{100}; });
  const uint64_t alone = exchange(false, true, 256, 4, [] { return size_t{100}; });
  CHECK(gathered == 1);
  CHECK(alone == 4);  // 64 messages a call
}

/// Sends runs of datagrams that lie back to back, of one size but for the last.
void runs_are_sent_whole_whatever_their_length_and_size() {
  for (const bool gso : {true, false})
    for (const size_t segment : {size_t{1}, size_t{100}, size_t{1452}, size_t{9032}, size_t{40000}}) {
      UdpSocket sender(options(gso)), receiver(options(true));
      const auto sender_io = make_mmsg_io(sender), receiver_io = make_mmsg_io(receiver);
      SendBatch send(sender.gso());
      CounterRow counters;
      std::vector<uint8_t> memory(std::min<size_t>(segment * 150, 700000));
      randombytes_buf(memory.data(), memory.size());
      Datagrams sent;
      size_t at = 0;
      while (at < memory.size()) {
        // Runs of 1, 2, … datagrams, with a shorter one at the end of every second.
        const size_t run = sent.size() % 40 + 1;
        const size_t bytes =
            std::min(segment * run - (run % 2 == 0 && segment > 1 ? segment / 2 : 0), memory.size() - at);
        for (size_t from = 0; from < bytes; from += segment)
          sent.emplace_back(memory.data() + at + from, memory.data() + at + std::min(from + segment, bytes));
        size_t added = 0;
        while ((added += send.append(loopback(receiver.port()), {}, memory.data() + at + added, bytes - added,
                                     segment, 0)) < bytes)
          sender_io->flush(send, counters);
        at += bytes;
      }
      sender_io->flush(send, counters);
      CHECK(counters.get(Counter::tx_datagrams) == sent.size());
      CHECK(counters.get(Counter::tx_errors) == 0);
      CHECK(receive_all(*receiver_io, sent.size()) == sent);
    }
}

/// Sends `datagrams` of 100 bytes, the traffic class of each by `class_of`; returns the ECN of each on
/// arrival.
template <class ClassOf>
std::vector<uint8_t> ecn_after(const char* bind, bool gso, size_t datagrams, size_t& received,
                               ClassOf class_of) {
  SocketOptions o = options(gso);
  o.bind = bind;
  UdpSocket sender(o), receiver(o);
  const auto sender_io = make_mmsg_io(sender), receiver_io = make_mmsg_io(receiver);
  omerta_address to = loopback(receiver.port());
  if (o.bind == "::1") {
    to = {};
    to.ip[15] = 1;
    to.port = loopback(receiver.port()).port;
  }
  SendBatch send(sender.gso());
  CounterRow counters;
  std::vector<uint8_t> memory(datagrams * 100);
  for (size_t i = 0; i < datagrams; i++) {
    memory[i * 100] = static_cast<uint8_t>(i);
    CHECK(send.append(to, {}, memory.data() + i * 100, 100, 100, class_of(i)) == 100);
  }
  sender_io->flush(send, counters);
  std::vector<uint8_t> out;
  for (int idle = 0; out.size() < datagrams && idle < 200;) {
    const auto messages = receiver_io->receive(counters);
    if (messages.empty()) {
      idle++;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    received += messages.size();
    for (const Message& message : messages)
      for (size_t at = 0; at < message.size; at += message.segment) {
        CHECK(message.data[at] == out.size());  // in order
        out.push_back(message.ecn);
      }
  }
  CHECK(counters.get(Counter::tx_errors) == 0);
  return out;
}

void each_datagram_arrives_with_its_own_ecn() {
  for (const char* bind : {"127.0.0.1", "::1"})
    for (const bool gso : {true, false}) {
      size_t messages = 0;
      const auto each =
          ecn_after(bind, gso, 40, messages, [](size_t i) { return static_cast<uint8_t>(i % 4); });
      for (size_t i = 0; i < each.size(); i++) CHECK(each[i] == i % 4);
      CHECK(each.size() == 40 && messages == 40);
      messages = 0;
      // Runs of one kind still share a message; DSCP does not hide the field.
      const auto runs =
          ecn_after(bind, gso, 60, messages, [](size_t i) { return static_cast<uint8_t>(0x88 | i / 20); });
      for (size_t i = 0; i < runs.size(); i++) CHECK(runs[i] == i / 20);
      CHECK(runs.size() == 60 && messages == (gso ? 3 : 60));
    }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  RUN(mixed_destinations_get_their_datagrams_whole_and_in_order);
  RUN(more_destinations_than_places_still_keep_their_order);
  RUN(datagrams_of_one_size_to_few_destinations_take_few_system_calls);
  RUN(runs_are_sent_whole_whatever_their_length_and_size);
  RUN(each_datagram_arrives_with_its_own_ecn);
  return omerta::check::finish();
}
